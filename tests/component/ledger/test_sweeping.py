"""The dead: their reservations are billed as reserved; and a Redis that forgot is told what was spent."""

from typing import Any

import pytest
from tenantry_service.ledger import codec
from tenantry_service.ledger.event import UsageEvent
from tenantry_service.ledger.link import Link
from tenantry_service.limits import answers, calls, records
from tenantry_service.limits.answers import Granted
from tenantry_service.limits.bounds import Held
from tenantry_service.limits.calls import Batch, Keys
from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.policy import Budget, Limits, Policy, Upstream, Window
from tenantry_service.writer.figures import Figures
from tenantry_service.writer.seeding import Seeder
from tenantry_service.writer.sweeper import Sweeper

from tests.component.ledger.making import event, lost, put
from tests.component.ledger.world import World

POLICY = Policy(
    tenant="acme",
    generation=1,
    upstreams=(Upstream(name="main", base_url="http://x"),),
    limits=Limits(requests_per_minute=100, tokens_per_minute=100_000, concurrent_requests=2),
    budget=Budget(amount_nano_usd=10**12, window=Window.DAY),
)
KEYS = Keys("acme")
#: Everything whose lease ends within the next minute is taken for dead.
DEAD = -60_000


async def run(redis: Link, call: calls.Call) -> Any:
    return await redis.one("EVAL", call.script.text, len(call.keys), *call.keys, call.argument)


async def transact(redis: Link, batch: Batch) -> Any:
    call = batch.call(1, Held(POLICY).tenant, {}, 2**52)
    said = answers.read_answers(await run(redis, call), len(batch.ops))
    return said.now_ms, said.results


async def reserve(redis: Link, note: UsageEvent) -> Reservation:
    batch = Batch(KEYS)
    demand = Demand(440, note.nano_usd)
    batch.reserve(note.event_id, "", demand, codec.encode(note))
    now, (result,) = await transact(redis, batch)
    decision = answers.read_decision(result, now, note.event_id, "", demand)
    assert isinstance(decision, Granted), decision
    return decision.reservation


def sweeper(redis: Link) -> Sweeper:
    return Sweeper(redis, Figures(), DEAD)


async def test_a_dead_pod_s_request_is_billed_as_reserved_and_its_slot_is_free(world: World) -> None:
    made = event("a")
    await reserve(world.redis, lost(made))
    living = Sweeper(world.redis, Figures())
    assert await living.sweep(["acme", "nobody"]) == 0, "its lease runs"
    assert await sweeper(world.redis).sweep(["acme", "nobody"]) == 1
    assert await sweeper(world.redis).sweep(["acme"]) == 0
    await world.round()
    (row,) = await world.rows()
    assert (row["event_id"], row["nano_usd"], row["estimated"]) == (made.event_id, 90_000, True)
    for name in ("b", "c"):
        await reserve(world.redis, lost(event(name)))


async def test_a_pod_that_was_thought_dead_corrects_its_bill(world: World) -> None:
    made = event("a")
    reservation = await reserve(world.redis, lost(made))
    assert await sweeper(world.redis).sweep(["acme"]) == 1
    late = calls.late(
        KEYS, reservation, 15, made.nano_usd, exact=True, event=codec.encode(made),
        occurred_ms=made.occurred_at_ms, first=True,
    )  # fmt: skip
    await run(world.redis, late)
    await world.round()
    (request,) = await world.rows("SELECT * FROM usage_requests")
    assert (request["nano_usd"], request["estimated"], request["corrections"]) == (made.nano_usd, False, 1)


async def test_scripts_are_loaded_again_after_a_flush(world: World) -> None:
    for name in ("a", "b"):
        await reserve(world.redis, lost(event(name)))
        await world.redis.one("SCRIPT", "FLUSH")
        assert await sweeper(world.redis).sweep(["acme"]) == 1


async def test_a_slot_without_a_record_is_freed(world: World) -> None:
    await world.redis.one("ZADD", KEYS.leases, 1, "orphan")
    assert await sweeper(world.redis).sweep(["acme"]) == 0
    assert await world.redis.one("ZCARD", KEYS.leases) == 0


@pytest.mark.usefixtures("today")
async def test_a_redis_that_forgot_is_told_what_was_spent_once_the_stream_is_empty(world: World) -> None:
    await put(world.redis, event("before", nano_usd=70_000))
    await world.round()
    await world.redis.one("FLUSHALL")
    note = lost(event("after"))
    await reserve(world.redis, note)
    seeder = Seeder(world.redis, sweeper(world.redis), world.mover.connect)
    await put(world.redis, event("waiting", nano_usd=5))
    await seeder.seed()
    assert await spent(world.redis) == note.nano_usd, "events are on their way"
    await world.round()
    for _ in range(2):
        await seeder.seed()
        assert await spent(world.redis) >= note.nano_usd + 70_000
        assert await spent(world.redis) <= note.nano_usd + 70_005
    assert seeder.seeded == 1


async def spent(redis: Link) -> int:
    value = await redis.one("GET", KEYS.state)
    assert isinstance(value, bytes)
    state = records.read_state(value)
    assert state.day_nano_usd == state.month_nano_usd
    return state.day_nano_usd
