"""From the tenants' streams to PostgreSQL: every event once, whatever comes twice, late, broken or at a bad moment."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tenantry_service.ledger import codec, daily, postgres, schema
from tenantry_service.ledger.event import UsageEvent
from tenantry_service.ledger.link import Link
from tenantry_service.writer import streams
from tenantry_service.writer.streams import Entry, stream_of

from tests.component.ledger.making import event, lost, put
from tests.component.ledger.world import PATIENT, World


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    world.streams.watch(await streams.tenants(world.redis))
    task = asyncio.create_task(world.mover.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.02)


async def test_an_event_becomes_a_row_with_all_its_fields_and_leaves_the_stream(world: World) -> None:
    made = event("a", service_tier="flex", audio_input_tokens=3, key_name="web", stream=True)
    await put(world.redis, made)
    await world.round()
    (row,) = await world.rows()
    for field in UsageEvent._fields:
        if field != "occurred_at_ms":
            assert row[field] == getattr(made, field), field
    assert round(row["occurred_at"].timestamp() * 1000) == made.occurred_at_ms
    assert await world.waiting() == 0
    assert await world.redis.one("EXISTS", stream_of("acme")) == 1, "ids stay monotonic while the key is there"


async def test_the_same_event_again_changes_nothing(world: World) -> None:
    made = event("a")
    for cost in (1000, 5000):
        await put(world.redis, made._replace(nano_usd=cost), made._replace(nano_usd=cost))
        await world.round()
    assert [row["nano_usd"] for row in await world.rows()] == [1000]
    for view in ("usage_by_day", "usage_by_month"):
        (row,) = await world.rows(f"SELECT * FROM {view}")
        assert (row["requests"], row["nano_usd"], str(row["usd"])) == (1, 1000, "0.000001000"), view
    assert (world.figures.new, world.figures.repeated) == (1, 3)


@pytest.mark.parametrize("apart", [True, False])
async def test_real_usage_that_comes_late_corrects_the_estimate_by_a_row_of_differences(
    world: World, apart: bool
) -> None:
    real = event("a")
    await put(world.redis, lost(real))
    if apart:
        await world.round()
    for _ in range(2):
        await put(world.redis, real)
    await world.round()
    await put(world.redis, lost(real), real)
    await world.round()
    estimate, correction = sorted(await world.rows(), key=lambda row: row["corrects"] is not None)
    assert (estimate["nano_usd"], estimate["estimated"]) == (90_000, True)
    assert (correction["nano_usd"], correction["corrects"]) == (1000 - 90_000, real.event_id)
    (day,) = await world.rows("SELECT * FROM usage_daily")
    assert (day["requests"], day["nano_usd"], day["estimated"]) == (1, 1000, 0)
    assert (day["input_tokens"], day["output_tokens"]) == (10, 5)
    (request,) = await world.rows("SELECT * FROM usage_requests")
    assert (request["request_id"], request["nano_usd"], request["estimated"]) == (real.event_id, 1000, False)


async def test_what_is_no_event_is_set_aside_and_holds_up_nobody(world: World) -> None:
    good = event("good")
    far = event("far")._replace(occurred_at_ms=time.time_ns() // 1_000_000 + 10 * 86_400_000)
    await put(world.redis, event("other", tenant="globex")._replace(tenant="acme"))
    key = stream_of("acme")
    await world.redis.call(
        [
            ("XADD", key, "*", "e", b"not json"),
            ("XADD", key, "*", "other", "field"),
            ("XADD", key, "*", "e", b'["a",1]'),
        ]
    )
    await put(world.redis, far, good._replace(event_id="x" * 40))
    await world.redis.call([("XADD", stream_of("globex"), "*", "e", codec.encode(event("forged", tenant="acme")))])
    await put(world.redis, good)
    await world.round()
    assert {row["event_id"] for row in await world.rows()} >= {good.event_id}
    letters = await world.rows("SELECT * FROM usage_dead_letters")
    assert sorted(row["reason"].partition(":")[0] for row in letters) == [
        "is from the future",
        "names another tenant",
        "no event",
        "no event",
        "no event",
    ]
    assert b"not json" in {row["payload"] for row in letters}
    assert world.figures.dead == 5
    assert await world.waiting() == await world.waiting("globex") == 0


async def test_an_event_that_the_database_refuses_is_set_aside_and_its_neighbours_are_stored(world: World) -> None:
    connection = await world.mover.connect()
    await connection.execute("ALTER TABLE usage_events ADD CONSTRAINT odd CHECK (nano_usd <> 666)")
    connection.terminate()
    await put(world.redis, *(event(f"{number}", nano_usd=666 if number == 3 else 1) for number in range(9)))
    await world.round()
    assert len(await world.rows()) == 8
    (letter,) = await world.rows("SELECT * FROM usage_dead_letters")
    assert "odd" in letter["reason"]
    assert await world.waiting() == 0


@pytest.mark.usefixtures("today")
async def test_a_month_s_end_puts_rows_into_their_own_partitions(world: World) -> None:
    day = 86_400_000
    now = time.time_ns() // 1_000_000
    old = event("old")._replace(occurred_at_ms=now - 45 * day)
    old = old._replace(event_id=f"req_{old.occurred_at_ms:011x}old")
    await put(world.redis, old, event("new"))
    await world.round()
    found = await world.rows("SELECT tableoid::regclass::text AS place FROM usage_events ORDER BY created_at")
    months = [daily.month_of(now - 45 * day), daily.month_of(now)]
    assert [row["place"] for row in found] == [postgres.partition(month) for month in months]


async def test_two_writers_at_once_store_every_event_once(redis: Link, database: str) -> None:
    first, second = World(redis, database), World(Link(redis._url, PATIENT), database)
    await put(redis, *(event(f"{number}") for number in range(200)))
    taken = await first.read_round()
    connections = [await each.mover.connect() for each in (first, second)]
    # Without the lock that keeps the second waiting: the statements themselves bear it.
    await asyncio.gather(
        *(each.mover.store(connection, taken) for each, connection in zip((first, second), connections, strict=True))
    )
    for connection in connections:
        connection.terminate()
    assert len(await first.rows()) == 200
    (day,) = await first.rows("SELECT sum(requests) AS n FROM usage_daily")
    assert day["n"] == 200
    await second.redis.close()


async def test_only_one_of_two_writers_writes_and_the_other_takes_over(redis: Link, database: str) -> None:
    first, second = World(redis, database), World(Link(redis._url, PATIENT), database)
    await put(redis, event("1"))
    async with running(second):
        async with running(first):
            await until(lambda: _is(first.figures.writing or second.figures.writing))
            await asyncio.sleep(0.1)
            assert first.figures.writing is not second.figures.writing
        await until(lambda: _is(second.figures.writing))
        await put(redis, event("2"))
        await until(lambda: _equals(second.waiting(), 0))
    assert len(await first.rows()) == 2
    await second.redis.close()


async def _is(value: bool) -> bool:
    return value


async def _equals(value: Any, wanted: int) -> bool:
    return bool(await value == wanted)


async def test_a_newer_schema_keeps_taking_what_an_older_writer_writes(world: World) -> None:
    connection = await world.mover.connect()
    newest = schema.migrations()
    added = schema.Migration(newest[-1].version + 1, "more", "ALTER TABLE usage_events ADD COLUMN region text", 1)
    assert await schema.migrate(connection, (*newest, added)) == 1
    assert await schema.migrate(connection, (*newest, added)) == 0
    await put(world.redis, event("a"))
    await world.round()
    assert [row["region"] for row in await world.rows()] == [None]
    breaking = schema.Migration(added.version + 1, "break", "SELECT 1", added.version + 1)
    await schema.migrate(connection, (*newest, added, breaking))
    connection.terminate()
    with pytest.raises(schema.SchemaError, match="roll out the newer version"):
        await world.mover.connect()


async def test_writers_that_start_together_make_the_schema_once(world: World) -> None:
    connections = await asyncio.gather(*(world.mover.connect() for _ in range(4)))
    for connection in connections:
        connection.terminate()
    versions = await world.rows("SELECT version FROM tenantry_schema ORDER BY version")
    assert [row["version"] for row in versions] == [step.version for step in schema.migrations()]


def _tenants(entries: Sequence[Entry]) -> set[str]:
    return {entry.tenant for entry in entries}


async def test_a_busy_tenant_does_not_keep_the_others_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BATCH_ENTRIES", 200)
    await put(world.redis, *(event(f"{number}", tenant="busy") for number in range(500)))
    names = [f"t{number}" for number in range(5)]
    await put(world.redis, *(event("one", tenant=name) for name in names))
    seen: set[str] = set()
    for _ in range(4):
        seen |= _tenants(await world.read()) if not seen else _tenants(await world.streams.read({}))
    assert seen == {"busy", *names}


async def test_thousands_of_streams_with_little_in_each_are_one_round(world: World) -> None:
    await put(world.redis, *(event("one", tenant=f"t{number}") for number in range(3_000)))
    assert len(_tenants(await world.read())) == 3_000


async def test_the_turn_goes_round_although_tenants_come_and_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BATCH_ENTRIES", 200)
    names = [f"t{number:02d}" for number in range(12)]
    await put(world.redis, *(event(f"{number}", tenant=name) for name in names for number in range(100)))
    seen: list[str] = []
    for number in range(6):
        # As the search for tenants does, every few seconds.
        world.streams.watch([*names, *(f"new{other}" for other in range(number))])
        seen += _tenants(await world.streams.read({}))
    assert sorted(seen) == names


async def test_a_password_that_was_rotated_is_taken_over(redis: Link, database: str) -> None:
    url = redis._url()
    told = [url.replace(":", ":wrong", 2).replace("redis:wrong", "redis:", 1)]
    link = Link(lambda: told[0], PATIENT)
    with pytest.raises(ConnectionError, match="refuses"):
        await link.one("PING")
    told[0] = url
    assert await link.one("PING") == b"PONG"
    await link.close()


async def test_postgres_trouble_leaves_everything_in_the_streams(redis: Link) -> None:
    world = World(redis, "postgresql://nobody:x@127.0.0.1:1/none")
    await put(redis, event("a"))
    async with running(world):
        await until(lambda: _is("postgres: " in (world.figures.problem or "")))
    assert await world.waiting() == 1
    assert not world.figures.writing
