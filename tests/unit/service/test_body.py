"""Estimates of requests, and the bodies that upstreams get."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_service import pricing
from tenantry_service.errors import ApiError
from tenantry_service.policy import Limits, Models, Rates
from tenantry_service.pricing import Usage
from tenantry_service.proxy import body as bodies
from tenantry_service.proxy.body import Estimate
from tenantry_service.proxy.shapes import Chat
from tenantry_service.proxy.snapshot import Target

from tests.unit.service.playbook import chat_body, policy, snapshot


def target(model: str = "gpt-4o-mini", served: str | None = None) -> Target:
    models = Models(aliases={} if served is None else {model: served})
    found = snapshot(policy(models=models)).views[0].find(model)
    assert isinstance(found, Target)
    return found


def chat(body: bytes) -> Chat:
    found = bodies.inspect_chat(body)
    assert isinstance(found, Chat)
    return found


def upstream(chat: Chat, body: bytes, where: Target) -> bytes:
    sent = bodies.upstream_body(chat, body, where)
    assert isinstance(sent, bytes)
    return sent


def estimate(body: bytes, limits: Limits | None = None, model: str = "gpt-4o-mini") -> Estimate:
    return bodies.estimate(chat(body), body, target(model), limits or Limits())


def test_text_counts_a_token_per_three_bytes_and_the_declared_output() -> None:
    body = chat_body(max_tokens=100)
    assert estimate(body).demand.tokens == -(-len(body) // 3) + 100
    assert estimate(chat_body(max_completion_tokens=100, max_tokens=7, n=3)).demand.tokens > 300


def test_money_is_reckoned_with_the_most_that_can_happen() -> None:
    body = chat_body()
    # What the priority tier costs: the answer says which one it was.
    assert estimate(body).demand.nano_usd == len(body) * 250 + 16_384 * 1000
    assert (
        estimate(chat_body(max_tokens=9), model="gpt-4o-mini").demand.nano_usd
        == len(chat_body(max_tokens=9)) * 250 + 9000
    )
    assert estimate(chat_body(max_tokens=10**9)).demand.nano_usd < 17_000 * 1000


def test_a_request_without_a_cap_still_fits_into_a_small_limit() -> None:
    assert estimate(chat_body(), Limits(tokens_per_minute=200)).demand.tokens <= 200
    assert estimate(chat_body()).demand.tokens >= 1024


def test_a_cap_of_an_unknown_model_is_taken_at_its_word() -> None:
    assert estimate(chat_body(model="home-made", max_tokens=500_000), model="home-made").demand.tokens > 500_000


def test_an_embedded_image_counts_as_an_image_and_not_as_its_bytes() -> None:
    image = base64.b64encode(bytes(range(256)) * 4096).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
    found = estimate(chat_body(messages=[{"role": "user", "content": [part]}], max_tokens=1))
    assert 1_500 < found.demand.tokens < 20_000


@given(
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.none(), max_size=5),
    st.booleans() | st.none(),
    st.sampled_from([None, {"include_usage": True}, {"include_usage": False}, {"include_obfuscation": False}, {}]),
    st.booleans(),
)
def test_only_what_must_change_changes(
    others: dict[str, object], stream: bool | None, options: dict[str, bool] | None, alias: bool
) -> None:
    fields = {**others, "model": "gpt-4o-mini", "stream": stream, "stream_options": options}
    for name in ("max_tokens", "max_completion_tokens", "n"):
        fields.pop(name, None)
    body = json.dumps(fields).encode()
    where = target(served="gpt-4o") if alias else target()
    sent = json.loads(upstream(chat(body), body, where))
    expected = {**fields, "model": where.served}
    if stream and not (options or {}).get("include_usage"):
        expected["stream_options"] = {**(options or {}), "include_usage": True}
    assert sent == expected
    if expected == fields and b"\\u" not in body:
        assert bodies.upstream_body(chat(body), body, where) is body


@given(st.binary(max_size=200))
def test_no_bytes_make_the_inspection_fail_otherwise_than_by_400(body: bytes) -> None:
    found = bodies.inspect_chat(body)
    assert isinstance(found, Chat) or (isinstance(found, ApiError) and found.status == 400)


@pytest.mark.parametrize("value", ["null", "5", '"x"', "[]"])
def test_stream_options_of_another_kind_are_refused_or_ignored_but_never_crash(value: str) -> None:
    body = f'{{"model":"m","stream":true,"stream_options":{value}}}'.encode()
    found = bodies.inspect_chat(body)
    if isinstance(found, Chat):
        assert json.loads(upstream(found, body, target()))["stream_options"] == {"include_usage": True}
    else:
        assert found.param == "stream_options"


@given(
    st.lists(st.sampled_from(["text", "image", "data", "file", "audio"]), max_size=6),
    st.none() | st.integers(0, 200_000),
    st.integers(1, 3),
    st.sampled_from(["gpt-4o-mini", "gpt-4o", "own-priced", "nobody-knows"]),
)
def test_no_usage_that_a_body_can_cause_costs_more_than_is_reserved(
    kinds: list[str], cap: int | None, answers: int, model: str
) -> None:
    parts: dict[str, object] = {
        "text": {"type": "text", "text": "x" * 3000},
        "image": {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        "data": {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}},
        "file": {"type": "file", "file": {"file_id": "file-1"}},
        "audio": {"type": "input_audio", "input_audio": {"data": "B" * 5000, "format": "mp3"}},
    }
    content = [parts[kind] for kind in kinds]
    fields: dict[str, object] = {"model": model, "n": answers, "messages": [{"role": "user", "content": content}]}
    body = chat_body(**fields) if cap is None else chat_body(**fields, max_tokens=cap)
    prices = {"own-priced": Rates(input=10**9, output=10**10)}
    where = snapshot(policy(prices=prices)).views[0].find(model)
    assert isinstance(where, Target)
    # What the models' pages say: an image up to 48,169 tokens, a file up to the context, text a token per byte at most.
    media = sum(kind in ("image", "data", "audio") for kind in kinds) * 48_169 + kinds.count("file") * 128_000
    most = cap if cap is not None and model in ("own-priced", "nobody-knows") else where.price.max_output
    output = answers * (most if cap is None else min(cap, most))
    worst = Usage(input=len("x" * 3000) * kinds.count("text") + media, output=output)
    reserved = bodies.estimate(chat(body), body, where, Limits()).demand.nano_usd
    assert reserved >= pricing.price(worst, where.price.rates)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o","model":"gpt-4o-mini"}',
        b'{"mod\\u0065l":"gpt-4o-mini","x":1}',
        b'{"model":"gpt-4o-mini","stream":true,"stream\\u005foptions":{"include_usage":false}}',
    ],
)
def test_what_two_parsers_could_read_differently_is_written_as_we_read_it(body: bytes) -> None:
    sent = bodies.upstream_body(chat(body), body, target())
    assert isinstance(sent, bytes)
    assert sent.count(b'"model":"gpt-4o-mini"') == sent.count(b"model") == 1
    assert b"\\u" not in sent
    assert b"false" not in sent


def test_looking_for_hidden_keys_takes_linear_time() -> None:
    body = b'{"model":"gpt-4o-mini","x":"%b"}' % (b"\\u4e2d" * 300_000)
    assert bodies.upstream_body(chat(body), body, target()) is body


def test_a_model_name_has_a_length() -> None:
    found = bodies.inspect_chat(chat_body(model="m" * 257))
    assert isinstance(found, ApiError)
    assert found.param == "model"
