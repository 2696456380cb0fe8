"""How fast one ledger writer is, as a process of its own on one core, with Redis and PostgreSQL on the others."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
from localcluster.datastores import Datastore, Postgres, Redis
from tenantry_service.ledger import codec
from tenantry_service.ledger.event import UsageEvent, new_id
from tenantry_service.ledger.link import Link
from tenantry_service.ledger.schema import Connection
from tenantry_service.writer.streams import stream_of

USAGE = (
    '{"prompt_tokens":812,"completion_tokens":164,"total_tokens":976,"prompt_tokens_details":{"cached_tokens":512,'
    '"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":64,"audio_tokens":0}}'
)
#: Events per XADD pipeline while the streams are filled.
_FILL = 2_000


class WriterFigures(NamedTuple):
    """What was measured. Shares are of one core."""

    events: int
    seconds: float
    events_per_s: float
    #: Microseconds of the writer's own CPU time per event, and of PostgreSQL's and Redis'.
    writer_us: float
    postgres_us: float
    redis_us: float
    #: With ``idle_streams`` streams that are empty: shares of a core, and how old an event gets meanwhile.
    idle_streams: int
    idle_writer_share: float
    idle_redis_share: float
    idle_seconds_to_row: float


def events(count: int, tenants: int) -> Iterator[UsageEvent]:
    """Events of several tenants in turn, as a chat makes them."""
    now = time.time_ns() // 1_000_000
    for number in range(count):
        yield UsageEvent(
            new_id(f"{number:024x}{number:x}"), f"tenant-{number % tenants}", "k3y1dk3y1dk3", now, 843,
            "/v1/chat/completions", "gpt-4o-mini", "gpt-4o-mini", "openai", 200, "none", True, 812, 512, 164, 64,
            181_800, False, "openai-2025-08-07", "0123456789ab", USAGE,
        )  # fmt: skip


def measure(count: int = 200_000, tenants: int = 50, idle_streams: int = 5_000) -> WriterFigures:
    """Fill the streams, let one writer empty them, then let it watch empty ones."""
    # Durable as in production: PostgreSQL syncs every commit, Redis every write.
    with Redis() as redis, Postgres() as postgres, asyncio.Runner() as runner:
        runner.run(_fill(redis.url, count, tenants))
        before = _cpu(redis), _cpu(postgres)
        with writer(redis.url, postgres.url) as process:
            # From its first commit on: a start is not what is measured.
            first = runner.run(_until_rows(postgres.url, 1))
            began = time.monotonic()
            runner.run(_until_rows(postgres.url, count))
            seconds = time.monotonic() - began
            own = _ticks([process.pid])
            used = own, _cpu(postgres) - before[1], _cpu(redis) - before[0]
            runner.run(_make_idle(redis.url, idle_streams))
            # It has found them all.
            time.sleep(8)
            idle_before, idle_from = (_ticks([process.pid]), _cpu(redis)), time.monotonic()
            time.sleep(10)
            idle_for = time.monotonic() - idle_from
            idle = (_ticks([process.pid]) - idle_before[0]) / idle_for, (_cpu(redis) - idle_before[1]) / idle_for
            latency = runner.run(_one_more(redis.url, postgres.url, count))
    writer_us, postgres_us, redis_us = (1e6 * part / count for part in used)
    return WriterFigures(
        count, seconds, (count - first) / seconds, writer_us, postgres_us, redis_us, idle_streams, *idle, latency
    )


@contextmanager
def writer(redis: str, database: str, core: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """`tenantry ledger` on one core."""
    with tempfile.TemporaryDirectory() as directory:
        files = Path(directory) / "redis", Path(directory) / "database"
        for file, url in zip(files, (redis, database), strict=True):
            file.write_text(url)
        command = [sys.executable, "-m", "tenantry", "ledger", "--redis-file", files[0], "--database-file", files[1]]
        command += ["--host", "127.0.0.1", "--port", "0", "--log-level", "error"]
        process = subprocess.Popen(
            list(map(str, command)), preexec_fn=lambda: os.sched_setaffinity(0, {core}), stdin=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


async def _fill(url: str, count: int, tenants: int) -> None:
    link = Link(lambda: url)
    chunk = []
    for event in events(count, tenants):
        chunk.append(("XADD", stream_of(event.tenant), "*", "e", codec.encode(event)))
        if len(chunk) == _FILL:
            await link.call(chunk)
            chunk.clear()
    await link.call(chunk)
    await link.close()


async def _until_rows(url: str, count: int) -> int:
    """How many there are once there are at least so many."""
    connection: Connection = await asyncpg.connect(url)
    async with asyncio.timeout(300):
        while True:
            if await connection.fetchval("SELECT to_regclass('usage_daily') IS NOT NULL"):
                there = int(await connection.fetchval("SELECT coalesce(sum(requests), 0) FROM usage_daily"))
                if there >= count:
                    connection.terminate()
                    return there
            await asyncio.sleep(0.02)


async def _make_idle(url: str, streams: int) -> None:
    link = Link(lambda: url)
    commands = []
    for number in range(streams):
        key = stream_of(f"idle-{number}")
        commands += [("XADD", key, "1-1", "e", b"x"), ("XDEL", key, "1-1")]
    await link.call(commands)
    await link.close()


async def _one_more(redis: str, database: str, count: int) -> float:
    """Seconds from an event in an otherwise idle stream to its row."""
    link = Link(lambda: redis)
    (event,) = events(1, 1)
    began = time.monotonic()
    await link.one("XADD", stream_of("idle-7"), "*", "e", codec.encode(event._replace(tenant="idle-7", event_id="one")))
    await link.close()
    await _until_rows(database, count + 1)
    return time.monotonic() - began


def _cpu(store: Datastore) -> float:
    """Seconds of CPU time of a server and all that it has started, ended or not."""
    children = Path(f"/proc/{store.pid}/task/{store.pid}/children").read_text().split()
    fields = Path(f"/proc/{store.pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return ended + _ticks([store.pid, *map(int, children)])


def _ticks(pids: list[int]) -> float:
    """Seconds of CPU time of processes."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
