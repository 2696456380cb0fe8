"""The load of streams: opens them, and checks the order and the number of every chunk.

Run as a process; prints one line of JSON (`StreamReport`). All times in microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import cast

import httptools
import uvloop

from tests.bench.proxy.chat import MARK, MARK_BYTES, Wish, stream_request


@dataclass(frozen=True)
class Load:
    """What to open: `streams` in all, `concurrency` at once, the first of them spread over `ramp` seconds."""

    port: int
    path: str
    model: str
    key: str
    streams: int
    concurrency: int
    chunks: int
    gap_ms: int
    ramp: float
    #: Seconds for everything; what has not come by then is lost.
    timeout: float


@dataclass
class Tally:
    """What has arrived of one stream."""

    asked_ns: int
    next_number: int = 0
    misplaced: int = 0
    first_us: float = 0.0
    delays_us: list[float] = field(default_factory=list)
    done: bool = False
    _tail: bytes = b""

    def take(self, data: bytes, now_ns: int) -> None:
        """Count the chunks in a piece of the body, wherever it was cut."""
        text = self._tail + data
        end = 0
        for mark in MARK.finditer(text):
            end = mark.end()
            if not self.delays_us:
                self.first_us = (now_ns - self.asked_ns) / 1000
            self.delays_us.append((now_ns - int(mark[2])) / 1000)
            if int(mark[1]) != self.next_number:
                self.misplaced += 1
            self.next_number = int(mark[1]) + 1
        if b"[DONE]" in text:
            self.done = True
        self._tail = text[max(end, len(text) - MARK_BYTES) :]


@dataclass(frozen=True)
class StreamReport:
    """`lost` counts chunks that never came, `misplaced` those that came out of order or twice, `failed` streams."""

    streams: int
    chunks: int
    lost: int
    misplaced: int
    failed: int
    first_p50_us: float
    first_p99_us: float
    delay_p50_us: float
    delay_p99_us: float


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed (nearest rank); 0 of none."""
    rank = -(-percent * len(values) // 100)
    return sorted(values)[max(0, rank - 1)] if values else 0.0


def report(tallies: Sequence[Tally], wish: Wish, streams: int) -> StreamReport:
    """Add up the streams; one that never got as far as a tally has lost all its chunks."""
    came = sum(len(tally.delays_us) for tally in tallies)
    firsts = [tally.first_us for tally in tallies if tally.delays_us]
    delays = [delay for tally in tallies for delay in tally.delays_us]
    return StreamReport(
        streams=streams,
        chunks=came,
        lost=max(0, streams * wish.chunks - came),
        misplaced=sum(tally.misplaced for tally in tallies),
        failed=streams - sum(tally.done for tally in tallies),
        first_p50_us=percentile(firsts, 50),
        first_p99_us=percentile(firsts, 99),
        delay_p50_us=percentile(delays, 50),
        delay_p99_us=percentile(delays, 99),
    )


class Client(asyncio.Protocol):
    """One connection that asks for a stream at a time."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.WriteTransport | None = None
        self._ended: asyncio.Future[None] | None = None
        self._tally: Tally | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own class, related to asyncio's by shape

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end()

    async def stream(self, tally: Tally) -> None:
        """Ask for one stream and read it to its end, or until the connection is lost."""
        assert self._transport is not None
        self._ended = asyncio.get_running_loop().create_future()
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        tally.asked_ns = time.monotonic_ns()
        self._transport.write(self._request)
        await self._ended

    def data_received(self, data: bytes) -> None:
        self._now_ns = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        if self._tally is not None:
            self._tally.take(data, self._now_ns)

    def on_message_complete(self) -> None:
        if self._transport is not None and not self._parser.should_keep_alive():
            self._transport.close()
            self._transport = None
        self._end()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


async def run(load: Load) -> StreamReport:
    """Open the streams and read them all to their end."""
    wish = Wish(load.chunks, load.gap_ms)
    body = stream_request(load.model, wish)
    request = (
        f"POST {load.path} HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\nauthorization: Bearer {load.key}\r\n"
        f"content-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    tallies: list[Tally] = []
    left = load.streams

    async def worker(delay: float) -> None:
        nonlocal left
        await asyncio.sleep(delay)
        client: Client | None = None
        while left > 0:
            left -= 1
            if client is None or not client.usable:
                loop = asyncio.get_running_loop()
                try:
                    _, client = await loop.create_connection(lambda: Client(request), "127.0.0.1", load.port)
                except OSError:
                    continue  # a refused connection is a failed stream: it has no tally
            tally = Tally(0)
            tallies.append(tally)
            await client.stream(tally)
        if client is not None:
            client.close()

    workers = [worker(load.ramp * i / load.concurrency) for i in range(load.concurrency)]
    try:
        async with asyncio.timeout(load.timeout):
            await asyncio.gather(*workers)
    except TimeoutError:
        pass  # counted by `report`
    return report(tallies, wish, load.streams)


def arguments() -> Load:
    """Read the command line: an option for each field of `Load`."""
    parser = argparse.ArgumentParser(description="Open streams and check every chunk.")
    for one in fields(Load):
        kind = {"int": int, "float": float, "str": str}[str(one.type)]
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, required=True)
    return Load(**vars(parser.parse_args()))


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(arguments())))))
