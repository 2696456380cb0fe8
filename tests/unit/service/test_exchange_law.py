"""The law of an exchange, held against every interruption at every position of every story.

A granted reservation is settled exactly once; the client hears at most one last word and nothing after it; an upstream
that was opened is either heard to its end, lost, or closed; after the end there is no command.
"""

from collections.abc import Callable

import pytest
from tenantry_service.limits.decisions import Dimension, Refusal, Standing
from tenantry_service.proxy.messages import Gone, Settle, Timer, ToClient
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
    is_last_word,
    play,
    request,
    reserved,
    sent,
    timer,
    upstream_gone,
    upstream_head,
)
from tests.unit.service.test_exchange import ANSWER, CHUNK_1, CHUNK_2, DONE, SSE, USAGE_CHUNK

CHAT = request(body=chat_body())
STREAM = request(body=chat_body(stream=True))
GRANT = reserved()
REFUSED = reserved(Refusal(Dimension.REQUESTS, 1, 1, 1000, Standing()))

FORM = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'


def begins(path: str, length: int, first: bytes, kind: bytes = b"application/octet-stream") -> Event:
    """A request of which a first piece comes with its head."""
    what = head("POST", path, length=length, extra=((b"content-type", kind),))
    return lambda e: e.on_request(what, NOW, (first,), complete=len(first) == length)


UPLOAD = begins("/v1/files", 10, b"12345")
REST: list[Event] = [lambda e: e.on_body(b"67890"), lambda e: e.on_body_end()]
BLOCKED: list[Event] = [lambda e: e.on_upstream_full(), lambda e: e.on_upstream_drained()]
SPOKEN = [upstream_head(200), data(b'{"text":"x","usage":{"type":"duration","seconds":6}}'), end()]
STORIES: dict[str, list[Event]] = {
    "plain": [*CHAT, GRANT, sent(), upstream_head(200), data(ANSWER), end()],
    "plain in pieces": [*CHAT, GRANT, sent(), upstream_head(200), data(ANSWER[:9]), data(ANSWER[9:]), end()],
    "empty answer": [*CHAT, GRANT, sent(), upstream_head(200, "application/json", 0), end()],
    "upstream error": [*CHAT, GRANT, sent(), upstream_head(500), data(b"{}"), end()],
    "credential refused": [*CHAT, GRANT, sent(), upstream_head(401), data(b"{}"), end()],
    "stream": [
        *STREAM,
        GRANT,
        sent(),
        upstream_head(200, SSE),
        data(CHUNK_1),
        data(CHUNK_2[:10]),
        data(CHUNK_2[10:]),
        data(USAGE_CHUNK),
        data(DONE),
        end(),
    ],
    "stream until close": [*STREAM, GRANT, sent(), upstream_head(200, SSE), data(CHUNK_1), end(framed=False)],
    "refused by limits": [*CHAT, REFUSED],
    "refused by key": request(head(key=None), chat_body()),
    "bad body": request(body=b"{"),
    "upload": [UPLOAD, GRANT, sent(), *BLOCKED, *REST, upstream_head(200), data(b"{}"), end()],
    "upload that is complete before it is sent": [UPLOAD, GRANT, *REST, sent(), upstream_head(200), end()],
    "upload with an early answer": [UPLOAD, GRANT, sent(), upstream_head(413), data(b"{}"), end(), *REST],
    "form": [
        begins("/v1/audio/transcriptions", len(FORM), FORM[:30], b"multipart/form-data; boundary=b"),
        lambda e: e.on_body(FORM[30:]),
        GRANT,
        lambda e: e.on_body_end(),
        sent(),
        *SPOKEN,
    ],
    "responses": [
        *request(head("POST", "/v1/responses"), b'{"model":"gpt-4o","stream":true}'),
        GRANT,
        sent(),
        upstream_head(200, SSE),
        data(b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1}}}\n\n'),
        end(),
    ],
    "listing": [*request(head("GET", "/v1/files")), GRANT, sent(), upstream_head(200), data(b"{}"), end()],
    "models": [*request(head("GET", "/v1/models")), sent(), upstream_head(200), data(b'{"data":[]}'), end()],
}
INTRUDERS: dict[str, Event] = {
    "client gone": client_gone(),
    "upstream unreachable": upstream_gone(Gone.UNREACHABLE),
    "upstream interrupted": upstream_gone(Gone.INTERRUPTED),
    "internal error": lambda e: e.on_internal_error(),
    **{f"timer {which.name}": timer(which) for which in Timer},
}
POSITIONS = [(name, position) for name, story in STORIES.items() for position in range(len(story) + 1)]


def check(story: Play, grants: int) -> None:
    settles = [command for command in story.commands if isinstance(command, Settle)]
    assert len(settles) == grants
    words = [command for command in story.commands if isinstance(command, ToClient) or is_last_word(command)]
    last = [command for command in words if is_last_word(command)]
    assert len(last) <= 1
    assert not last or words[-1] is last[0]


@pytest.mark.parametrize("intruder", INTRUDERS)
@pytest.mark.parametrize(("name", "position"), POSITIONS)
def test_an_interruption_at_any_position_leaves_everything_settled_once(
    name: str, position: int, intruder: str
) -> None:
    story, events = play(), STORIES[name]
    granted = 0

    def on(event: Event) -> None:
        nonlocal granted
        # A limiter only answers what it was asked, and asks are only made before the end.
        if event in (GRANT, REFUSED) and story.exchange.state not in (State.RESERVING, State.ABANDONED):
            return
        granted += event is GRANT
        ended = story.exchange.state is State.DONE
        story.on(event)
        assert not (ended and story.last), "a command after the end"

    for event in events[:position]:
        on(event)
    on(INTRUDERS[intruder])
    # What was under way arrives late; then the client goes, which ends whatever has not ended yet.
    for event in events[position:]:
        on(event)
    on(client_gone())
    assert story.exchange.state is State.DONE
    check(story, granted)


def _names(pick: Callable[[str], bool]) -> list[str]:
    return [name for name in STORIES if pick(name)]


@pytest.mark.parametrize("name", _names(lambda name: name != "stream until close"))
def test_every_story_ends_by_itself(name: str) -> None:
    story = play().on(STORIES[name])
    assert story.exchange.state is State.DONE
    check(story, int(GRANT in STORIES[name]))


CULPRITS = (
    "asked.inspection.inspect",
    "asked.inspection.estimate",
    "asked.headers.upstream_head",
    "upload.pricing.worst_case",
    "upload.framing.chunk",
    "asked.routes.match",
    "asked.bodies.inspect_chat",
    "asked.bodies.upstream_body",
    "asked.bodies.estimate",
    "asked.headers.upstream_request",
    "exchange.answers.choose",
    "exchange.headers.rate_limit_lines",
)


@pytest.mark.parametrize("culprit", CULPRITS)
@pytest.mark.parametrize("name", STORIES)
def test_an_error_of_ours_inside_an_event_leaves_everything_settled_once(
    name: str, culprit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver does with an exception: it tells the exchange, and goes on."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(f"tenantry_service.proxy.{culprit}", fail)
    story, granted = play(), 0
    for event in STORIES[name]:
        if event in (GRANT, REFUSED) and story.exchange.state is not State.RESERVING:
            continue
        granted += event is GRANT
        try:
            story.on(event)
        except ZeroDivisionError:
            story.on(lambda e: e.on_internal_error())
    story.on(client_gone())
    assert story.exchange.state is State.DONE
    check(story, granted)
