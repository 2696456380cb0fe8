"""The upstream of streams: an asyncio protocol that writes numbered chunks at a fixed gap and does nothing else.

Run as a process: `python -m tests.bench.proxy.sse_upstream PORT`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import httptools
import uvloop

from tests.bench.proxy.chat import (
    DONE_EVENT,
    LAST_EVENT,
    USAGE_EVENT,
    Wish,
    asks_for_usage,
    chunk_event,
    wish_of,
)

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)

#: Connections that may wait to be accepted: all streams of a run may come at once (capped by net.core.somaxconn).
BACKLOG = 4096


def framed(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Streamer(asyncio.Protocol):
    """One connection: reads a request, streams what it asks for, reads the next."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._body = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own class, related to asyncio's by shape

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body = bytes(self._body)
        self._body.clear()
        self._send(HEAD, wish_of(body), asks_for_usage(body), 0, self._loop.time())

    def _send(self, head: bytes, wish: Wish, usage: bool, number: int, began: float) -> None:
        """Write chunk `number` (after `head`) and arrange for the next; late chunks are caught up with, never lost."""
        if self._transport is None:
            return
        data = head + framed(chunk_event(number, time.monotonic_ns()))
        number += 1
        if number < wish.chunks:
            due = began + number * wish.gap_ms / 1000
            self._timer = self._loop.call_at(due, self._send, b"", wish, usage, number, began)
        else:
            data += framed(LAST_EVENT) + (framed(USAGE_EVENT) if usage else b"") + framed(DONE_EVENT) + b"0\r\n\r\n"
        self._transport.write(data)


async def serve(port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(Streamer, "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
