"""What a developer's key opens, and from when on it no longer does, on every pod of the tenant."""

import base64
import time
from datetime import UTC, datetime, timedelta

import openai
import pytest

from tests.e2e.world import ANSWER, HELLO, MODEL, Access, World, answers, namespace, tenant, until

#: Seconds that a former key works on in these tests: a busy machine is to see some of them.
GRACE = 30
#: Seconds within which a revoked key is refused everywhere.
REVOKED_WITHIN = 5.0
#: What says nothing of a key: nobody answers, or Redis does not answer the pod.
NOTHING = (None, "limits_unavailable")


def test_a_rotated_key_works_beside_the_former_one_until_the_grace_ends(world: World) -> None:
    rotation = {"name": "default", "gracePeriod": f"{GRACE}s"}
    with world.tenant("rotating", keys=[rotation]) as applied:
        former = ready(world, "rotating")
        began = time.monotonic()
        world.apply(changed(applied, keys=[rotation | {"rotation": 1}]))
        until(lambda: shown(world, "rotating") != former.key, "the Secret shows a new key", pause=0.05)
        current = Access(former.endpoint, shown(world, "rotating"))
        until(lambda: asked(current) == ANSWER, "the new key opens the door", pause=0.05)
        assert said(former) == ANSWER
        assert time.monotonic() - began < GRACE - 1, "the machine was too slow to see the grace period"
        until(lambda: said(former) != ANSWER, "the former key is refused", pause=0.2)
        assert time.monotonic() - began >= GRACE
        assert said(current) == ANSWER
        until(lambda: "KeyRotated" in world.kubectl("describe", "tenant", "rotating"), "an Event tells of it")


@pytest.mark.parametrize("how", ["rotated without grace", "taken out of the spec"])
def test_a_revoked_key_is_refused_by_every_pod_within_five_seconds(
    world: World, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    scaled = {"minReplicas": 2, "maxReplicas": 2}
    keys = [{"name": "default", "gracePeriod": "0s"}, {"name": "other"}]
    with world.tenant("revoking", keys=keys, autoscaling=scaled) as applied:
        leaked = ready(world, "revoking")
        until(lambda: all_ready(world, "revoking", 2), "both pods are ready")
        other = Access(leaked.endpoint, shown(world, "revoking", "other"))
        left = [keys[0] | {"rotation": 1}, keys[1]] if how == "rotated without grace" else keys[1:]
        world.apply(changed(applied, keys=left))
        began = last = time.monotonic()
        while time.monotonic() - began < REVOKED_WITHIN + 2:  # on new connections: any pod may take them
            sent = time.monotonic()  # what the client's own machine takes for an answer is not the pods'
            if asked(leaked) == ANSWER:
                last = sent
        with capsys.disabled():
            print(f"\nkey {how}: applied -> last time that a pod took it {last - began:.2f} s")
        assert last - began <= REVOKED_WITHIN
        assert said(leaked) == "invalid_api_key"
        assert said(other) == ANSWER
        gone = how == "taken out of the spec"
        secret = ("secret", "key-default", "--namespace", namespace("revoking"))
        until(lambda: world.exists(*secret) is not gone, "its Secret is gone" if gone else "its Secret is there")


def test_a_key_is_refused_from_the_second_of_its_end(world: World) -> None:
    with world.tenant("ending") as applied:
        access = ready(world, "ending")
        end = (datetime.now(UTC) + timedelta(seconds=25)).replace(microsecond=0)
        world.apply(changed(applied, keys=[{"name": "default", "expiresAt": end.isoformat()}]))
        taken = datetime.now(UTC)
        assert said(access) == ANSWER

        def refused() -> bool:
            nonlocal taken
            sent = datetime.now(UTC)
            heard = asked(access)
            taken = sent if heard == ANSWER else taken
            return heard not in (ANSWER, *NOTHING)

        until(refused, "it is refused", pause=0.05)
        assert datetime.now(UTC) >= end
        # By when the last request was sent that was answered: a client that stands still hears of the end late.
        assert taken - end < timedelta(seconds=2)
        assert said(access) == "expired_api_key"


def ready(world: World, name: str) -> Access:
    """Wait until the tenant's endpoint answers to its key."""
    world.wait_ready(name)
    access = world.access(name)
    until(lambda: answers(access), "the endpoint answers", pause=0.05)
    return access


def changed(applied: dict[str, object], **spec: object) -> dict[str, object]:
    """The manifest that was applied, with this in its spec."""
    before = applied["spec"]
    assert isinstance(before, dict)
    metadata = applied["metadata"]
    assert isinstance(metadata, dict)
    return tenant(metadata["name"], None, **{**before, **spec})


def shown(world: World, name: str, key: str = "default") -> str:
    """The key that the Secret shows."""
    secret = world.get("secret", f"key-{key}", "--namespace", namespace(name))
    return base64.b64decode(secret["data"]["api-key"]).decode()


def all_ready(world: World, name: str, number: int) -> bool:
    pods = world.pods(name)
    conditions = [each for pod in pods for each in pod["status"].get("conditions", []) if each["type"] == "Ready"]
    ready = [each for each in conditions if each["status"] == "True"]
    return len(pods) == number == len(ready)


def asked(access: Access) -> str | None:
    """The answer to a chat, or the error's code; `None` while nothing answers."""
    try:
        with access.sdk() as sdk:
            return sdk.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content
    except openai.APIConnectionError:
        return None
    except openai.APIStatusError as refused:
        return refused.code


def said(access: Access) -> str | None:
    """The answer to a chat, or the error's code, once a pod says something of the key."""
    heard: str | None = None

    def something() -> bool:
        nonlocal heard
        heard = asked(access)
        return heard not in NOTHING

    until(something, "a pod answers", pause=0.05)
    return heard
