"""The limiter when Redis is slow, frozen, killed, empty: what is decided then, and that nothing is lost or doubled."""

import asyncio
from pathlib import Path

import pytest
from localcluster.datastores import Redis
from tenantry_service.limits.decisions import Refusal, Reservation
from tenantry_service.limits.limiter import Mode, Unknown
from tenantry_service.limits.redis import RedisLimiter
from tenantry_service.policy import Budget, Limits, WhenUnavailable, Window

from tests.component.limits.asking import Asking, as_user, events, log_ins_refused, reservations, state, until, used
from tests.component.limits.conftest import running
from tests.component.limits.redis_store import Client
from tests.unit.service.playbook import policy

OPEN = policy()
SHARING = policy(limits=Limits(requests_per_minute=2, when_unavailable=WhenUnavailable.LOCAL_SHARE))


@pytest.mark.usefixtures("as_shipped")
async def test_a_frozen_redis_is_given_up_within_its_time_and_nothing_stays_taken(
    asking: Asking, admin: Client, redis_server: Redis
) -> None:
    while not isinstance(held := await asking.ask(OPEN), Reservation):
        # A busy machine had kept Redis from answering.
        await asking.in_mode(OPEN, Mode.SHARED)
    redis_server.freeze()
    try:
        decision = await asyncio.wait_for(asking.ask(OPEN), 60)
        assert isinstance(decision, Unknown)
        assert "did not answer" in decision.reason
        assert asking.limiter.mode(OPEN) is Mode.REFUSING
        asking.settle(OPEN, held)
    finally:
        redis_server.thaw()
    await asking.in_mode(OPEN, Mode.SHARED)
    # The reserve that came through after all is given back, for nobody was served.
    await until(lambda: reservations(admin) == 0)
    assert set(events(admin)) == {used(held)}


@pytest.mark.usefixtures("today")
async def test_what_was_used_while_redis_was_dead_is_there_afterwards_once(
    asking: Asking, admin: Client, redis_server: Redis
) -> None:
    limited = policy(budget=Budget(amount_nano_usd=1000, window=Window.DAY))
    held = [await asking.granted(limited, nano_usd=100) for _ in range(5)]
    redis_server.kill()
    try:
        for reservation in held[:3]:
            asking.settle(limited, reservation, nano_usd=10)
        assert isinstance(await asyncio.wait_for(asking.ask(limited), 60), Unknown)
        asking.settle(limited, held[3], nano_usd=10)
        assert asking.limiter.accepting
    finally:
        redis_server.start()
    await asking.in_mode(limited, Mode.SHARED)
    again = Client(redis_server)
    await until(lambda: set(events(again)) == {used(reservation) for reservation in held[:4]})
    assert state(again).day_nano_usd == 4 * 10 + 100
    assert reservations(again) == 1


@pytest.mark.usefixtures("today")
async def test_a_redis_that_comes_back_empty_gets_what_was_used_and_counts_it(
    asking: Asking, admin: Client, redis_server: Redis
) -> None:
    limited = policy(budget=Budget(amount_nano_usd=1000, window=Window.DAY))
    held = await asking.granted(limited, nano_usd=100)
    admin("FLUSHALL")
    other = await asking.granted(limited, nano_usd=5)
    asking.settle(limited, held, nano_usd=30)
    await until(lambda: used(held) in events(admin))
    assert state(admin).day_nano_usd == 35
    asking.settle(limited, other, nano_usd=5)


async def test_without_redis_a_replica_may_hold_its_tenant_to_its_share(
    asking: Asking, admin: Client, redis_server: Redis
) -> None:
    await asking.granted(SHARING)
    redis_server.kill()
    try:
        await asking.in_mode(SHARING, Mode.LOCAL_SHARE)
        decisions = [await asyncio.wait_for(asking.ask(SHARING), 60) for _ in range(3)]
        assert [type(decision) for decision in decisions] == [Reservation, Reservation, Refusal]
        first = decisions[0]
        assert isinstance(first, Reservation)
        asking.settle(SHARING, first)
    finally:
        redis_server.start()
    await asking.in_mode(SHARING, Mode.SHARED)
    again = Client(redis_server)
    await until(lambda: used(first) in events(again))


async def test_what_a_process_could_not_say_is_said_by_the_next(
    address: Path, admin: Client, redis_server: Redis
) -> None:
    kept = address.parent / "unsettled"
    async with running(first := RedisLimiter(address, kept)):
        held = await Asking(first).granted(OPEN)
        sharing = await Asking(first).granted(SHARING)
        redis_server.kill()
        try:
            await Asking(first).in_mode(SHARING, Mode.LOCAL_SHARE)
            local = await Asking(first).granted(SHARING)
            Asking(first).settle(OPEN, held)
            Asking(first).settle(SHARING, sharing)
            assert await first.finish(0.1) == 2
        finally:
            redis_server.start()
    async with running(RedisLimiter(address, kept)):
        again = Client(redis_server)
        expected = {used(held), used(sharing), (f'["{local.id}","lost"]', "")}
        await until(lambda: set(events(again)) == expected)


async def test_while_a_new_address_does_not_work_the_old_connection_serves(
    asking: Asking, admin: Client, address: Path
) -> None:
    admin("ACL", "LOG", "RESET")
    as_user(address, "nobody", "wrong")
    # The second attempt comes when the limiter has heard of the first one's end.
    await until(lambda: log_ins_refused(admin) >= 2)
    assert isinstance(await asking.ask(OPEN), Reservation)
    assert asking.limiter.mode(OPEN) is Mode.SHARED


async def test_who_begins_while_redis_cannot_be_reached_yet_waits_for_it(
    address: Path, admin: Client, redis_server: Redis
) -> None:
    redis_server.kill()
    limiter = RedisLimiter(address)
    touch = asyncio.create_task(limiter.run())
    try:
        await limiter.started(0.5)
        assert limiter.mode(OPEN) is Mode.REFUSING
        starting = asyncio.create_task(limiter.started(60))
        redis_server.start()
        await starting
        assert limiter.mode(OPEN) is Mode.SHARED
    finally:
        touch.cancel()
        await asyncio.gather(touch, return_exceptions=True)


async def test_answers_that_come_too_late_twice_are_no_answers(
    asking: Asking, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    courier = asking.limiter._courier
    with monkeypatch.context() as behind:
        # As if this process stood still on the way to Redis each time.
        courier.set_clock(courier.now_ms - 10_000)
        behind.setattr(courier, "set_clock", lambda now_ms: None)
        decision = await asking.ask(OPEN)
        assert isinstance(decision, Unknown)
        assert "too late" in decision.reason
        held = await asking.granted(SHARING)
        assert held.local
    asking.settle(SHARING, held)
    await until(lambda: set(events(admin)) == {used(held)})
