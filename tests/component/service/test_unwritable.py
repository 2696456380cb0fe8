"""A ledger that fails in a way that nobody foresaw: the request is refused, and nothing of it stays behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import websockets
from tenantry_service.ledger.event import UsageEvent
from tenantry_service.policy import Limits

from tests.component.service.harness import KEY, Service, chat_request, service, until


class Unwritable:
    """Takes what has ended, but nothing that begins."""

    accepting = True

    def __init__(self) -> None:
        self.events: list[UsageEvent] = []

    def begin(self, event_id: str, note: bytes) -> None:
        raise RuntimeError(f"{event_id} cannot be written ahead")

    def append(self, event: UsageEvent) -> None:
        self.events.append(event)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        found.serve(limits=Limits(concurrent_requests=1))
        yield found


async def test_a_request_that_cannot_be_written_ahead_goes_nowhere_and_gives_its_slot_back(running: Service) -> None:
    running.engine.ledger = broken = Unwritable()
    for _ in range(2):
        answer = await running.raw(chat_request(extra=b"connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 500 ")
    assert running.engine.telemetry.in_flight == 0
    assert not running.simulator.requests
    assert [(event.status, event.nano_usd, event.output_tokens) for event in broken.events] == [(500, 0, 0)] * 2


class Unrecorded(Unwritable):
    """Takes what begins, but nothing that has ended."""

    def begin(self, event_id: str, note: bytes) -> None:
        pass

    def append(self, event: UsageEvent) -> None:
        raise RuntimeError(f"{event.event_id} cannot be recorded")


async def test_a_request_that_cannot_be_recorded_is_answered_and_gives_its_slot_back(running: Service) -> None:
    running.engine.ledger = Unrecorded()
    for _ in range(2):
        answer = await running.raw(chat_request(extra=b"connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 200 ")
    await until(lambda: not running.engine.telemetry.in_flight)
    assert running.metric("tenantry_internal_errors_total") == 2


async def test_a_request_that_was_sent_ahead_finds_the_slot_of_the_one_before_it(running: Service) -> None:
    answers = await running.raw(chat_request() + chat_request(extra=b"connection: close\r\n"))
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert [row["status"] for row in await running.rows()] == [200, 200]


async def test_a_session_that_cannot_be_written_ahead_ends_and_gives_its_slot_back(running: Service) -> None:
    running.engine.ledger = broken = Unwritable()
    url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=gpt-realtime"
    for _ in range(2):
        with pytest.raises((websockets.InvalidHandshake, OSError)):
            await websockets.connect(url, additional_headers={"authorization": f"Bearer {KEY}"})
        await until(lambda: not running.engine.telemetry.in_flight)
    assert not running.simulator.conversations
    assert [event.nano_usd for event in broken.events] == [0, 0]
    assert running.metric("tenantry_internal_errors_total") == 2
