"""From `kubectl apply` to a tenant's first answer, and what the tenant's developer meets at the endpoint."""

import time

import openai
import pytest

from tests.e2e.world import ANSWER, HELLO, MODEL, Access, World, answers, until

#: Seconds from applying a Tenant to its first answered request, with images on the nodes.
FIRST_ANSWER = 10.0

#: A body over the 20 MiB that a policy allows by default.
TOO_LARGE = "a" * (21 * 1024 * 1024)


def test_a_tenant_gets_its_first_answer_within_ten_seconds(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with world.tenant("swift"):
        world.wait_ready("swift")
        ready = time.monotonic() - began
        access = world.access("swift")
        until(lambda: answers(access), "the endpoint answers", pause=0.02)
        answered = time.monotonic() - began
    with capsys.disabled():
        print(f"\nTenant applied -> Ready {ready:.1f} s -> first answer {answered:.1f} s")
    assert answered <= FIRST_ANSWER


def test_the_sdk_gets_an_answer_a_stream_and_the_models(acme: Access) -> None:
    with acme.sdk() as sdk:
        answer = sdk.chat.completions.create(model=MODEL, messages=HELLO)
        stream = sdk.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        models = {model.id for model in sdk.models.list()}
    assert answer.choices[0].message.content == ANSWER
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 2 + 10
    assert MODEL in models
    assert not {name for name in models if not name.startswith("gpt-")}


def test_a_wrong_key_is_an_authentication_error(acme: Access) -> None:
    wrong = acme.key[:-1] + ("A" if acme.key[-1] != "A" else "B")
    with acme.sdk(api_key=wrong) as sdk, pytest.raises(openai.AuthenticationError) as caught:
        sdk.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "invalid_api_key"


def test_a_missing_key_is_an_authentication_error(acme: Access) -> None:
    with acme.sdk() as sdk, pytest.raises(openai.AuthenticationError):
        sdk.chat.completions.create(model=MODEL, messages=HELLO, extra_headers={"Authorization": openai.Omit()})


def test_a_model_that_is_not_allowed_is_not_found(acme: Access) -> None:
    with acme.sdk() as sdk, pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="o3", messages=HELLO)
    assert caught.value.code == "model_not_found"


def test_a_body_that_is_not_json_is_a_bad_request(acme: Access) -> None:
    with acme.sdk() as sdk, pytest.raises(openai.BadRequestError):
        sdk.post("/chat/completions", cast_to=object, content=b"{not json")


def test_a_body_over_the_limit_is_refused_as_too_large(acme: Access) -> None:
    with acme.sdk() as sdk, pytest.raises(openai.APIStatusError) as caught:
        sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": TOO_LARGE}])
    assert caught.value.status_code == 413


def test_kubectl_shows_what_a_platform_engineer_looks_for(world: World, acme: Access) -> None:
    head, *_ = world.kubectl("get", "tenants").splitlines()
    assert head.split() == ["NAME", "TIER", "READY", "REASON", "ENDPOINT", "SPEND", "AGE"]

    def shown() -> bool:
        row = next(row for row in world.kubectl("get", "tenants").splitlines() if row.startswith("acme "))
        return row.split()[:5] == ["acme", "standard", "True", "Ready", acme.endpoint]

    until(shown, "acme's row says all of that")
    assert world.kubectl("get", "ten").splitlines()[0] == head


def test_deleting_a_tenant_leaves_nothing(world: World) -> None:
    with world.tenant("brief", exposed=False):
        world.wait_ready("brief")
        world.kubectl("delete", "tenant", "brief", "--wait", "--timeout=180s")
        until(lambda: not world.exists("namespace", "tenant-brief"), "the namespace is gone")
        kinds = world.kubectl("api-resources", "--namespaced=false", "--verbs=list", "--output=name").split()
        selector = "--selector=tenantry.dev/tenant=brief"

        def nothing() -> bool:
            return world.kubectl("get", ",".join(kinds), selector, "--output=name").strip() == ""

        until(nothing, "nothing outside of the namespace is left")
