"""Stories of a request, told without a socket."""

import json

import pytest
from tenantry_service import errors
from tenantry_service.errors import ErrorType
from tenantry_service.limits.decisions import Dimension, Refusal, Standing
from tenantry_service.limits.limiter import Unknown
from tenantry_service.policy import Models, UnknownModel
from tenantry_service.pricing import Usage
from tenantry_service.proxy import headers
from tenantry_service.proxy.messages import (
    AbortClient,
    CloseUpstream,
    ContinueReading,
    Gone,
    OpenUpstream,
    Refuse,
    Reserve,
    Settle,
    Timer,
    ToClient,
)

from tests.unit.service.playbook import (
    CREDENTIAL,
    KEY,
    NOW,
    Play,
    chat_body,
    client_gone,
    data,
    end,
    granted,
    head,
    play,
    policy,
    request,
    reserved,
    sent,
    timer,
    upstream_gone,
    upstream_head,
)

ANSWER = b'{"id":"1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
USAGE = Usage(input=7, output=3)
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
CHUNK_1 = b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n'
CHUNK_2 = b'data: {"choices":[{"delta":{"content":"lo"}}],"usage":null}\n\n'
USAGE_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
SSE = "text/event-stream; charset=utf-8"


def waiting(body: bytes = b"", **more: object) -> Play:
    """A chat that has been sent to the upstream."""
    return play(policy(**more)).on(request(body=body or chat_body()), reserved(), sent())  # type: ignore[arg-type]


def streaming(**fields: object) -> Play:
    """A streamed chat whose answer has begun."""
    return waiting(chat_body(stream=True, **fields)).on(upstream_head(200, SSE))


# The good ways.


def test_a_plain_chat_is_reserved_sent_passed_on_and_settled() -> None:
    story = play().on(request(body=chat_body())).wants(Reserve)
    story.on(reserved()).wants(OpenUpstream).on(sent()).wants()
    story.on(upstream_head(200, "application/json", len(ANSWER))).wants()
    story.on(data(ANSWER)).wants(ToClient).on(end()).wants(ToClient, Settle)
    assert story.to_client == ANSWER
    assert story.client_head.content_length == len(ANSWER)
    assert (story.settled.usage, story.settled.exact) == (USAGE, True)
    assert story.settled.raw_usage == b'{"prompt_tokens":7,"completion_tokens":3}'
    assert story.settled.nano_usd == (7 * 150 + 3 * 600)
    assert story.exchange.error_type is ErrorType.NONE


def test_head_and_first_bytes_of_the_answer_leave_together() -> None:
    story = waiting().on(upstream_head(200)).wants().on(data(b"{")).wants(ToClient)
    assert story.client_head.status == 200


def test_a_stream_passes_as_it_comes_and_settles_at_the_upstreams_count() -> None:
    story = streaming(stream_options={"include_usage": True})
    for chunk in (ROLE, CHUNK_1, CHUNK_2, USAGE_CHUNK, DONE):
        story.on(data(chunk)).wants(ToClient)
    story.on(end()).wants(ToClient, Settle)
    assert story.to_client == ROLE + CHUNK_1 + CHUNK_2 + USAGE_CHUNK + DONE
    assert (story.settled.usage, story.settled.exact) == (USAGE, True)


def test_the_usage_chunk_is_asked_for_and_kept_from_callers_who_did_not_ask() -> None:
    story = streaming().on(data(CHUNK_1), data(USAGE_CHUNK + DONE), end())
    assert b'"stream_options":{"include_usage":true}' in story.sent_upstream
    assert story.to_client == CHUNK_1 + DONE
    assert (story.settled.usage, story.settled.exact) == (USAGE, True)


def test_the_original_bytes_go_to_the_upstream_when_nothing_has_to_change() -> None:
    body = b'{ "model":"gpt-4o-mini",  "unknown": [1.50e1, "\\u00e9"], "messages":[] }'
    assert waiting(body).sent_upstream.endswith(b"\r\n\r\n" + body)


def test_an_alias_is_resolved_and_the_rest_of_the_body_keeps_its_bytes() -> None:
    body = b'{"model":"fast","temperature":1.50e0,"messages":[]}'
    story = waiting(body, models=Models(allow=(), aliases={"fast": "gpt-4o-mini"}))
    sent_body = story.sent_upstream.partition(b"\r\n\r\n")[2]
    assert b'"temperature":1.50e0' in sent_body
    assert json.loads(sent_body) == {"model": "gpt-4o-mini", "temperature": 1.5, "messages": []}


def test_other_stream_options_survive_the_request_for_usage() -> None:
    body = streaming(stream_options={"include_obfuscation": False}).sent_upstream.partition(b"\r\n\r\n")[2]
    assert json.loads(body)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_credentials_never_cross() -> None:
    cookies = ((b"cookie", b"a=b"), (b"x-api-key", KEY.encode()), (b"openai-organization", b"org-x"))
    body = chat_body()
    story = play().on(request(head(length=len(body), extra=cookies), body), reserved(), sent())
    assert KEY.encode() not in story.sent_upstream
    assert f"authorization: Bearer {CREDENTIAL}\r\n".encode() in story.sent_upstream
    assert b"cookie" not in story.sent_upstream
    assert b"openai-organization" not in story.sent_upstream
    answer_headers = ((b"set-cookie", b"s=1"), (b"openai-organization", b"org-platform"), (b"x-ratelimit-limit", b"1"))
    story.on(upstream_head(200, "application/json", 2, *answer_headers), data(b"{}"), end())
    assert b"set-cookie" not in story.client_head.lines
    assert b"org-platform" not in story.client_head.lines
    assert b"x-ratelimit" not in story.client_head.lines


def test_hop_by_hop_headers_stop_here_also_those_that_connection_names() -> None:
    hops = ((b"connection", b"close, x-secret-hop"), (b"x-secret-hop", b"1"), (b"te", b"trailers"), (b"x-kept", b"2"))
    body = chat_body()
    story = play().on(request(head(length=len(body), extra=hops), body), reserved())
    assert b"x-secret-hop" not in story.sent_upstream
    assert b"te:" not in story.sent_upstream
    assert b"x-kept: 2\r\n" in story.sent_upstream


def test_hop_by_hop_headers_of_an_upstream_stop_here_as_well() -> None:
    hops = (
        (b"connection", b"keep-alive, x-secret-hop"),
        (b"x-secret-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"trailer", b"x-late"),
        (b"proxy-authenticate", b"Basic"),
        (b"openai-processing-ms", b"12"),
    )
    story = waiting().on(upstream_head(200, "application/json", None, *hops), data(ANSWER), end())
    names = [line.partition(b":")[0] for line in story.client_head.lines.splitlines()]
    assert names == [b"content-type", b"openai-processing-ms", b"x-request-id"]


def test_limits_are_shown_in_openais_headers() -> None:
    standing = Standing(60, 59, 1_000, 1000, 990, 12)
    story = play().on(request(body=chat_body()), reserved(granted(standing=standing)), sent())
    story.on(upstream_head(200), data(ANSWER), end())
    lines = story.client_head.lines
    assert b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n" in lines
    assert b"x-ratelimit-reset-requests: 1s\r\n" in lines
    assert b"x-ratelimit-reset-tokens: 12ms\r\n" in lines


def test_the_model_list_is_what_the_tenant_may_use() -> None:
    models = Models(allow=("gpt-4o*",), aliases={"fast": "gpt-4o-mini"})
    story = play(policy(models=models)).on(request(head("GET", "/v1/models"))).wants(OpenUpstream)
    listed = b'{"object":"list","data":[{"id":"gpt-4o","object":"model"},{"id":"o3","object":"model"}]}'
    story.on(sent(), upstream_head(200, "application/json", len(listed)), data(listed)).wants().on(end())
    assert [model["id"] for model in json.loads(story.to_client)["data"]] == ["gpt-4o", "fast"]
    assert story.client_head.content_length is None


def test_a_model_list_that_is_none_becomes_an_upstream_error() -> None:
    story = play().on(request(head("GET", "/v1/models")), sent(), upstream_head(200), data(b"<html>"), end())
    assert story.refusal.error.status == 502


def test_one_model_is_asked_for_by_its_name_and_an_alias_is_answered_here() -> None:
    allowed = policy(models=Models(allow=("gpt-4o",), aliases={"fast": "gpt-4o"}))
    story = play(allowed).on(request(head("GET", "/v1/models/gpt-4o"))).wants(OpenUpstream)
    assert story.sent_upstream.startswith(b"GET /v1/models/gpt-4o HTTP/1.1\r\n")
    alias = play(allowed).on(request(head("GET", "/v1/models/fast"))).wants(ToClient)
    assert json.loads(alias.to_client)["id"] == "fast"
    other = play(allowed).on(request(head("GET", "/v1/models/o3")))
    assert other.refusal.error.code == "model_not_found"


def test_a_body_is_asked_for_only_from_those_who_may_send_it() -> None:
    assert play().on(request(head(length=10, continues=True))[:1]).wants(ContinueReading)
    refused = play().on(request(head(length=10, continues=True, key="tn_abcdefghijkl_wrong"))[:1])
    assert refused.wants(Refuse).refusal.error.status == 401


# Refusals.


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (None, errors.MISSING_KEY),
        ("", errors.MISSING_KEY),
        ("sk-something", errors.WRONG_KEY),
        ("tn_unknown_0123", errors.WRONG_KEY),
        (KEY[:-1] + "x", errors.WRONG_KEY),
    ],
)
def test_a_missing_or_wrong_key_is_401(key: str | None, error: errors.ApiError) -> None:
    story = play().on(request(head(key=key))[:1]).wants(Refuse)
    assert story.refusal.error is error
    assert story.done


def test_an_expired_key_is_401_from_its_very_second() -> None:
    from datetime import UTC, datetime
    from hashlib import sha256

    from tenantry_service.policy import Key

    digest = sha256(KEY.encode()).hexdigest()
    expiring = Key(id="abcdefghijkl", name="k", sha256=digest, expires_at=datetime.fromtimestamp(NOW, UTC))
    story = play(policy(key=expiring)).on(request()[:1]).wants(Refuse)
    assert story.refusal.error is errors.EXPIRED_KEY


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("POST", "/v1/Chat/completions", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1//chat/completions", 404),
        ("POST", "/v1/chat%2fcompletions", 404),
        ("POST", "/v1/c%68at/completion", 404),
        ("POST", "/v1/x/..%2fchat/completions", 404),
        ("GET", "/v1/files/%2e%2e/models", 404),
        ("GET", "/v1/files/a%2fcontent", 404),
        ("GET", "/v1/organization/users", 404),
        ("CONNECT", "/v1/novelties", 404),
        ("GET", "/v1/models/../files", 404),
        ("GET", "/v1/models/%2e%2e%2ffiles", 404),
        ("PUT", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_unknown_routes_are_refused_in_openais_shape(method: str, path: str, status: int) -> None:
    error = play().on(request(head(method, path))[:1]).wants(Refuse).refusal.error
    assert error.status == status
    assert json.loads(error.body())["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, None, None),
        (b"[]", 400, None, None),
        (b"\xff\xfe", 400, None, None),
        (b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"caf\xe9"}]}', 400, None, None),
        (b"{}", 400, None, "model"),
        (b'{"model":5}', 400, None, "model"),
        (b'{"model":"gpt-4o-mini","max_tokens":"many"}', 400, None, "max_tokens"),
        (b'{"model":"gpt-4o-mini","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, None, None),
        (b'{"model":"not-allowed"}', 404, "model_not_found", "model"),
    ],
)
def test_a_body_that_cannot_be_served_is_refused(body: bytes, status: int, code: str | None, param: str | None) -> None:
    story = play(policy(models=Models(allow=("gpt-4o*",)))).on(request(body=body)).wants(Refuse)
    error = story.refusal.error
    assert (error.status, error.code, error.param) == (status, code, param)


def test_a_model_without_a_price_follows_the_declared_rule() -> None:
    body = chat_body(model="home-made", max_tokens=1)
    refused = play(policy(unknown_model=UnknownModel.REFUSE)).on(request(body=body)).wants(Refuse)
    assert refused.refusal.error.code == "model_not_priced"
    charged = play(policy()).on(request(body=body), reserved(), sent(), upstream_head(200), data(ANSWER), end())
    assert charged.settled.nano_usd == 7 * 2500 + 3 * 10_000


def test_a_body_over_the_limit_is_413_by_its_declaration_or_by_its_bytes() -> None:
    small = policy(max_body_bytes=10)
    assert play(small).on(request(head(length=11))[:1]).wants(Refuse).refusal.error.status == 413
    chunked = play(small).on(request(head(length=None), b"x" * 11)[:2]).wants(Refuse)
    assert chunked.refusal.error.status == 413


def test_draining_and_a_full_ledger_refuse_before_anything_else() -> None:
    body_free = head("GET", "/v1/models")
    draining = play().on(lambda e: e.on_request(head(key=None), NOW, draining=True, ledger_full=False))
    assert draining.refusal.error is errors.DRAINING
    full = play().on(lambda e: e.on_request(head(), NOW, draining=False, ledger_full=True))
    assert full.refusal.error is errors.LEDGER_FULL
    play().on(lambda e: e.on_request(body_free, NOW, draining=False, ledger_full=True)).wants()


@pytest.mark.parametrize(
    ("refusal", "status", "code", "header"),
    [
        (Refusal(Dimension.REQUESTS, 60, 1, 2, Standing()), 429, "rate_limit_exceeded", b"retry-after-ms: 2\r\n"),
        (Refusal(Dimension.TOKENS, 60, 90, None, Standing()), 429, "rate_limit_exceeded", b"x-should-retry: false\r\n"),
        (Refusal(Dimension.BUDGET, 5, 9, 10, Standing()), 429, "insufficient_quota", b"x-should-retry: false\r\n"),
    ],
)
def test_limits_refuse_with_the_exact_wait(refusal: Refusal, status: int, code: str, header: bytes) -> None:
    story = play().on(request(body=chat_body()), reserved(refusal)).wants(Refuse)
    assert (story.refusal.error.status, story.refusal.error.code) == (status, code)
    assert header in story.refusal.lines


def test_an_unknown_limit_is_503_and_not_401_or_429() -> None:
    story = play().on(request(body=chat_body()), reserved(Unknown("redis"))).wants(Refuse)
    assert (story.refusal.error.status, story.refusal.error.code) == (503, "limits_unavailable")
    assert b"\r\nretry-after: " in b"\r\n" + story.refusal.lines


# The upstream fails.


def test_an_unreachable_upstream_is_502_and_costs_nothing() -> None:
    story = play().on(request(body=chat_body()), reserved(), upstream_gone(Gone.UNREACHABLE)).wants(Refuse, Settle)
    assert story.refusal.error.status == 502
    assert (story.settled.usage, story.settled.exact) == (Usage(), True)


def test_an_upstream_that_hangs_up_without_a_word_is_502_and_may_have_cost() -> None:
    story = waiting().on(upstream_gone()).wants(Refuse, Settle)
    assert story.refusal.error.status == 502
    assert not story.settled.exact


@pytest.mark.parametrize(("which", "exact"), [(Timer.CONNECT, True), (Timer.FIRST_BYTE, False)])
def test_an_upstream_that_keeps_silent_is_504(which: Timer, exact: bool) -> None:
    story = play().on(request(body=chat_body()), reserved())
    if which is Timer.FIRST_BYTE:
        story.on(sent())
    story.on(timer(which)).wants(CloseUpstream, Refuse, Settle)
    assert story.refusal.error.status == 504
    assert story.settled.exact is exact


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (400, ErrorType.PROVIDER_REJECTED),
        (429, ErrorType.PROVIDER_RATE_LIMITED),
        (500, ErrorType.PROVIDER_FAILED),
    ],
)
def test_an_upstreams_own_error_passes_as_it_is_and_costs_nothing(status: int, error_type: ErrorType) -> None:
    story = waiting().on(upstream_head(status, "application/json", 2, (b"retry-after-ms", b"7000")), data(b"{}"), end())
    assert story.client_head.status == status
    assert b"retry-after-ms: 7000\r\n" in story.client_head.lines
    assert (story.settled.usage, story.settled.exact) == (Usage(), True)
    assert story.exchange.error_type is error_type


def test_a_refused_platform_credential_is_not_blamed_on_the_caller_nor_quoted() -> None:
    story = waiting().on(upstream_head(401)).wants(CloseUpstream, Refuse, Settle)
    assert story.refusal.error.status == 502
    assert story.refusal.error.error_type is ErrorType.PROVIDER_CREDENTIALS


@pytest.mark.parametrize("broken_by", [upstream_gone(), timer(Timer.IDLE), timer(Timer.DRAIN), end(framed=False)])
def test_a_stream_that_breaks_off_ends_in_a_well_formed_error_event(broken_by: object) -> None:
    story = streaming().on(data(CHUNK_1), data(CHUNK_2[:20]))
    story.on(broken_by)  # type: ignore[arg-type]
    events = story.to_client.split(b"\n\n")
    assert events[0] + b"\n\n" == CHUNK_1
    assert json.loads(events[1].removeprefix(b"data: "))["error"]["code"]
    assert events[2:] == [b""]
    assert not story.settled.exact
    assert story.settled.usage.output >= 1


def test_an_answer_that_breaks_off_in_the_middle_is_cut_and_not_ended() -> None:
    story = waiting().on(upstream_head(200, "application/json", 100), data(b'{"id"')).on(upstream_gone())
    story.wants(AbortClient, Settle)
    assert not story.settled.exact


def test_done_beats_a_connection_that_was_not_closed_properly() -> None:
    story = streaming().on(data(CHUNK_1 + USAGE_CHUNK + DONE), upstream_gone())
    assert story.to_client == CHUNK_1 + DONE
    assert (story.settled.usage, story.settled.exact) == (USAGE, True)
    assert story.exchange.error_type is ErrorType.NONE


# The client goes.


def test_client_leaves_after_the_first_chunk() -> None:
    story = streaming().on(data(CHUNK_1)).on(client_gone()).wants(CloseUpstream, Settle)
    assert story.settled.usage.output == 1
    assert story.settled.usage.input > 0
    assert not story.settled.exact
    assert story.exchange.error_type is ErrorType.CALLER_CANCELLED


def test_client_leaves_while_the_limiter_thinks_and_the_grant_is_given_back() -> None:
    story = play().on(request(body=chat_body())).on(client_gone()).wants()
    assert not story.done
    story.on(reserved()).wants(Settle)
    assert (story.settled.usage, story.settled.exact) == (Usage(), True)
    assert story.done


def test_client_leaves_before_the_request_was_sent_and_it_costs_nothing() -> None:
    story = play().on(request(body=chat_body()), reserved(), client_gone()).wants(CloseUpstream, Settle)
    assert story.settled.exact


def test_client_leaves_right_after_the_last_word_and_nothing_is_counted_as_cancelled() -> None:
    story = streaming().on(data(CHUNK_1 + USAGE_CHUNK + DONE), client_gone()).wants(CloseUpstream, Settle)
    assert story.settled.exact
    assert story.exchange.error_type is ErrorType.NONE


def test_a_client_that_never_reads_is_cut() -> None:
    story = streaming().on(data(CHUNK_1), timer(Timer.CLIENT_STALLED)).wants(AbortClient, CloseUpstream, Settle)
    assert story.exchange.error_type is ErrorType.CALLER_TOO_SLOW


def test_a_client_that_sends_too_slowly_gets_408() -> None:
    story = play().on(request(head(length=10))[:1], timer(Timer.REQUEST_BODY)).wants(Refuse)
    assert story.refusal.error.status == 408


def test_a_stream_without_usage_settles_at_the_count() -> None:
    story = streaming().on(data(ROLE + CHUNK_1 + CHUNK_2 + DONE), end())
    assert story.settled.usage.output == 2
    assert not story.settled.exact


def test_an_answer_in_an_encoding_that_was_not_asked_for_passes_and_settles_at_the_estimate() -> None:
    gzip = (b"content-encoding", b"gzip")
    story = waiting().on(upstream_head(200, "application/json", 3, gzip), data(b"\x1f\x8b\x00"), end())
    assert story.to_client == b"\x1f\x8b\x00"
    assert b"content-encoding: gzip\r\n" in story.client_head.lines
    assert not story.settled.exact


def test_an_answer_that_one_read_brings_goes_out_as_one_piece_with_its_length() -> None:
    head = headers.response_head(200, [(b"content-type", b"application/json")])
    story = play().on(request(body=chat_body()), reserved(), sent(), lambda e: e.on_upstream(head, ANSWER, True))
    story.wants(ToClient, Settle)
    answer = story.of(ToClient)
    assert (answer.data, answer.head, answer.last) == (ANSWER, story.client_head, True)


def test_a_body_too_deep_to_be_rewritten_is_refused_before_anything_is_reserved() -> None:
    aliased = policy(models=Models(aliases={"fast": "gpt-4o-mini"}))
    deep = b'{"model":"fast","x":%b%b}' % (b"[" * 100_000, b"]" * 100_000)
    story = play(aliased).on(request(body=deep))
    assert story.refusal.error.status == 400


def test_a_stream_that_says_that_it_failed_is_no_success() -> None:
    failed = b'data: {"error":{"message":"overloaded"}}\n\n'
    story = play().on(request(body=chat_body(stream=True)), reserved(), sent(), upstream_head(200, SSE))
    story.on(data(CHUNK_1), data(failed), data(DONE), end())
    assert story.to_client.endswith(failed + DONE)
    assert story.exchange.error_type is ErrorType.PROVIDER_FAILED


def test_no_secret_shows_when_something_is_printed() -> None:
    story = play().on(request(body=chat_body()), reserved())
    shown = repr([story.commands, story.exchange, head(), head().bearer])
    for secret in (KEY, CREDENTIAL, "hello"):
        assert secret not in shown
