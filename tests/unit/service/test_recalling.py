"""Answers that are given again: which, to whom, at what price, and what becomes of a claim whatever happens."""

import json

import pytest
from tenantry_service.limits.decisions import Dimension, Refusal, Standing
from tenantry_service.policy import Keeping, Policy
from tenantry_service.pricing import NO_USAGE
from tenantry_service.proxy.kept import TOO_LARGE, Claim, KeptAnswer, Purpose, Recalled, Verdict
from tenantry_service.proxy.messages import Gone, Keep, OpenUpstream, Recall, Refuse, Reserve, Settle, Timer, ToClient
from tenantry_service.proxy.states import State

from tests.unit.service.playbook import (
    NOW,
    Event,
    Play,
    chat_body,
    client_gone,
    data,
    end,
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
from tests.unit.service.test_exchange import ANSWER, CHUNK_1, DONE, SSE

KEEPING = Keeping(max_bytes=65_536)
KEPT = KeptAnswer(200, b"content-type: application/json\r\n", ANSWER)
KEY = ((b"idempotency-key", b"order-66"),)
REPEATED = head(extra=KEY)
FIXED = chat_body(temperature=0)


def both() -> Policy:
    return policy(cache=KEEPING, idempotency=KEEPING)


def recalled(what: Recalled = Verdict.GRANTED) -> Event:
    return lambda e: e.on_recalled(what)


def asked_for(play: Play) -> list[Claim]:
    return [command.claim for command in play.commands if isinstance(command, Recall)]


def keeps(play: Play) -> list[Keep]:
    return [command for command in play.commands if isinstance(command, Keep)]


ANSWERED = [reserved(), sent(), upstream_head(200), data(ANSWER), end()]


def test_a_tenant_that_wants_nothing_kept_is_asked_nothing() -> None:
    play().on(request(REPEATED, FIXED)).wants(Reserve)


def test_an_answer_is_kept_for_its_key_and_given_again_for_nothing() -> None:
    first = play(both()).on(request(REPEATED, chat_body()), recalled(), ANSWERED)
    (kept,) = keeps(first)
    assert kept.answer is not None
    assert (kept.answer.status, kept.answer.body) == (200, ANSWER)
    again = play(both()).on(request(REPEATED, chat_body())).wants(Recall)
    again.on(recalled(kept.answer)).wants(Reserve)
    assert (again.of(Reserve).demand.tokens, again.of(Reserve).demand.nano_usd) == (0, 0)
    again.on(reserved()).wants(ToClient, Settle)
    assert again.to_client == ANSWER
    assert b"x-tenantry-replayed: true\r\n" in again.client_head.lines
    assert (again.settled.usage, again.settled.nano_usd, again.settled.exact) == (NO_USAGE, 0, True)
    assert again.done


@pytest.mark.parametrize(
    ("what", "code", "retry"),
    [
        (Verdict.IN_PROGRESS, "idempotency_key_in_use", True),
        (Verdict.CONFLICT, "idempotency_key_reused", False),
        (Verdict.TOO_LARGE, "idempotency_answer_not_kept", False),
    ],
)
def test_what_cannot_be_given_again_is_a_409_that_says_whether_to_repeat(what: Verdict, code: str, retry: bool) -> None:
    story = play(both()).on(request(REPEATED, chat_body()), recalled(what)).wants(Refuse)
    assert (story.refusal.error.status, story.refusal.error.code) == (409, code)
    assert (b"retry-after-ms" in story.refusal.lines) is retry
    assert (b"x-should-retry: false" in story.refusal.lines) is not retry


def test_a_client_that_leaves_after_its_request_was_sent_finds_its_answer_when_it_comes_again() -> None:
    story = play(both()).on(request(REPEATED, chat_body()), recalled(), reserved(), sent())
    story.on(client_gone()).wants()
    story.on(upstream_head(200), data(ANSWER), client_gone(), end())
    assert story.settled.exact
    (kept,) = keeps(story)
    assert kept.answer is not None
    assert kept.answer.body == ANSWER


def test_a_stream_is_kept_whole_for_its_key_and_never_for_the_cache() -> None:
    story = play(both()).on(request(REPEATED, chat_body(stream=True, seed=1)), recalled())
    story.on(reserved(), sent(), upstream_head(200, SSE), data(CHUNK_1), client_gone(), data(DONE), end())
    (kept,) = keeps(story)
    assert kept.claim.purpose is Purpose.IDEMPOTENCY
    assert kept.answer is not None
    assert kept.answer.body == CHUNK_1 + DONE


@pytest.mark.parametrize(
    ("path", "body", "cached"),
    [
        ("/v1/chat/completions", {"temperature": 0}, True),
        ("/v1/chat/completions", {"seed": 7}, True),
        ("/v1/chat/completions", {}, False),
        ("/v1/chat/completions", {"temperature": 0.1}, False),
        ("/v1/chat/completions", {"temperature": 0, "stream": True}, False),
        ("/v1/embeddings", {"input": "x"}, True),
        ("/v1/responses", {"input": "x", "temperature": 0}, False),
    ],
)
def test_the_cache_is_for_questions_with_one_answer(path: str, body: dict[str, object], cached: bool) -> None:
    text = json.dumps({"model": "gpt-4o-mini", "messages": [], **body}).encode()
    story = play(policy(cache=KEEPING)).on(request(head("POST", path), text))
    assert [claim.purpose for claim in asked_for(story)] == [Purpose.CACHE] * cached


def test_a_miss_says_so_and_is_kept_and_a_hit_says_so_and_costs_nothing() -> None:
    miss = play(both()).on(request(body=FIXED), recalled(), ANSWERED)
    assert b"x-tenantry-cache: miss\r\n" in miss.client_head.lines
    assert miss.settled.nano_usd > 0
    (kept,) = keeps(miss)
    hit = play(both()).on(request(body=FIXED), recalled(kept.answer or TOO_LARGE), reserved())
    assert b"x-tenantry-cache: hit\r\n" in hit.client_head.lines
    assert hit.to_client == ANSWER
    assert hit.settled.nano_usd == 0
    assert b"x-request-id: req_1\r\n" in hit.client_head.lines


@pytest.mark.parametrize("status", [201, 400, 404, 500])
def test_only_good_answers_are_cached(status: int) -> None:
    story = play(both()).on(
        request(body=FIXED), recalled(), reserved(), sent(), upstream_head(status), data(b"{}"), end()
    )
    assert [keep.answer for keep in keeps(story)] == [None]


@pytest.mark.parametrize(
    ("status", "kept"), [(200, True), (400, True), (404, True), (408, False), (429, False), (500, False)]
)
def test_an_answer_that_another_attempt_may_change_is_not_kept_for_a_key(status: int, kept: bool) -> None:
    story = play(both()).on(request(REPEATED, chat_body()), recalled(), reserved(), sent())
    story.on(upstream_head(status), data(b"{}"), end())
    assert [keep.answer is not None for keep in keeps(story)] == [kept]


def test_an_answer_that_is_too_large_is_remembered_as_such_for_a_key_and_forgotten_by_the_cache() -> None:
    story = play(both()).on(request(REPEATED, FIXED), recalled(), recalled(), reserved(), sent(), upstream_head(200))
    story.on(data(b"x" * 20_000), end())
    assert [keep.answer for keep in keeps(story)] == [TOO_LARGE, None]


def test_the_cache_answers_for_a_key_too() -> None:
    story = play(both()).on(request(REPEATED, FIXED), recalled(), recalled(KEPT), reserved())
    (kept,) = keeps(story)
    assert kept.claim.purpose is Purpose.IDEMPOTENCY
    assert kept.answer is not None
    assert kept.answer.body == ANSWER


@pytest.mark.parametrize(
    "extra",
    [((b"idempotency-key", b""),), ((b"idempotency-key", b"x" * 256),), (*KEY, *KEY), ((b"idempotency-key", b"a b"),)],
)
def test_what_can_be_no_key_is_refused(extra: tuple[tuple[bytes, bytes], ...]) -> None:
    story = play(both()).on(request(head(extra=extra), chat_body()))
    assert story.refusal.error.status == 400


def claims_of(
    extra: tuple[tuple[bytes, bytes], ...] = KEY, path: str = "/v1/chat/completions", **body: object
) -> Claim:
    return asked_for(play(both()).on(request(head("POST", path, extra=extra), chat_body(**body))))[0]


def test_what_differs_is_another_request_and_what_does_not_matter_is_none() -> None:
    one = claims_of()
    assert (claims_of().key, claims_of().fingerprint) == (one.key, one.fingerprint)
    retried = claims_of((*KEY, (b"x-stainless-retry-count", b"1")))
    assert (retried.key, retried.fingerprint) == (one.key, one.fingerprint)
    assert claims_of(user="b").key == one.key
    assert claims_of(user="b").fingerprint != one.fingerprint
    assert claims_of(((b"idempotency-key", b"order-67"),)).key != one.key


FORM = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'


def upload(path: str, body: bytes = FORM, *, whole: bool = True, chunked: bool = False) -> list[Event]:
    """A request whose body passes through: all of it with its head, or in two pieces."""
    kind = b"multipart/form-data; boundary=b"
    length = None if chunked else len(body)
    what = head("POST", path, length=length, extra=(*KEY, (b"content-type", kind)))
    if whole:
        # As the connection tells it when it has seen such a head before.
        known = what if chunked else what.without_length()
        return [lambda e: e.on_request(known, NOW, (body,), complete=True)]
    return [
        lambda e: e.on_request(what, NOW, (body[:70],)),
        lambda e: e.on_body(body[70:]),
        lambda e: e.on_body_end(),
    ]


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/files", "/v1/batches", "/v1/novelties"])
def test_what_passes_through_is_answered_again_for_its_key_too(path: str) -> None:
    first = play(both()).on(upload(path), recalled(), ANSWERED)
    (kept,) = keeps(first)
    assert kept.answer is not None
    assert kept.answer.body == ANSWER
    again = play(both()).on(upload(path), recalled(kept.answer), reserved()).wants(ToClient, Settle)
    assert again.to_client == ANSWER
    assert b"x-tenantry-replayed: true\r\n" in again.client_head.lines
    assert (again.settled.usage, again.settled.nano_usd) == (NO_USAGE, 0)
    assert not [command for command in again.commands if isinstance(command, OpenUpstream)]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_passes_through_is_told_by_its_length_however_much_of_it_has_come(chunked: bool) -> None:
    path = "/v1/audio/transcriptions"
    whole, pieces = (
        asked_for(play(both()).on(upload(path, whole=whole, chunked=chunked)))[0] for whole in (True, False)
    )
    assert (whole.key, whole.fingerprint) == (pieces.key, pieces.fingerprint)
    if not chunked:
        longer = asked_for(play(both()).on(upload(path, FORM + b"x")))[0]
        assert (longer.key, longer.fingerprint == whole.fingerprint) == (whole.key, False)


def test_what_comes_of_a_body_while_its_answer_is_looked_for_is_not_lost() -> None:
    events = upload("/v1/audio/transcriptions", whole=False)
    story = play(both()).on(events, recalled(), reserved())
    assert story.sent_upstream.endswith(FORM)
    assert story.of(OpenUpstream).complete


CHAT = request(REPEATED, FIXED)
STORY: list[Event] = [*CHAT, recalled(), recalled(), *ANSWERED]
INTRUDERS = {
    "client gone": client_gone(),
    "upstream unreachable": upstream_gone(Gone.UNREACHABLE),
    "upstream interrupted": upstream_gone(),
    "internal error": lambda e: e.on_internal_error(),
    "refused": reserved(Refusal(Dimension.REQUESTS, 1, 1, 1000, Standing())),
    **{f"timer {which.name}": timer(which) for which in Timer},
}


@pytest.mark.parametrize("intruder", INTRUDERS)
@pytest.mark.parametrize("position", range(len(STORY) + 1))
def test_whatever_happens_every_granted_claim_is_ended_once(position: int, intruder: str) -> None:
    story, granted, open_claims = play(both()), 0, 0

    def on(event: Event) -> None:
        nonlocal granted, open_claims
        state = story.exchange.state
        if event is STORY[len(CHAT)] or event is STORY[len(CHAT) + 1]:
            if open_claims == 0:
                return
            open_claims -= 1
            granted += 1
        limiters = event in (ANSWERED[0], INTRUDERS["refused"])
        if limiters and (open_claims or state not in (State.RESERVING, State.ABANDONED)):
            return
        story.on(event)
        open_claims += sum(isinstance(command, Recall) for command in story.last)

    for event in [*STORY[:position], INTRUDERS[intruder], *STORY[position:]]:
        on(event)
    # A client that left is not waited for for ever: at the latest the first byte's and the idle timer end it.
    for last in (timer(Timer.CLIENT_STALLED), client_gone(), timer(Timer.FIRST_BYTE), timer(Timer.IDLE)):
        on(last)
    if story.exchange.state is State.DONE:
        assert len(keeps(story)) == granted
    opened = [command for command in story.commands if isinstance(command, OpenUpstream)]
    assert len(opened) <= 1
    assert story.exchange.state in (State.DONE, State.ABANDONED)
