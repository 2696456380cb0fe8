"""Another Redis takes over: a replica that is promoted, and one whose clock is not ours."""

import asyncio
from pathlib import Path

import pytest
from localcluster.datastores import Redis
from tenantry_service.ledger.link import Link, RedisGone
from tenantry_service.limits.limiter import Mode, Unknown
from tenantry_service.limits.redis import RedisLimiter
from tenantry_service.policy import Budget, Limits, Window

from tests.component.limits.asking import Asking, events, reservations, state, until, used
from tests.component.limits.conftest import running
from tests.component.limits.redis_store import Client
from tests.unit.service.playbook import policy

LIMITED = policy(
    limits=Limits(requests_per_minute=100, concurrent_requests=5),
    budget=Budget(amount_nano_usd=1000, window=Window.DAY),
)


def lead_to(address: Path, server: Redis) -> None:
    address.write_text(server.url)


@pytest.mark.usefixtures("today")
async def test_a_promoted_replica_goes_on_with_what_it_knows(address: Path, admin: Client, redis_server: Redis) -> None:
    follows = (f"replicaof 127.0.0.1 {redis_server.port}", f"masterauth {redis_server.password}")
    with Redis(settings=follows) as replica:
        second = Client(replica)
        async with running(limiter := RedisLimiter(address)):
            asking = Asking(limiter)
            held = await asking.granted(LIMITED, nano_usd=100)
            done = await asking.granted(LIMITED, nano_usd=50)
            asking.settle(LIMITED, done, nano_usd=10)
            await until(lambda: used(done) in events(second))
            # A replica takes no writes: as long as the address leads there, Redis cannot be used.
            lead_to(address, replica)
            await asking.in_mode(LIMITED, Mode.REFUSING)
            second("REPLICAOF", "NO", "ONE")
            await asking.in_mode(LIMITED, Mode.SHARED)
            asking.settle(LIMITED, held, nano_usd=30)
            await until(lambda: used(held) in events(second))
            assert (reservations(second), state(second).day_nano_usd) == (0, 40)
        second.close()


async def test_a_node_of_a_cluster_is_refused_by_that_reason(address: Path) -> None:
    with Redis(settings=["cluster-enabled yes"]) as node:
        lead_to(address, node)
        async with running(limiter := RedisLimiter(address), patience=1):
            decision = await Asking(limiter).ask(LIMITED)
            while isinstance(decision, Unknown) and "has not answered yet" in decision.reason:
                await asyncio.sleep(0.05)
                decision = await Asking(limiter).ask(LIMITED)
            assert isinstance(decision, Unknown)
            assert "Redis Cluster, which is not supported" in decision.reason
        link = Link(lambda: node.url, call_seconds=60)
        with pytest.raises(RedisGone, match="Redis Cluster, which is not supported"):
            await link.one("PING")
        await link.close()


async def test_a_clock_that_steps_forward_costs_nobody_a_request(asking: Asking, admin: Client) -> None:
    await asking.granted(LIMITED)
    # As if the server's clock were ten seconds later than it was a moment ago.
    courier = asking.limiter._courier
    courier.set_clock(courier.now_ms - 10_000)
    await asking.granted(LIMITED)
    assert reservations(admin) == 2
