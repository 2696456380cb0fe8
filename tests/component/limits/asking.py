"""Requests to a limiter, and what Redis then holds."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

from tenantry_service.limits import records
from tenantry_service.limits.calls import Keys
from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.limits.limiter import Decision, Mode
from tenantry_service.limits.records import StateView
from tenantry_service.limits.redis import RedisLimiter
from tenantry_service.policy import Policy

from tests.component.limits.redis_store import Client

KEYS = Keys("acme")
_names = itertools.count(1)


class Asking:
    """What a service asks of its limiter, by `await`."""

    def __init__(self, limiter: RedisLimiter) -> None:
        self.limiter = limiter

    def ask(self, policy: Policy, tokens: int = 0, nano_usd: int = 0, key: str = "default") -> asyncio.Future[Decision]:
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        name = f"req_{next(_names)}"
        note = f'["{name}","lost"]'.encode()
        self.limiter.reserve(policy, key, name, Demand(tokens, nano_usd), note, answer.set_result)
        return answer

    async def granted(self, policy: Policy, tokens: int = 0, nano_usd: int = 0) -> Reservation:
        decision = await asyncio.wait_for(self.ask(policy, tokens, nano_usd), 60)
        assert isinstance(decision, Reservation), decision
        return decision

    def settle(self, policy: Policy, reservation: Reservation, tokens: int = 0, nano_usd: int = 0) -> None:
        event = f'["{reservation.id}","used"]'.encode()
        self.limiter.settle(policy, reservation, tokens, nano_usd, exact=True, event=event)

    async def in_mode(self, policy: Policy, mode: Mode) -> None:
        """Wait until limits are counted that way."""
        await until(lambda: self.limiter.mode(policy) is mode)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for something that comes soon, or fail by the test's own limit."""
    deadline = asyncio.get_running_loop().time() + 60
    while not happened():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


def events(admin: Client) -> list[tuple[str, str]]:
    """Event and kind of all entries of the tenant's stream."""
    found = []
    entries = admin("XRANGE", KEYS.usage, "-", "+")
    assert isinstance(entries, list)
    for entry in entries:
        assert isinstance(entry, list)
        fields = entry[1]
        assert isinstance(fields, list)
        words = [word.decode() for word in fields if isinstance(word, bytes)]
        named = dict(zip(words[::2], words[1::2], strict=True))
        found.append((named["e"], named.get("k", "")))
    return found


def as_user(address: Path, name: str, password: str) -> None:
    """Write the same address for another user."""
    where = address.read_text().partition("@")[2]
    address.write_text(f"redis://{name}:{password}@{where}")


def used(reservation: Reservation) -> tuple[str, str]:
    """The entry of a settlement."""
    return f'["{reservation.id}","used"]', ""


def reservations(admin: Client) -> int:
    """How many are open."""
    # At one moment: between two commands one of them may be given back.
    both = "return {redis.call('HLEN', KEYS[1]), redis.call('ZCARD', KEYS[2])}"
    found = admin("EVAL", both, 2, KEYS.reservations, KEYS.leases)
    assert isinstance(found, list)
    count, slots = found
    assert isinstance(count, int)
    assert count == slots
    return count


def log_ins_refused(admin: Client) -> int:
    """How often somebody could not log in, since Redis was told to forget it (`ACL LOG RESET`)."""
    entries = admin("ACL", "LOG")
    assert isinstance(entries, list)
    total = 0
    for entry in entries:
        assert isinstance(entry, list)
        times = entry[1]  # behind its name, `count`
        assert isinstance(times, int)
        total += times
    return total


def state(admin: Client) -> StateView:
    """The tenant's."""
    packed = admin("GET", KEYS.state)
    assert isinstance(packed, bytes)
    return records.read_state(packed)
