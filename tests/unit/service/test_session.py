"""Stories of a WebSocket session, told without a socket."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenantry_service import errors
from tenantry_service.errors import ErrorType
from tenantry_service.limits.decisions import Dimension, Refusal, Standing
from tenantry_service.policy import Key, Limits, Models
from tenantry_service.pricing import Usage
from tenantry_service.proxy import frames
from tenantry_service.proxy.frames import CloseCode
from tenantry_service.proxy.messages import (
    Command,
    Commands,
    OpenUpstream,
    Refuse,
    Reserve,
    Settle,
    ToClient,
    ToUpstream,
)
from tenantry_service.proxy.session import Session, Stage

from tests.unit.service.playbook import KEY, NOW, granted, head, policy, snapshot

MASK = b"abcd"
LINES = (
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"x" * 24),
)
DONE = {"type": "response.done", "response": {"usage": {"input_tokens": 7, "output_tokens": 3}}}
REFUSED = Refusal(Dimension.REQUESTS, 1, 1, 1000, Standing())


def event(**fields: object) -> bytes:
    return frames.text(json.dumps(fields).encode())


class Story:
    """A session and all that it commanded."""

    def __init__(self, path: str = "/v1/realtime?model=gpt-realtime", **changes: object) -> None:
        self.session = Session(snapshot(policy(**changes)), "req_1", MASK)  # type: ignore[arg-type]
        self.commands: list[Command] = []
        self.ids: list[str] = []
        self.handle(self.session.on_request(head("GET", path, extra=LINES), NOW, draining=False, ledger_full=False))

    def handle(self, commands: Commands) -> "Story":
        while True:
            for command in commands:
                self.commands.append(command)
                if isinstance(command, Settle):
                    self.ids.append(self.session.request_id)
            commands = self.session.on_carried_out()
            if not commands:
                return self

    def open(self) -> "Story":
        self.handle(self.session.on_reserved(granted()))
        return self.handle(self.session.on_accepted(b"HTTP/1.1 101\r\n\r\n"))

    def kinds(self) -> list[type[Command]]:
        return [type(command) for command in self.commands]

    def settled(self) -> list[Settle]:
        return [command for command in self.commands if isinstance(command, Settle)]


def test_each_turn_is_settled_under_an_id_of_its_own_and_the_next_is_reserved() -> None:
    story = Story().open()
    assert story.kinds() == [Reserve, OpenUpstream, ToClient]
    # Two turns end in one read: the second waits for its reservation.
    story.handle(story.session.on_upstream(event(**DONE) + event(**DONE)))
    assert story.kinds()[3:] == [ToClient, Settle, Reserve]
    story.handle(story.session.on_reserved(granted()))
    story.handle(story.session.on_reserved(granted()))
    story.handle(story.session.on_client_gone())
    assert [(found.usage, found.exact) for found in story.settled()] == [
        (Usage(7, 3), True),
        (Usage(7, 3), True),
        (Usage(), True),
    ]
    assert story.ids == ["req_1", "req_1-2", "req_1-3"]
    assert story.session.error_type is ErrorType.NONE


def test_a_turn_that_is_cut_counts_as_what_was_expected_of_it() -> None:
    story = Story().open()
    story.handle(story.session.on_upstream(event(type="response.created", response={})))
    story.handle(story.session.on_client_gone())
    (settled,) = story.settled()
    assert (settled.exact, settled.usage.output) == (False, 1024)
    assert story.session.error_type is ErrorType.CALLER_CANCELLED


def test_usage_that_arrives_before_its_reservation_is_settled_even_after_the_end() -> None:
    story = Story().open()
    story.handle(story.session.on_upstream(event(**DONE) + event(**DONE)))
    story.handle(story.session.on_client_gone())
    story.handle(story.session.on_reserved(granted()))
    assert [found.usage for found in story.settled()] == [Usage(7, 3)] * 2


def test_no_further_turn_is_given_than_the_limits_give() -> None:
    story = Story().open()
    story.handle(story.session.on_upstream(event(**DONE)))
    story.handle(story.session.on_reserved(REFUSED))
    last = story.commands[-2]
    assert isinstance(last, ToClient)
    assert last.last
    assert last.data.endswith(frames.close(CloseCode.POLICY, "rate_limit_exceeded"))
    assert story.session.stage is Stage.DONE


@pytest.mark.parametrize("answering", [False, True])
def test_a_key_that_is_revoked_ends_its_connection_once_no_turn_is_under_way(answering: bool) -> None:
    story = Story().open()
    if answering:
        story.handle(story.session.on_upstream(event(type="response.created", response={})))
    another = snapshot(policy(key=Key(id="anotherkey22", name="other", sha256="0" * 64)))
    story.handle(story.session.on_tick(another, NOW))
    if answering:
        assert story.session.stage is Stage.OPEN
        story.handle(story.session.on_upstream(event(**DONE)))
        assert [settled.usage for settled in story.settled()] == [Usage(7, 3)]
        assert story.kinds().count(Reserve) == 1, "no further turn is begun"
    assert story.session.stage is Stage.DONE
    said = next(each for each in story.commands if isinstance(each, ToClient) and each.last)
    assert said.data.endswith(frames.close(CloseCode.POLICY, "invalid_api_key"))
    assert story.session.error_type is ErrorType.CALLER_UNAUTHENTICATED


def test_a_key_ends_its_connection_at_its_own_end_and_no_other_change_does() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    ending = Key(id="abcdefghijkl", name="k", sha256=digest, expires_at=datetime.fromtimestamp(NOW + 60, UTC))
    story = Story(key=ending).open()
    changed = snapshot(policy(key=ending, limits=Limits(requests_per_minute=7)))
    so_far = story.kinds()
    story.handle(story.session.on_tick(changed, NOW + 59.9))
    assert story.kinds() == so_far
    story.handle(story.session.on_tick(changed, NOW + 60))
    assert story.session.stage is Stage.DONE
    said = next(each for each in story.commands if isinstance(each, ToClient) and each.last)
    assert said.data.endswith(frames.close(CloseCode.POLICY, "expired_api_key"))


def test_an_error_of_ours_never_stands_inside_a_frame_of_the_upstream() -> None:
    story = Story().open()
    story.handle(story.session.on_upstream(event(**DONE)[:5]))
    story.handle(story.session.on_failed(errors.DRAIN_DEADLINE))
    last = story.commands[-3]
    assert isinstance(last, ToClient)
    assert (last.data, last.last) == (b"", True)


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        ("/v1/realtime", LINES[:3], 400),
        ("/v1/realtime", (*LINES[:2], (b"sec-websocket-version", b"8"), LINES[3]), 400),
        ("/v1/chat/completions", LINES, 404),
    ],
)
def test_what_is_no_handshake_is_refused(path: str, lines: tuple[tuple[bytes, bytes], ...], status: int) -> None:
    session = Session(snapshot(), "req_1", MASK)
    (command,) = session.on_request(head("GET", path, extra=lines), NOW, draining=False, ledger_full=False)
    assert isinstance(command, Refuse)
    assert command.error.status == status


def test_the_key_in_a_protocol_is_as_good_as_the_header() -> None:
    protocol = (b"sec-websocket-protocol", b"realtime, openai-insecure-api-key." + KEY.encode())
    session = Session(snapshot(), "req_1", MASK)
    commands = session.on_request(
        head("GET", "/v1/realtime?model=m", key=None, extra=(*LINES, protocol)), NOW, draining=False, ledger_full=False
    )
    assert [type(command) for command in commands] == [Reserve]


def test_a_message_of_the_responses_api_that_cannot_be_judged_goes_no_further() -> None:
    story = Story("/v1/responses").open()
    story.handle(story.session.on_client(frames.text(b"no json", MASK)))
    story.handle(story.session.on_client(frames.text(b'{"type":"response.cancel"}', MASK)))
    sent = [command.data for command in story.commands if isinstance(command, ToUpstream)]
    assert sent == [frames.text(b'{"type":"response.cancel"}', MASK)]


STRICT = Limits(require_declared_max_tokens=True)
SOUND = {"type": "input_audio_buffer.append", "audio": "AAAA"}
CREATE = {"type": "response.create"}


def passed(story: Story, *events: Mapping[str, object]) -> list[bool]:
    """Of events of the client: whether they went on, or an error told why not."""
    found = []
    for fields in events:
        before = len(story.commands)
        story.handle(story.session.on_client(frames.text(json.dumps(fields).encode(), MASK)))
        (said,) = story.commands[before:]
        found.append(isinstance(said, ToUpstream))
        if isinstance(said, ToClient):
            assert b'"max_tokens_required"' in said.data
            assert not said.last, "the connection goes on"
    return found


def test_a_turn_of_the_responses_api_declares_its_cap_where_that_is_required() -> None:
    bounded, number = {**CREATE, "model": "gpt-4o-mini"}, {"max_output_tokens": 9}
    assert passed(Story("/v1/responses", limits=STRICT).open(), bounded, {**bounded, **number}) == [False, True]
    assert passed(Story("/v1/responses").open(), bounded) == [True]


@pytest.mark.parametrize("name", ["max_output_tokens", "max_response_output_tokens"])
def test_a_realtime_session_declares_its_cap_before_sound_or_an_event_begins_a_turn(name: str) -> None:
    story = Story(limits=STRICT).open()
    update, unbounded = ({"type": "session.update", "session": {name: cap}} for cap in (50, "inf"))
    item = {"type": "conversation.item.create", "item": {}}
    assert passed(story, item, SOUND, CREATE, {**CREATE, "response": {name: 5}}) == [True, False, False, True]
    assert passed(story, unbounded, update, SOUND, CREATE) == [False, True, True, True]
    assert passed(story, {**CREATE, "response": {name: "inf"}}, unbounded) == [False, False]
    assert passed(story, {"type": "session.update", "session": {"voice": "x"}}, SOUND) == [True, True]


def test_who_only_transcribes_has_nothing_to_declare() -> None:
    assert passed(Story("/v1/realtime?model=gpt-realtime&intent=transcription", limits=STRICT).open(), SOUND) == [True]
    update = {"type": "session.update", "session": {"type": "transcription"}}
    assert passed(Story(limits=STRICT).open(), update, SOUND) == [True, True]


@pytest.mark.parametrize(("said", "sent"), [(None, 100), (5, 5), (1000, 100), ("many", 100)])
def test_the_policy_bounds_a_turn_of_the_responses_api(said: object, sent: int) -> None:
    story = Story("/v1/responses", models=Models(max_output_tokens=100), limits=STRICT).open()
    fields = {**CREATE, "model": "gpt-4o-mini"} | ({} if said is None else {"max_output_tokens": said})
    story.handle(story.session.on_client(frames.text(json.dumps(fields).encode(), MASK)))
    (went,) = [command.data for command in story.commands if isinstance(command, ToUpstream)]
    reader = frames.FrameReader(masked=True)
    reader.feed(went)
    ((message,),) = [reader.take()[1]]
    assert json.loads(message.payload) == {**fields, "max_output_tokens": sent}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["client", "upstream", "grant", "refuse", "fail", "lost"]), st.binary(max_size=40))
    )
)
def test_whatever_happens_every_reservation_is_settled_once(events: list[tuple[str, bytes]]) -> None:
    story = Story("/v1/responses").open()
    answered = granted_count = 1
    for kind, data in events:
        match kind:
            case "client":
                story.handle(story.session.on_client(frames.text(data, MASK) if len(data) % 2 else data))
            case "upstream":
                story.handle(story.session.on_upstream(event(**DONE) if len(data) % 2 else data))
            case "grant" | "refuse" if answered < story.kinds().count(Reserve):
                answered += 1
                granted_count += kind == "grant"
                story.handle(story.session.on_reserved(granted() if kind == "grant" else REFUSED))
            case "fail":
                story.handle(story.session.on_failed(errors.DRAIN_DEADLINE))
            case "lost":
                story.handle(story.session.on_upstream_gone())
            case _:
                pass
    story.handle(story.session.on_client_gone())
    while answered < story.kinds().count(Reserve):
        answered += 1
        granted_count += 1
        story.handle(story.session.on_reserved(granted()))
    assert len(story.settled()) == granted_count
    assert story.session.stage is Stage.DONE
