"""`GET /tenantry/v1/usage`: a tenant, with its own key, hears what it has used and what is left."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tenantry_service import app
from tenantry_service.ledger import spend
from tenantry_service.ledger.sqlite import SqliteLedger
from tenantry_service.limits.decisions import Demand
from tenantry_service.limits.memory import MemoryLimiter
from tenantry_service.policy import Budget, Key, Policy, Upstream, Window
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.pool import Upstreams
from tenantry_service.proxy.snapshot import Snapshot, TenantView
from tenantry_service.telemetry import Telemetry
from tenantry_service.usage_report import Source
from tenantry_service.usage_sources import OwnSource, RedisSource
from tenantry_service.writer.rollups import Publisher

from tests.component.ledger.making import event, put
from tests.component.ledger.world import World

SECRET = "tn_abcdefghijkl_" + "x" * 43
POLICY = Policy(
    tenant="acme",
    generation=1,
    keys=(
        Key(
            id="abcdefghijkl",
            name="web",
            sha256=hashlib.sha256(SECRET.encode()).hexdigest(),
            budget=Budget(amount_nano_usd=500, window=Window.MONTH),
        ),
    ),
    budget=Budget(amount_nano_usd=10_000, window=Window.DAY),
    upstreams=(Upstream(name="main", base_url="http://x"),),
)


async def ask(source: Source, key: str | None = SECRET) -> tuple[int, Any]:
    """Status and body."""
    engine = Engine(MemoryLimiter(), None, Telemetry(), Upstreams())
    engine.swap(Snapshot([TenantView(POLICY, {})]))
    transport = httpx2.ASGITransport(app.build(engine, source))
    async with httpx2.AsyncClient(transport=transport, base_url="http://pod") as client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        answer = await client.get("/tenantry/v1/usage", headers=headers)
    return answer.status_code, json.loads(answer.content)


@pytest.fixture
async def laptop(tmp_path: Path) -> AsyncIterator[OwnSource]:
    """A process of its own that has served two requests and is at a third."""
    ledger, limiter = SqliteLedger(tmp_path / "ledger.sqlite"), MemoryLimiter()
    for name in ("a", "b"):
        ledger.append(event(name, key_name="web", nano_usd=1500))
    limiter.reserve(POLICY, "web", "c", Demand(10, 400), b"", lambda _: None)
    while ledger.queued:  # noqa: ASYNC110 - a thread empties it
        await asyncio.sleep(0.01)
    yield OwnSource(ledger.path, limiter)
    ledger.close()


async def test_a_laptop_says_what_is_in_its_file_and_what_its_limiter_knows(today: date, laptop: OwnSource) -> None:
    status, said = await ask(laptop)
    assert status == 200
    assert (said["tenant"], said["key"]["name"], said["day"]["requests"]) == ("acme", "web", 2)
    assert said["day"]["nanoUsd"] == said["month"]["nanoUsd"] == 3000
    assert [(line["day"], line["model"], line["requests"]) for line in said["days"]] == [(str(today), "gpt-4o", 2)]
    assert (said["budget"]["window"], said["budget"]["spentNanoUsd"]) == ("Day", 400)
    assert said["budget"]["remainingNanoUsd"] == 9_600
    assert (said["key"]["budget"]["spentNanoUsd"], said["key"]["budget"]["remainingNanoUsd"]) == (400, 100)
    assert said["budget"]["start"].startswith(str(today))


@pytest.mark.parametrize("key", [None, SECRET + "x", "tn_unknown_" + "x" * 43])
async def test_nobody_else_hears_it(laptop: OwnSource, key: str | None) -> None:
    status, said = await ask(laptop, key)
    assert status == 401
    assert said["error"]["type"] == "invalid_request_error"


async def test_a_pod_says_what_the_ledger_wrote_for_it(today: date, world: World, tmp_path: Path) -> None:
    publisher = Publisher(world.redis, world.mover.connect, world.figures)
    world.mover.wrote = publisher.changed
    await put(world.redis, event("a"), event("b", tenant="globex", nano_usd=9))
    await world.round()
    await publisher.publish()
    file = tmp_path / "url"
    file.write_text(world.redis._url())
    status, said = await ask(RedisSource(file))
    assert status == 200
    assert (said["day"]["requests"], said["day"]["nanoUsd"]) == (1, 1000)
    assert said["budget"]["remainingNanoUsd"] == 10_000, "nothing was reserved by this limiter"
    assert said["asOf"] is not None


async def test_a_roll_up_of_an_earlier_window_says_nothing_of_this_one(
    world: World, tmp_path: Path, today: date
) -> None:
    old = spend.decode(
        b'{"asOf":"2020-01-01T00:00:00Z","day":{"start":"2020-01-01","requests":5},"month":{"start":"2020-01-01"}}'
    )
    assert old is not None
    await world.redis.one("SET", spend.spend_key("acme"), spend.encode(old))
    file = tmp_path / "url"
    file.write_text(world.redis._url())
    _, said = await ask(RedisSource(file))
    assert said["day"]["requests"] == 0
    assert said["day"]["start"] == str(today)


async def test_without_redis_what_is_left_is_unknown_and_not_made_up(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://127.0.0.1:1/0")
    status, said = await ask(RedisSource(file))
    assert status == 200
    assert said["asOf"] is None
    assert (said["budget"]["spentNanoUsd"], said["budget"]["remainingNanoUsd"]) == (None, None)
