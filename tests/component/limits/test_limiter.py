"""The limiter over a real Redis, in good times."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from tenantry_service.limits import calls, courier, records, signs
from tenantry_service.limits.decisions import Refusal, Reservation
from tenantry_service.limits.limiter import Decision, Mode
from tenantry_service.limits.redis import RedisLimiter
from tenantry_service.policy import Budget, Limits, Window

from tests.component.limits.asking import KEYS, Asking, as_user, events, reservations, state, until, used
from tests.component.limits.conftest import running
from tests.component.limits.redis_store import Client
from tests.unit.service.playbook import policy

OPEN = policy()


@pytest.fixture
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is asked once for what the test asks: no sign of life falls due meanwhile, and nothing comes too late."""
    monkeypatch.setattr(signs, "RENEW_SECONDS", 600)
    monkeypatch.setattr(courier, "TIMEOUT_SECONDS", 600)


@pytest.mark.usefixtures("today")
async def test_a_settlement_frees_what_was_reserved_and_hands_its_event_on(asking: Asking, admin: Client) -> None:
    limited = policy(limits=Limits(tokens_per_minute=100), budget=Budget(amount_nano_usd=1000, window=Window.DAY))
    reservation = await asking.granted(limited, tokens=90, nano_usd=900)
    assert (reservation.standing.tokens_left, state(admin).day_nano_usd) == (10, 900)
    assert reservations(admin) == 1
    asking.settle(limited, reservation, tokens=5, nano_usd=50)
    await until(lambda: bool(events(admin)))
    assert events(admin) == [used(reservation)]
    assert (reservations(admin), state(admin).day_nano_usd) == (0, 50)
    assert isinstance(await asking.ask(limited, tokens=90), Reservation)


@pytest.mark.usefixtures("undisturbed")
async def test_what_one_loop_iteration_brings_is_one_script_run(asking: Asking, admin: Client) -> None:
    first = await asking.granted(OPEN)
    admin("CONFIG", "RESETSTAT")
    answers = [asking.ask(OPEN) for _ in range(20)]
    asking.settle(OPEN, first)
    await asyncio.gather(*answers)
    told = admin("INFO", "commandstats")
    assert isinstance(told, bytes)
    assert b"cmdstat_evalsha:calls=1," in told


@pytest.mark.usefixtures("undisturbed")
async def test_a_settlement_waits_a_moment_for_a_reserve_to_travel_with(
    asking: Asking, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "LINGER_SECONDS", 600)
    one_slot = policy(limits=Limits(concurrent_requests=1))
    first = await asking.granted(one_slot)
    admin("CONFIG", "RESETSTAT")
    asking.settle(one_slot, first)
    for _ in range(10):
        await asyncio.sleep(0)
    # It goes first: its slot is free for the one behind it.
    second = await asking.granted(one_slot)
    told = admin("INFO", "commandstats")
    assert isinstance(told, bytes)
    assert b"cmdstat_evalsha:calls=1," in told
    assert events(admin) == [used(first)]
    asking.settle(one_slot, second)
    assert await asking.limiter.finish(60) == 0
    assert events(admin) == [used(first), used(second)], "a process that ends does not wait"


async def test_a_settlement_without_company_goes_alone(asking: Asking, admin: Client) -> None:
    first = await asking.granted(OPEN)
    asking.settle(OPEN, first)
    await until(lambda: events(admin) == [used(first)])


async def test_a_refusal_says_what_is_lacking_and_for_how_long(asking: Asking, admin: Client) -> None:
    limited = policy(limits=Limits(requests_per_minute=1))
    await asking.granted(limited)
    refused = await asking.ask(limited)
    assert isinstance(refused, Refusal)
    assert refused.wait_ms is not None
    assert 0 < refused.wait_ms <= 60_000
    assert reservations(admin) == 1


async def test_a_script_that_was_flushed_is_loaded_again(asking: Asking, admin: Client) -> None:
    await asking.granted(OPEN)
    admin("SCRIPT", "FLUSH")
    reservation = await asking.granted(OPEN)
    admin("SCRIPT", "FLUSH")
    asking.settle(OPEN, reservation)
    await until(lambda: used(reservation) in events(admin))
    assert asking.limiter.mode(OPEN) is Mode.SHARED


async def test_the_slots_of_a_dead_process_are_free_after_one_lease(
    address: Path, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between two signs of life and the end of a lease there is room for a machine that stands still for ten.
    monkeypatch.setattr(calls, "LEASE_MS", 12_000)
    monkeypatch.setattr(signs, "RENEW_SECONDS", 0.2)
    one_slot = policy(limits=Limits(concurrent_requests=1))
    async with running(dead := RedisLimiter(address)):
        held = await Asking(dead).granted(one_slot)
        # As long as the process lives, so does its slot: beyond the lease that it began with.
        await asyncio.sleep(calls.LEASE_MS / 1000 + 0.5)
        assert isinstance(await Asking(dead).ask(one_slot), Refusal)
    async with running(living := RedisLimiter(address)):
        decisions: list[Decision] = []
        while not decisions or isinstance(decisions[-1], Refusal):
            decisions.append(await Asking(living).ask(one_slot))
            await asyncio.sleep(0.02)
        # What the dead one had reserved waits for the sweeper.
        assert admin("HEXISTS", KEYS.reservations, held.id) == 1


@pytest.mark.usefixtures("today")
async def test_a_swept_reservation_is_billed_as_reserved_and_corrected_by_its_late_settlement(
    asking: Asking, admin: Client
) -> None:
    limited = policy(budget=Budget(amount_nano_usd=1000, window=Window.DAY))
    reservation = await asking.granted(limited, nano_usd=700)
    raw = admin("HGET", KEYS.reservations, reservation.id)
    assert isinstance(raw, bytes)
    record = records.read_record(raw)
    assert admin.run(calls.sweep(KEYS, {reservation.id: record}, 0)) == 0, "its lease has not run out"
    far = 2**50
    assert admin.run(calls.sweep(KEYS, {reservation.id: record}, far)) == 1
    assert admin.run(calls.sweep(KEYS, {reservation.id: record}, far)) == 0, "once"
    note = record.note.decode()
    assert events(admin) == [(note, "swept")]
    assert (reservations(admin), state(admin).day_nano_usd) == (0, 700)
    asking.settle(limited, reservation, nano_usd=20)
    await until(lambda: len(events(admin)) == 2)
    assert events(admin)[1] == (used(reservation)[0], "late")
    assert state(admin).day_nano_usd == 20


@pytest.mark.usefixtures("today")
async def test_what_the_ledger_knows_is_added_to_a_new_state_once(asking: Asking, admin: Client) -> None:
    limited = policy(budget=Budget(amount_nano_usd=1000, window=Window.MONTH))
    await asking.granted(limited, nano_usd=100)
    born = state(admin)
    assert not born.seeded
    for expected in (1, 0):
        assert admin.run(calls.seed(KEYS, "", born, 0, 850)) == expected
    assert state(admin).month_nano_usd == 950
    assert isinstance(await asking.ask(limited, nano_usd=51), Refusal)
    assert isinstance(await asking.ask(limited, nano_usd=50), Reservation)


@pytest.mark.usefixtures("today")
async def test_what_a_later_version_keeps_outlives_what_this_one_writes(asking: Asking, admin: Client) -> None:
    limited = policy(limits=Limits(tokens_per_minute=100), budget=Budget(amount_nano_usd=1000, window=Window.DAY))
    first = await asking.granted(limited, tokens=10, nano_usd=100)
    more = b"members of a later version"
    admin("APPEND", KEYS.state, more)
    raw = admin("HGET", KEYS.reservations, first.id)
    assert isinstance(raw, bytes)
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(raw), "a later version's"])
    assert records.read_record(longer).note == records.read_record(raw).note
    admin("HSET", KEYS.reservations, first.id, longer)
    second = await asking.granted(limited, tokens=10, nano_usd=100)
    for reservation in (first, second):
        asking.settle(limited, reservation, tokens=10, nano_usd=100)
    await until(lambda: len(events(admin)) == 2)
    packed = admin("GET", KEYS.state)
    assert isinstance(packed, bytes)
    assert packed.endswith(more)
    assert state(admin).day_nano_usd == 200


async def test_a_new_address_is_taken_over_without_a_gap(asking: Asking, admin: Client, address: Path) -> None:
    admin("ACL", "SETUSER", "tenant-acme", "on", ">new", "~tn:{acme}:*", "+@all")
    as_user(address, "tenant-acme", "new")

    def asked_by_the_new_user() -> bool:
        told = admin("CLIENT", "LIST")
        assert isinstance(told, bytes)
        return any("user=tenant-acme" in line and "cmd=evalsha" in line for line in told.decode().splitlines())

    while not asked_by_the_new_user():
        await asking.granted(OPEN)
        assert asking.limiter.mode(OPEN) is Mode.SHARED
    admin("ACL", "DELUSER", "tenant-acme")
