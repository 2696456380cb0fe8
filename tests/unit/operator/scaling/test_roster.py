"""What activators are told, and what is known of them."""

import asyncio
from typing import Any

import pytest
from tenantry_operator.scaling import roster as module
from tenantry_operator.scaling.roster import DEMAND, SILENCE, Roster
from tenantry_service.roster import Sleeper, SleeperKey, SyncRequest

ACME = Sleeper(tenant="acme", keys=(SleeperKey(id="k", sha256="0" * 64),))


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.01)


def asks(instance: str = "one", **more: Any) -> SyncRequest:
    return SyncRequest(instance=instance, address="10.0.0.9", port=8000, **more)


async def test_an_activator_is_told_what_it_does_not_know_yet() -> None:
    roster = Roster()
    roster.announce(ACME)
    told = await roster.answer(asks())
    assert [each.tenant for each in told.sleepers] == ["acme"]
    assert not roster.known("acme")
    again = await roster.answer(asks(epoch=told.epoch, version=told.version))
    assert again.sleepers == ()
    assert roster.known("acme")


async def test_of_two_both_have_to_know() -> None:
    roster = Roster()
    first = await roster.answer(asks("one"))
    roster.announce(ACME)
    second = await roster.answer(asks("two"))
    await roster.answer(asks("two", epoch=second.epoch, version=second.version))
    assert not roster.known("acme")
    await roster.answer(asks("one", epoch=first.epoch, version=second.version))
    assert roster.known("acme")


async def test_news_ends_the_wait() -> None:
    module.POLL = 3600.0
    roster = Roster()
    known = await asyncio.wait_for(_after(roster, lambda: roster.announce(ACME)), 60)
    assert [each.tenant for each in known.sleepers] == ["acme"]


async def _after(roster: Roster, act: Any) -> Any:
    waiting = asyncio.create_task(roster.answer(asks()))
    await asyncio.sleep(0)
    act()
    return await waiting


async def test_after_a_restart_of_the_operator_all_is_told_again() -> None:
    before, after = Roster(), Roster()
    before.announce(ACME)
    told = await before.answer(asks())
    after.announce(ACME)
    again = await after.answer(asks(epoch=told.epoch, version=told.version))
    assert again.epoch != told.epoch
    assert [each.tenant for each in again.sleepers] == ["acme"]
    assert not after.known("acme")


async def test_what_has_not_changed_is_not_told_twice() -> None:
    roster = Roster()
    roster.announce(ACME)
    told = await roster.answer(asks())
    roster.announce(ACME)
    assert (await roster.answer(asks(epoch=told.epoch, version=told.version))).version == told.version


async def test_who_is_withdrawn_is_told_as_gone_and_then_forgotten() -> None:
    roster = Roster()
    roster.announce(ACME)
    told = await roster.answer(asks())
    roster.withdraw("acme")
    gone = await roster.answer(asks(epoch=told.epoch, version=told.version))
    assert [each.gone for each in gone.sleepers] == [True]
    assert not roster.announced("acme")
    await roster.answer(asks(epoch=gone.epoch, version=gone.version))
    assert (await roster.answer(asks())).sleepers == ()


async def test_a_silent_activator_is_none() -> None:
    clock = Clock()
    roster = Roster(clock=clock)
    await roster.answer(asks())
    assert (roster.places(), roster.port()) == (frozenset({"10.0.0.9"}), 8000)
    clock.now += SILENCE + 1
    assert roster.places() == frozenset()


async def test_a_tenant_is_asked_for_as_long_as_somebody_asks() -> None:
    clock = Clock()
    stirred: list[str] = []
    roster = Roster(stirred.append, clock)
    await roster.answer(asks(wake=("acme",)))
    assert roster.demanded("acme")
    assert set(stirred) == {"acme"}
    clock.now += DEMAND + 0.1
    assert not roster.demanded("acme")
