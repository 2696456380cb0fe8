"""Who is asked next, and when nobody is: only before the client has heard anything, only what may be repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_service.errors import ErrorType
from tenantry_service.policy import Upstream
from tenantry_service.proxy.breaker import MOST_OPEN_SECONDS, OPEN_SECONDS, THRESHOLD, Breaker
from tenantry_service.proxy.messages import CloseUpstream, Gone, OpenUpstream, Refuse, Settle, Timer, ToClient
from tenantry_service.proxy.states import State

from tests.unit.service.playbook import (
    NOW,
    Event,
    Play,
    chat_body,
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

TWO = (
    Upstream(name="second", base_url="http://second.test/v1", priority=2),
    Upstream(name="first", base_url="http://first.test/v1", priority=1),
)
THIRD = Upstream(name="other", base_url="http://other.test/v1", priority=0, models=("o3*",))
ANSWER = [upstream_head(200), data(b"{}"), end()]


def asked(body: bytes = b"", **changes: object) -> Play:
    given_policy = policy(upstreams=(*TWO, THIRD), **changes)  # type: ignore[arg-type]
    return play(given_policy).on(request(body=body or chat_body()), reserved())


def opened(story: Play) -> list[str]:
    return [command.endpoint.name for command in story.commands if isinstance(command, OpenUpstream)]


def refuses(status: int, *extra: tuple[bytes, bytes]) -> Event:
    return upstream_head(status, "application/json", None, *extra)


@pytest.mark.parametrize(
    "failure",
    [
        [upstream_gone(Gone.UNREACHABLE)],
        [upstream_gone(Gone.SUSPENDED)],
        [upstream_gone(Gone.OVERLOADED)],
        [timer(Timer.CONNECT)],
        *([sent(), refuses(status)] for status in (401, 429, 500, 502, 503, 504)),
    ],
)
def test_the_next_upstream_by_priority_is_asked_the_same(failure: list[Event]) -> None:
    story = asked().on(failure, sent(), ANSWER)
    assert opened(story) == ["first", "second"]
    first, second = (command.request for command in story.commands if isinstance(command, OpenUpstream))
    assert second.partition(b"\r\n\r\n")[2] == first.partition(b"\r\n\r\n")[2] == chat_body()
    assert (story.to_client, story.exchange.status, len([c for c in story.commands if isinstance(c, Settle)])) == (
        b"{}",
        200,
        1,
    )
    assert story.exchange.asked.endpoint is not None
    assert story.exchange.asked.endpoint.name == "second"


def test_the_last_upstreams_answer_is_the_answer() -> None:
    story = asked().on(upstream_gone(Gone.UNREACHABLE), sent(), refuses(503), data(b"{busy}"), end())
    assert (opened(story), story.to_client, story.exchange.status) == (["first", "second"], b"{busy}", 503)


@pytest.mark.parametrize(
    ("failure", "status", "error_type"),
    [
        (Gone.UNREACHABLE, 502, ErrorType.PROVIDER_UNREACHABLE),
        (Gone.SUSPENDED, 503, ErrorType.PROVIDER_UNREACHABLE),
        (Gone.OVERLOADED, 503, ErrorType.TENANTRY_OVERLOADED),
    ],
)
def test_when_nobody_is_left_the_error_says_whose_fault_it_was(
    failure: Gone, status: int, error_type: ErrorType
) -> None:
    story = asked().on(upstream_gone(failure), upstream_gone(failure)).wants(Refuse, Settle)
    assert (story.refusal.error.status, story.exchange.error_type) == (status, error_type)
    assert story.settled.exact


@pytest.mark.parametrize(
    "failure",
    [
        [sent(), upstream_gone(Gone.INTERRUPTED)],
        [sent(), timer(Timer.FIRST_BYTE)],
        [sent(), refuses(400)],
        [sent(), refuses(404)],
        [sent(), upstream_head(200), data(b"{"), upstream_gone(Gone.INTERRUPTED)],
    ],
)
def test_what_may_have_been_done_or_was_judged_is_not_repeated(failure: list[Event]) -> None:
    assert opened(asked().on(failure)) == ["first"]


def test_what_creates_something_is_repeated_only_if_it_was_refused() -> None:
    def create(status: int) -> Play:
        begun = play(policy(upstreams=TWO)).on(request(head("POST", "/v1/batches", length=2), b"{}"), reserved())
        return begun.on(sent(), refuses(status, (b"retry-after-ms", b"100")))

    assert create(500).exchange.state is State.ANSWERING
    assert create(429).exchange.state is State.BACKING_OFF


@pytest.mark.parametrize(
    ("path", "fields", "once"),
    [
        ("/v1/chat/completions", {}, False),
        ("/v1/responses", {}, False),
        ("/v1/responses", {"background": True}, True),
        ("/v1/responses", {"conversation": "conv_1"}, True),
        ("/v1/embeddings", {}, False),
        ("/v1/batches", {}, True),
        ("/v1/conversations", {}, True),
        ("/v1/novelties", {}, True),
    ],
)
def test_what_stays_at_the_upstream_is_never_sent_there_twice(path: str, fields: dict[str, object], once: bool) -> None:
    body = chat_body(**fields)
    story = play(policy(upstreams=TWO)).on(request(head("POST", path, length=len(body)), body), reserved())
    assert story.of(OpenUpstream).once is once
    # Nor to another one, after an answer that leaves open what was done.
    story.on(sent(), refuses(500))
    assert opened(story) == (["first"] if once else ["first", "second"])


@pytest.mark.parametrize(
    ("status", "header", "waits"),
    [
        (429, (b"retry-after-ms", b"150"), 0.15),
        (503, (b"retry-after", b"1"), 1.0),
        (429, (b"retry-after", b"3"), None),
        (429, (b"retry-after", b"soon"), None),
        (500, (b"retry-after", b"1"), None),
    ],
)
def test_the_only_upstream_is_asked_again_when_it_says_that_it_may_be_soon(
    status: int, header: tuple[bytes, bytes], waits: float | None
) -> None:
    story = play().on(request(body=chat_body()), reserved(), sent(), refuses(status, header))
    if waits is None:
        assert story.exchange.state is State.ANSWERING
        return
    story.wants(CloseUpstream)
    assert (story.exchange.state, story.exchange.wait_seconds) == (State.BACKING_OFF, waits)
    story.on(timer(Timer.RETRY)).wants(OpenUpstream).on(sent(), refuses(status, header), data(b"{}"), end())
    # Once.
    assert (len(opened(story)), story.to_client) == (2, b"{}")


@pytest.mark.parametrize(("elapsed", "again"), [(0.1, True), (4.0, False)])
def test_a_caller_who_would_leave_meanwhile_gets_the_answer_as_it_is(elapsed: float, again: bool) -> None:
    body = chat_body()
    what = head(length=len(body), extra=((b"x-stainless-read-timeout", b"5"),))
    story = play().on(request(what, body), reserved(), sent())
    story.exchange.elapsed = elapsed
    story.on(refuses(503, (b"retry-after", b"1")))
    assert (story.exchange.state is State.BACKING_OFF) is again


def test_part_of_a_body_that_is_gone_cannot_be_sent_elsewhere() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b\r\n'
    what = head(
        "POST", "/v1/audio/transcriptions", length=999, extra=((b"content-type", b"multipart/form-data; boundary=b"),)
    )
    begun = play(policy(upstreams=TWO)).on(lambda e: e.on_request(what, NOW, (form,)), reserved())
    begun.on(upstream_gone(Gone.UNREACHABLE))
    # Nothing of it was sent yet: the other one may have it.
    assert opened(begun) == ["first", "second"]
    begun.on(sent(), upstream_gone(Gone.INTERRUPTED)).wants(Refuse, Settle)


def test_a_body_is_held_no_longer_than_it_may_be_needed() -> None:
    story = asked().on(sent(), upstream_head(200))
    assert story.exchange.asked._body == b""


def test_bytes_of_the_second_upstream_only_reach_the_client() -> None:
    story = asked().on(sent(), lambda e: e.on_upstream(_head(503), b"{first}", end=True))
    story.on(sent(), ANSWER)
    assert b"".join(c.data for c in story.commands if isinstance(c, ToClient)) == b"{}"


def _head(status: int):  # type: ignore[no-untyped-def]
    from tenantry_service.proxy import headers

    return headers.response_head(status, [(b"content-length", b"7")])


# The circuit breaker.


def test_an_upstream_that_fails_again_and_again_is_left_alone_for_longer_and_longer() -> None:
    breaker, now = Breaker(), 100.0
    for _ in range(THRESHOLD):
        assert breaker.allows(now)
        breaker.failed(now)
    wait = OPEN_SECONDS
    for _ in range(8):
        assert not breaker.allows(now + wait - 0.01)
        now += wait
        assert breaker.allows(now)
        assert not breaker.allows(now)
        breaker.failed(now)
        wait = min(wait * 2, MOST_OPEN_SECONDS)
    breaker.allows(now + wait)
    breaker.succeeded()
    assert breaker.allows(now + wait)
    assert breaker.failures == 0


def test_requests_that_fail_together_open_the_circuit_once() -> None:
    """An upstream that restarts breaks all that is under way; it is not left alone for longer because that was much."""
    breaker, now = Breaker(), 100.0
    for late in range(THRESHOLD * 20):
        breaker.failed(now + late / 1000)
    opened = now + (THRESHOLD - 1) / 1000
    assert not breaker.allows(opened + OPEN_SECONDS - 0.001)
    assert breaker.allows(opened + OPEN_SECONDS)
    # Of what fails now, one is the trial.
    for _ in range(THRESHOLD):
        breaker.failed(opened + OPEN_SECONDS)
    assert breaker.allows(opened + OPEN_SECONDS * 3)


@given(st.lists(st.tuples(st.sampled_from(["allows", "failed", "succeeded"]), st.floats(0, 40)), max_size=60))
def test_whatever_happens_an_upstream_is_tried_again_within_the_longest_wait(events: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for what, passes in events:
        now += passes
        if what == "succeeded":
            breaker.succeeded()
        else:
            getattr(breaker, what)(now)
    assert breaker.allows(now + MOST_OPEN_SECONDS)
