"""Service processes killed with -9 under load: what the upstream served is billed once, the rest is an estimate."""

import asyncio
import random
from pathlib import Path

from tests.bench.ledger import soak
from tests.bench.ledger.soak import Findings
from tests.bench.ledger.stage import load


def innocent(found: Findings) -> None:
    assert found.served > 20, "there was something to lose"
    assert (found.missing, found.doubled, found.wrong, found.unexplained) == ([], [], [], [])
    assert found.failed_meanwhile == [], "nobody feels that PostgreSQL is away"
    assert found.billed_nano_usd >= found.served_nano_usd


async def test_a_laptop_s_process_is_killed_and_bills_what_it_was_at_when_it_is_back(tmp_path: Path) -> None:
    deaths = 6
    async with load(tmp_path, None, 1, 8) as (asking, serving, upstream):
        for _ in range(deaths):
            served = len(upstream.served)
            await asyncio.sleep(0.2 + random.random() * 0.5)
            # However slow the machine is: it dies while it is at something.
            async with asyncio.timeout(60):
                while len(upstream.served) < served + 5:  # noqa: ASYNC110 - clients ask, an upstream answers
                    await asyncio.sleep(0.01)
            serving[0].kill()
            await serving[0].start()
    found = soak.judge(deaths, 0, asking, upstream, soak.sqlite_rows(serving[0].state_dir))
    innocent(found)
    assert found.estimated


async def test_pods_are_killed_while_stores_come_and_go(tmp_path: Path) -> None:
    found = await soak.soak(12, processes=2, clients=8, outage=4.0, pause=0.3, ledger_seconds=4.0)
    innocent(found)
    assert found.ledger_deaths
