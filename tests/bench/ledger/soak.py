"""Service processes and the ledger's writer are killed with -9 at random moments under load, stores die and come back;
then every request that the upstream served has to be billed exactly once, and what is billed beyond that has to say
that it is an estimate.

    python -m tests.bench.ledger.soak --deaths 500
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import asyncpg
from localcluster.datastores import Postgres, Redis
from tenantry_service.ledger.link import Link
from tenantry_service.writer import streams
from tenantry_service.writer.figures import Figures
from tenantry_service.writer.sweeper import Sweeper

from tests.bench.ledger.measure import writer
from tests.bench.ledger.stage import COST, Counting, Load, Serving, load

#: The longest that a ledger's writer lives.
LEDGER_SECONDS = 20.0
#: Deaths between two lines that say how far it is.
TOLD_EVERY = 20


class Row(NamedTuple):
    """What the ledger says of a request."""

    event_id: str
    model: str
    nano_usd: int
    estimated: bool
    error_type: str
    corrects: str | None


class Findings(NamedTuple):
    """How it ended."""

    deaths: int
    ledger_deaths: int
    sent: int
    served: int
    answered: int
    rows: int
    estimated: int
    corrections: int
    billed_nano_usd: int
    served_nano_usd: int
    #: Each has to be empty.
    missing: list[str]
    doubled: list[str]
    wrong: list[str]
    unexplained: list[str]
    #: Requests that failed while PostgreSQL was away, and for no other reason that is known.
    failed_meanwhile: list[str]


def judge(deaths: int, ledger_deaths: int, asking: Load, upstream: Counting, rows: list[Row]) -> Findings:
    """Compare what was served with what is billed. Pure."""
    base = Counter(row.model for row in rows if row.corrects is None)
    sums: Counter[str] = Counter()
    guessed: set[str] = set()
    for row in rows:
        sums[row.model] += row.nano_usd
    corrected = {row.corrects for row in rows if row.corrects is not None}
    guessed = {row.model for row in rows if row.estimated and row.event_id not in corrected}
    served = upstream.served
    return Findings(
        deaths,
        ledger_deaths,
        len(asking.sent),
        len(served),
        len(asking.answered),
        len(rows),
        sum(row.estimated for row in rows),
        len(corrected),
        sum(sums.values()),
        len(served) * COST,
        missing=sorted((served | asking.answered.keys()) - base.keys()),
        doubled=sorted(model for model, count in base.items() if count > 1),
        # Exactly what it cost, or an estimate that says so; and never less than what was served, unless it says so.
        wrong=sorted(model for model in served if sums[model] != COST and model not in guessed),
        # Beyond what was served: nothing, or an estimate.
        unexplained=sorted(model for model in base if model not in served and sums[model] and model not in guessed),
        failed_meanwhile=asking.failed,
    )


async def postgres_rows(url: str) -> list[Row]:
    """All rows."""
    connection = await asyncpg.connect(url)
    found = await connection.fetch(
        "SELECT event_id, requested_model, nano_usd, estimated, error_type, corrects FROM usage_events"
    )
    await connection.close()
    return [Row(*row) for row in found]


def sqlite_rows(state_dir: Path) -> list[Row]:
    """All rows of a process's own ledger."""
    with contextlib.closing(sqlite3.connect(state_dir / "ledger.sqlite")) as connection:
        found = connection.execute(
            "SELECT event_id, requested_model, nano_usd, estimated, error_type FROM usage_events"
        )
        return [Row(event, model, nano, bool(estimated), kind, None) for event, model, nano, estimated, kind in found]


async def drained(redis: Redis) -> None:
    """Bill the dead now (all processes have ended), and wait until all events have left the streams."""
    link = Link(lambda: redis.url, call_seconds=60)
    sweeper = Sweeper(link, Figures(), grace_ms=-600_000)
    async with asyncio.timeout(180):
        while await sweeper.sweep(["soak"]) or await link.one("XLEN", streams.stream_of("soak")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await link.close()


async def soak(
    deaths: int,
    *,
    processes: int = 2,
    clients: int = 16,
    outage: float = 60.0,
    pause: float = 0.6,
    ledger_seconds: float = LEDGER_SECONDS,
    died: Callable[[int], None] = lambda _: None,
) -> Findings:
    """The whole of it: services die all the time, each by itself, and the ledger's writer now and then; in the middle
    PostgreSQL is away for ``outage`` seconds, and later Redis is killed and comes back. ``died`` hears of each death of
    a service, by its number."""
    numbers = itertools.count(1)
    ledger_deaths = 0
    over = asyncio.Event()
    with tempfile.TemporaryDirectory() as name, Redis() as redis, Postgres() as postgres:
        directory = Path(name)
        async with load(directory, redis, processes, clients) as (asking, serving, upstream):

            async def dying(victim: Serving) -> None:
                while (number := next(numbers)) <= deaths:
                    await asyncio.sleep(random.random() * pause)
                    victim.kill()
                    await victim.start()
                    died(number)
                    if number == deaths // 3:
                        await _away(postgres, outage, asking)
                    if number == 2 * deaths // 3:
                        await asyncio.to_thread(redis.kill)
                        await asyncio.to_thread(redis.start)

            async def writing() -> None:
                nonlocal ledger_deaths
                while not over.is_set():
                    with writer(redis.url, postgres.url, core=_core()) as process:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(over.wait(), random.random() * ledger_seconds)
                        process.kill()
                        ledger_deaths += 1

            async with asyncio.TaskGroup() as tasks:
                ledger = tasks.create_task(writing())
                await asyncio.gather(*(dying(each) for each in serving))
                over.set()
                await ledger
        with writer(redis.url, postgres.url, core=_core()):
            await drained(redis)
        return judge(deaths, ledger_deaths, asking, upstream, await postgres_rows(postgres.url))


def _core() -> int:
    return os.sched_getaffinity(0).pop()


async def _away(postgres: Postgres, seconds: float, asking: Load) -> None:
    await asyncio.to_thread(postgres.kill)
    asking.watched = True
    await asyncio.sleep(seconds)
    asking.watched = False
    await asyncio.to_thread(postgres.start)


def main() -> int:
    """Run, print the findings and, as the last line, JSON; returns 1 if something is missing, doubled or wrong."""
    parse = argparse.ArgumentParser(prog="python -m tests.bench.ledger.soak")
    parse.add_argument("--deaths", type=int, default=500)
    parse.add_argument("--outage", type=float, default=60.0, help="seconds without PostgreSQL")
    parse.add_argument("--clients", type=int, default=16)
    options = parse.parse_args()
    began = time.monotonic()

    def died(number: int) -> None:
        if number % TOLD_EVERY == 0:
            print(f"{number:,} of {options.deaths:,} deaths, {time.monotonic() - began:.0f} s", flush=True)

    found = asyncio.run(soak(options.deaths, clients=options.clients, outage=options.outage, died=died))
    figures = found._asdict()
    for name, value in figures.items():
        print(f"{name:<18}{value if isinstance(value, int) else [len(value), *value[:5]]}")
    bad = [*found.missing, *found.doubled, *found.wrong, *found.unexplained, *found.failed_meanwhile]
    print(json.dumps({name: value if isinstance(value, int) else len(value) for name, value in figures.items()}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
