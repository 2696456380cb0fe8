"""Settling for the dead: a reservation whose lease ran out is billed as it was reserved, and its slot is free again."""

import time
from collections.abc import Sequence

from tenantry_service.ledger.link import Link, RedisRefused, checked
from tenantry_service.limits import calls, records
from tenantry_service.limits.calls import Keys
from tenantry_service.limits.packed import UnreadableError
from tenantry_service.limits.records import Record
from tenantry_service.writer.figures import Figures

SWEEP_SECONDS = 5.0
#: A lease that has ended is left alone for as long again: an outage of seconds, in which nobody could renew, is not
#: billed to anybody.
GRACE_MS = calls.LEASE_MS
#: Reservations of one tenant per round; more wait for the next.
MOST = 100


class Sweeper:
    """Sweeps all tenants, again and again."""

    def __init__(self, link: Link, figures: Figures, grace_ms: int = GRACE_MS) -> None:
        self._link = link
        self._figures = figures
        self._grace_ms = grace_ms
        self._took = 0.0

    def pause(self) -> float:
        """Seconds to the next round."""
        return max(SWEEP_SECONDS, 10 * self._took)

    async def sweep(self, tenants: Sequence[str]) -> int:
        """One round; returns how many reservations were billed at their estimate.

        Raises:
            RedisGone, RedisRefused: the rest comes with the next round.
        """
        began = time.monotonic()
        clock = await self._link.one("TIME")
        assert isinstance(clock, list)
        before = int(clock[0]) * 1000 + int(clock[1]) // 1000 - self._grace_ms
        held = [Keys(tenant) for tenant in tenants]
        answers = await self._link.call(
            ("ZRANGEBYSCORE", keys.leases, "-inf", before, "LIMIT", 0, MOST) for keys in held
        )
        swept = 0
        for keys, ids in zip(held, answers, strict=True):
            if isinstance(ids, list) and ids:
                swept += await self._sweep_tenant(keys, ids, before)
        self._figures.swept += swept
        self._took = time.monotonic() - began
        return swept

    async def _sweep_tenant(self, keys: Keys, ids: Sequence[bytes], before: int) -> int:
        found = await self._link.one("HMGET", keys.reservations, *ids)
        assert isinstance(found, list)
        due: dict[str, Record] = {}
        unreadable: list[bytes] = []
        for reservation_id, data in zip(ids, found, strict=True):
            try:
                due[reservation_id.decode()] = records.read_record(data or b"")
            except UnreadableError:
                unreadable.append(reservation_id)
        if unreadable:
            # A slot without a record: nothing can be billed, and it must not be taken for ever.
            checked(await self._link.one("ZREM", keys.leases, *unreadable))
        return await self.run(calls.sweep(keys, due, before)) if due else 0

    async def run(self, call: calls.Call) -> int:
        """Run a script that answers a number; loads it if Redis does not know it."""
        words: tuple[int | bytes, ...] = (len(call.keys), *call.keys, call.argument)
        try:
            answer = await self._link.one("EVALSHA", call.script.sha, *words)
        except RedisRefused as refused:
            if not str(refused).startswith("NOSCRIPT"):
                raise
            answer = await self._link.one("EVAL", call.script.text, *words)
        return answer if isinstance(answer, int) else 0
