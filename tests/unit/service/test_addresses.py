"""Names of upstreams: whoever knew one's addresses goes on with them while nobody can tell."""

import asyncio
import socket
from collections import deque

import pytest
from tenantry_service.proxy import addresses
from tenantry_service.proxy.addresses import Addresses

OLD, NEW = "192.0.2.1", "192.0.2.2"
NO_ANSWER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Resolver:
    """Answers as it is told, in turn; an Event is waited for first."""

    def __init__(self, *answers: str | OSError | asyncio.Event) -> None:
        self.answers = deque(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int, **_: object) -> list[object]:
        self.asked += 1
        answer = self.answers.popleft()
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = self.answers.popleft()
        if isinstance(answer, OSError):
            raise answer
        assert isinstance(answer, str)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]


def name(monkeypatch: pytest.MonkeyPatch, *answers: str | OSError | asyncio.Event) -> tuple[Addresses, Resolver]:
    resolver = Resolver(*answers)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver)
    monkeypatch.setattr(addresses, "PATIENCE_SECONDS", 0.01)
    return Addresses("api.test", 443), resolver


async def test_a_name_is_asked_for_anew_but_once_for_all_that_begin_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    where, resolver = name(monkeypatch, OLD, NEW)
    assert await asyncio.gather(*(where.find() for _ in range(9))) == [[OLD]] * 9
    assert await where.find() == [NEW]
    assert resolver.asked == 2


async def test_while_a_resolver_says_nothing_the_last_addresses_serve_and_what_it_says_late_serves_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silence = asyncio.Event()
    where, resolver = name(monkeypatch, OLD, silence, NEW, NEW)
    await where.find()
    for _ in range(3):
        assert await where.find() == [OLD]
    assert resolver.asked == 2, "one question is enough"
    assert len(caplog.records) == 1, "an outage is told of once"
    silence.set()
    assert await where.find() == [NEW]


@pytest.mark.parametrize("told", [NO_ANSWER, NO_NAME], ids=["no answer", "no such name"])
async def test_a_name_that_never_meant_anything_cannot_be_connected_to(
    monkeypatch: pytest.MonkeyPatch, told: OSError
) -> None:
    where, _ = name(monkeypatch, told, OLD)
    with pytest.raises(socket.gaierror, match=str(told.strerror)):
        await where.find()
    assert await where.find() == [OLD]


async def test_a_name_that_is_gone_is_gone_but_one_that_nobody_can_tell_is_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where, _ = name(monkeypatch, OLD, NO_ANSWER, NO_NAME)
    await where.find()
    assert await where.find() == [OLD]
    with pytest.raises(socket.gaierror, match="not known"):
        await where.find()


async def test_whoever_stops_waiting_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = asyncio.Event()
    where, resolver = name(monkeypatch, silence, OLD)
    leaves, stays = asyncio.create_task(where.find()), asyncio.create_task(where.find())
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait((leaves,))
    silence.set()
    assert await stays == [OLD]
    assert resolver.asked == 1
