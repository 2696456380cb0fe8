"""Leader election against a server that keeps one Lease with compare-and-swap, on a clock of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.lease import Lease, LeaseLost, Owner, Timing

from tests.unit.operator.apiserver import PATIENCE, Asked, refusal, serving

QUICK = Timing(duration=8, deadline=5, renew=0.01, retry=0.01)


@dataclass
class Store:
    """The one Lease, and a switch to make the server fail."""

    lease: dict[str, dict[str, object]] | None = None
    version: int = 0
    failing: bool = False
    now: float = 0.0
    clients: list[Client] = field(default_factory=list)

    async def answer(self, asked: Asked) -> web.Response:
        """GET, POST and PUT as the API server does them."""
        if self.failing:
            return refusal(500, "InternalError")
        if asked.method == "GET":
            return web.json_response(self.lease) if self.lease else refusal(404, "NotFound")
        body = msgspec.json.decode(asked.body)
        if asked.method == "POST" and self.lease:
            return refusal(409, "AlreadyExists")
        if asked.method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            return refusal(409, "Conflict")
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.lease = body
        return web.json_response(body)

    @property
    def holder(self) -> object:
        """Who has it."""
        return self.lease["spec"].get("holderIdentity") if self.lease else None


class Candidate(Protocol):
    """Makes a candidate of that identity."""

    def __call__(self, identity: str, owner: Owner | None = None) -> Lease: ...


@asynccontextmanager
async def election() -> AsyncIterator[tuple[Store, Candidate]]:
    """A store and a way to make candidates for its Lease."""
    store = Store()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:

        def candidate(identity: str, owner: Owner | None = None) -> Lease:
            return Lease(
                client,
                namespace="n",
                name="l",
                identity=identity,
                timing=QUICK,
                owner=owner,
                monotonic=lambda: store.now,
            )

        yield store, candidate


async def test_of_two_candidates_one_holds_it() -> None:
    async with election() as (store, candidate):
        a, b = candidate("a"), candidate("b")
        assert sorted(await asyncio.gather(a.try_acquire(), b.try_acquire())) == [False, True]
        assert a.holds() != b.holds()
        assert store.holder in ("a", "b")


async def test_it_is_taken_over_only_after_a_full_duration_without_renewal_on_our_own_clock() -> None:
    async with election() as (store, candidate):
        a, b = candidate("a"), candidate("b")
        assert await a.try_acquire()
        store.now = 100.0
        assert not await b.try_acquire()  # the first look: from here on b counts
        store.now = 107.9
        assert not await b.try_acquire()
        store.now = 108.1
        assert await b.try_acquire()
        assert store.lease is not None
        assert store.lease["spec"]["leaseTransitions"] == 1


async def test_a_holder_that_renews_keeps_it() -> None:
    async with election() as (store, candidate):
        a, b = candidate("a"), candidate("b")
        await a.try_acquire()
        keeping = asyncio.create_task(a.keep())
        for step in range(6):
            version = store.version
            async with asyncio.timeout(PATIENCE):
                while store.version == version:  # noqa: ASYNC110 - counted by the server
                    await asyncio.sleep(0.005)
            store.now += 4
            assert not await b.try_acquire(), step
        keeping.cancel()


async def test_the_holder_stops_before_anybody_else_may_start() -> None:
    async with election() as (store, candidate):
        a = candidate("a")
        await a.try_acquire()
        store.now = 4.9
        assert a.holds()
        store.now = 5.1
        assert not a.holds()
        assert QUICK.deadline < QUICK.duration


async def test_no_renewal_in_time_is_a_loss() -> None:
    async with election() as (store, candidate):
        a = candidate("a")
        await a.try_acquire()
        store.failing = True
        keeping = asyncio.create_task(a.keep())
        await asyncio.sleep(0.05)
        assert not keeping.done()
        store.now = 5.1
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LeaseLost):
                await keeping


async def test_being_overruled_is_a_loss_at_once() -> None:
    async with election() as (store, candidate):
        a, b = candidate("a"), candidate("b")
        await a.try_acquire()
        keeping = asyncio.create_task(a.keep())
        async with asyncio.timeout(PATIENCE):
            while not await b.try_acquire(force=True):  # noqa: ASYNC110 - tries, as the hook does
                await asyncio.sleep(0)
            with pytest.raises(LeaseLost, match="taken by another"):
                await keeping
        assert store.holder == "b"


async def test_a_renewal_whose_answer_got_lost_is_no_loss() -> None:
    async with election() as (store, candidate):
        a = candidate("a")
        await a.try_acquire()
        store.version += 1  # as if our own renewal had been stored and its answer lost
        assert store.lease is not None
        store.lease["metadata"]["resourceVersion"] = str(store.version)
        keeping = asyncio.create_task(a.keep())
        async with asyncio.timeout(PATIENCE):
            while store.version < 4:  # noqa: ASYNC110 - counted by the server
                await asyncio.sleep(0.005)
        assert not keeping.done()
        assert a.holds()
        keeping.cancel()


async def test_a_released_lease_is_free_at_once() -> None:
    async with election() as (store, candidate):
        a, b = candidate("a"), candidate("b")
        await a.try_acquire()
        await a.release()
        assert not a.holds()
        assert store.holder is None
        assert await b.try_acquire()


async def test_it_belongs_to_its_holders_owner_through_renewals_and_to_nobody_after_the_next_take_over() -> None:
    account = Owner("v1", "ServiceAccount", "tenantry-operator", "uid-1")
    async with election() as (store, candidate):
        a, hook = candidate("a"), candidate("hook", account)
        await a.try_acquire()
        assert store.lease is not None
        assert "ownerReferences" not in store.lease["metadata"]
        assert await hook.try_acquire(force=True)
        version = store.version
        keeping = asyncio.create_task(hook.keep())
        async with asyncio.timeout(PATIENCE):
            while store.version < version + 2:  # noqa: ASYNC110 - counted by the server
                await asyncio.sleep(0.005)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        assert store.lease["metadata"]["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "ServiceAccount", "name": "tenantry-operator", "uid": "uid-1"}
        ]
        assert await candidate("b").try_acquire(force=True)
        assert "ownerReferences" not in store.lease["metadata"]


async def test_waiting_for_it_outlasts_a_server_that_fails() -> None:
    async with election() as (store, candidate):
        store.failing = True
        a = candidate("a")
        waiting = asyncio.create_task(a.acquire())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        store.failing = False
        async with asyncio.timeout(PATIENCE):
            await waiting
        assert a.holds()
