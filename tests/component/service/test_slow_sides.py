"""What a slow side costs: on the event loop that serves tenants, whose reads are the largest that there are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from tenantry_service.policy import Upstream
from tenantry_service.proxy.messages import Timer
from tenantry_service.proxy.protocol import ClientConnection
from tenantry_service.proxy.upstream import Connection

from tests.component.service.harness import KEY, Service, chat_request, service, until

#: What one stream may hold.
MOST = 256 * 1024
#: Patient enough for a busy machine: the slow side is only slow, and not to be cut.
PATIENT = {Timer.CLIENT_STALLED: 60, Timer.IDLE: 60, Timer.FIRST_BYTE: 60, Timer.REQUEST_BODY: 60}
EVENTS = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n' * 1000
#: More than all buffers of all sockets on the way.
LARGE = len(EVENTS) * 700


@asynccontextmanager
async def flooding() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """An upstream that answers with a stream as fast as it is read, and reads a request when it is told to."""
    reads = asyncio.Event()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/files" in head:
            await reads.wait()
            left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while left:
                left -= len(await reader.read(65536))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % LARGE)
            for _ in range(LARGE // len(EVENTS)):
                writer.write(EVENTS)
                await writer.drain()
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(upstream, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], reads
    finally:
        listening.close()


def watched(monkeypatch: pytest.MonkeyPatch, side: type) -> list[int]:
    """The unread bytes each time that a side reads too slowly; at that moment there are the most of them."""
    seen: list[int] = []
    real: Callable[[object], None] = side.pause_writing  # type: ignore[attr-defined]

    def pause_writing(self: object) -> None:
        seen.append(self._transport.get_write_buffer_size())  # type: ignore[attr-defined]
        real(self)

    monkeypatch.setattr(side, "pause_writing", pause_writing)
    return seen


async def slow_client(running: Service, seen: list[int]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=4096)
    writer.write(chat_request(stream=True, extra=b"connection: close\r\n"))
    await until(lambda: seen, 60)
    # It reads on, in turns with the upstream: nothing is lost, and nothing more is held.
    pieces = []
    while piece := await asyncio.wait_for(reader.read(1_000_000), 60):
        pieces.append(piece)
    writer.close()
    return b"".join(pieces).count(b"word")


async def slow_upstream(running: Service, seen: list[int], reads: asyncio.Event) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {LARGE}\r\n\r\n"
    writer.write(head.encode() + bytes(LARGE))
    await until(lambda: seen, 60)
    reads.set()
    answer = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    return answer


@pytest.mark.parametrize("side", [ClientConnection, Connection])
def test_whoever_reads_slowly_makes_no_stream_hold_more_than_a_quarter_of_a_mebibyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: type
) -> None:
    async def run() -> None:
        async with flooding() as (port, reads), service(tmp_path, PATIENT) as running:
            running.serve(upstreams=(Upstream(name="main", base_url=f"http://127.0.0.1:{port}/v1"),))
            seen = watched(monkeypatch, side)
            if side is ClientConnection:
                assert await slow_client(running, seen) == 700_000
            else:
                assert await slow_upstream(running, seen, reads) == b"HTTP/1.1 200 OK\r\n"
            assert 0 < max(seen) <= MOST

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
