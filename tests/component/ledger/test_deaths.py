"""Whoever dies, and whenever: every event is one row, and the daily sums are those of the rows."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from localcluster.datastores import Postgres, Redis
from tenantry_service.ledger.link import Link
from tenantry_service.writer.streams import stream_of

from tests.component.ledger.dying_writer import REPEATED_STEPS, STEPS
from tests.component.ledger.making import event, put
from tests.component.ledger.world import PATIENT

DYING = Path(__file__).with_name("dying_writer.py")
EVENTS, TENANTS = 900, 7


@contextmanager
def writer(directory: Path, redis: str, database: str) -> Iterator[subprocess.Popen[bytes]]:
    """`tenantry ledger`."""
    files = directory / "redis-url", directory / "database-url"
    for file, url in zip(files, (redis, database), strict=True):
        file.write_text(url)
    command = [sys.executable, "-m", "tenantry", "ledger", "--redis-file", files[0], "--database-file", files[1]]
    command += ["--host", "127.0.0.1", "--port", "0", "--log-level", "error"]
    process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(PATIENT) == 0


async def totals(database: str) -> tuple[int, int, int, int]:
    """Rows, their money, and the same according to the daily sums."""
    connection = await asyncpg.connect(database)
    rows = await connection.fetchrow("SELECT count(*), coalesce(sum(nano_usd), 0)::bigint FROM usage_events")
    days = await connection.fetchrow(
        "SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(nano_usd), 0)::bigint FROM usage_daily"
    )
    await connection.close()
    return (*rows, *days)


async def drained(redis: Link) -> None:
    """Wait until no stream holds anything."""
    async with asyncio.timeout(120):
        while any(await redis.call(("XLEN", stream_of(f"t{n}")) for n in range(TENANTS))):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("step", STEPS)
async def test_a_writer_killed_at_any_step_loses_nothing_and_doubles_nothing(
    redis: Link, database: str, tmp_path: Path, step: str
) -> None:
    made = [event(f"{number}", tenant=f"t{number % TENANTS}", nano_usd=number) for number in range(EVENTS)]
    await put(redis, *made)
    for times in (1, 2):
        # The first connection makes the schema; it cannot die there a second time within one life.
        command = [sys.executable, str(DYING), redis._url(), database, step, "1" if step == "connected" else str(times)]
        died = await asyncio.to_thread(subprocess.run, command, check=False, timeout=120)
        assert died.returncode == -9
    with writer(tmp_path, redis._url(), database):
        await drained(redis)
    money = sum(range(EVENTS))
    assert await totals(database) == (EVENTS, money, EVENTS, money)


@pytest.mark.parametrize("step", REPEATED_STEPS)
async def test_a_writer_killed_over_events_that_are_rows_already_counts_them_once(
    redis: Link, database: str, tmp_path: Path, step: str
) -> None:
    made = [event(f"{number}", tenant=f"t{number % TENANTS}", nano_usd=number) for number in range(EVENTS)]
    # Every third is a row already: it was committed by one who died before he could delete it.
    await put(redis, *made[::3])
    with writer(tmp_path, redis._url(), database):
        await drained(redis)
    await put(redis, *made)
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(DYING), redis._url(), database, step, "1"], check=False, timeout=120
    )
    assert died.returncode == -9
    with writer(tmp_path, redis._url(), database):
        await drained(redis)
    money = sum(range(EVENTS))
    assert await totals(database) == (EVENTS, money, EVENTS, money)


async def test_redis_and_postgres_die_while_events_come_and_are_moved(tmp_path: Path) -> None:
    """Stores that keep what they have acknowledged; producers that know what was acknowledged."""
    with Redis() as store, Postgres() as postgres:
        redis = Link(lambda: store.url, PATIENT)
        acknowledged: set[str] = set()
        stop = asyncio.Event()

        async def produce() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                made = event(f"{number}", tenant=f"t{number % TENANTS}")
                while True:
                    try:
                        await put(redis, made)
                        break
                    except ConnectionError:
                        # As a pod does: the same event again, until it is acknowledged.
                        await asyncio.sleep(0.01)
                acknowledged.add(made.event_id)

        with writer(tmp_path, store.url, postgres.url):
            producing = asyncio.create_task(produce())
            for moment in range(4):
                await asyncio.sleep(0.7)
                victim = (store, postgres)[moment % 2]
                await asyncio.to_thread(victim.kill)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(victim.start)
            await asyncio.sleep(0.5)
            stop.set()
            await producing
            await drained(redis)
        rows, _, requests, _ = await totals(postgres.url)
        assert rows == requests == len(acknowledged)
        await redis.close()


async def test_events_wait_while_postgres_is_away_and_nobody_else_feels_it(tmp_path: Path) -> None:
    with Redis() as store, Postgres(settings={"fsync": "off"}) as postgres:
        redis = Link(lambda: store.url, PATIENT)
        with writer(tmp_path, store.url, postgres.url):
            await put(redis, *(event(f"a{number}", tenant="t0") for number in range(50)))
            await drained(redis)
            postgres.kill()
            took = []
            for first in range(0, 50, 10):
                began = time.monotonic()
                await put(redis, *(event(f"b{number}", tenant="t0") for number in range(first, first + 10)))
                took.append(time.monotonic() - began)
            # Of several, the one in the middle: a machine that stands still for a moment is felt by one of them.
            assert statistics.median(took) < 1, "who writes events does not feel it"
            await asyncio.sleep(2)
            assert await redis.one("XLEN", stream_of("t0")) == 50
            await asyncio.to_thread(postgres.start)
            await drained(redis)
        assert (await totals(postgres.url))[0] == 100
        await redis.close()
