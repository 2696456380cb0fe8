"""Limits in Redis, for all replicas of a tenant together.

What one loop iteration asks for a tenant is one run of one script, which takes along what has been used. A reservation
is durable with its lease: if this process dies, the slot is free when the lease ends, and the sweeper bills what was
reserved. A settlement is kept until Redis has answered it, and repeated on the next connection if it has not; Redis
knows each reservation once, so a repetition changes no limit, and the ledger knows each event once.

While Redis does not answer, a tenant's requests are refused or held to this replica's share, as its policy says.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tenantry_service.limits.answers import Granted
from tenantry_service.limits.backlog import Backlog
from tenantry_service.limits.courier import MOST_OPS, Courier
from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.limits.limiter import Limiter, Mode, Unknown
from tenantry_service.limits.link import Link
from tenantry_service.limits.settlement import Settlement
from tenantry_service.limits.signs import Signs
from tenantry_service.limits.stand_in import StandIn
from tenantry_service.limits.tenant import Asked, Done, Op, Tenant, Tenants
from tenantry_service.policy import Policy, WhenUnavailable

#: Settlements that Redis has answered are said again to the next Redis for this long: a replica that is promoted, or an
#: AOF synced every second, may not have the last of them.
SAID_AGAIN_SECONDS = 2.5

log = logging.getLogger(__name__)


class RedisLimiter(Limiter):
    """See the module, and :class:`tenantry_service.limits.limiter.Limiter`. Belongs to the loop's thread."""

    def __init__(self, file: Path, journal: Path | None = None) -> None:
        """``file`` holds Redis' address; ``journal`` is a directory that outlives this process, if there is one."""
        self._loop = asyncio.get_running_loop()
        self._link = Link(file, self)
        self._tenants = Tenants()
        self._courier = Courier(self._link, self)
        self._signs = Signs(self._link, self._courier, self._tenants)
        self._backlog = Backlog(journal)
        self._answered: deque[tuple[float, Settlement]] = deque()
        self._stand_in = StandIn()
        self._reason = "Redis has not answered yet"
        self._settlements = 0
        self._absences = 0

    # What the service calls.

    @property
    def accepting(self) -> bool:
        """False while the backlog is full."""
        return not self._backlog.full

    @property
    def records(self) -> bool:
        """Events travel with the settlements."""
        return True

    def figures(self) -> tuple[int, int, int]:
        """Settlements that wait for Redis, those that it has, and how often it was lost."""
        return len(self._backlog), self._settlements, self._absences

    def mode(self, policy: Policy) -> Mode:
        """How this tenant's limits are counted now."""
        if self._link.up:
            return Mode.SHARED
        local = policy.limits.when_unavailable is WhenUnavailable.LOCAL_SHARE
        return Mode.LOCAL_SHARE if local else Mode.REFUSING

    def reserve(
        self, policy: Policy, key_name: str, reservation_id: str, demand: Demand, note: bytes, done: Done
    ) -> None:
        """Ask with all others of this loop iteration."""
        tenant = self._tenants.under(policy)
        tenant.used_at = self._loop.time()
        asked = Asked(key_name, reservation_id, demand, note, done)
        if self._link.up:
            self._courier.put(tenant, asked)
        else:
            self._decide_alone(tenant, asked)

    def settle(
        self, policy: Policy, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool, event: bytes
    ) -> None:
        """Tell Redis, now or when it is back."""
        tenant = self._tenants.under(policy)
        tenant.live.pop(reservation.id, None)
        if reservation.local:
            self._stand_in.settle(reservation, tokens, nano_usd, exact=exact)
        settlement = Settlement(policy.tenant, reservation, tokens, nano_usd, exact, event, self._courier.now_ms)
        if self._link.up:
            self._courier.put(tenant, settlement)
        else:
            self._backlog.add(settlement)

    async def run(self) -> None:
        """Keep in touch with Redis for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            tasks.create_task(self._signs.run())

    async def started(self, timeout_seconds: float) -> None:
        """Wait until Redis answers, but no longer than that: a new pod's network may let it out only after a while."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._link.stood.wait()
        except TimeoutError:
            log.warning("Redis has not answered yet")

    async def finish(self, timeout_seconds: float) -> int:
        """Wait until all is settled; returns what is not."""
        try:
            async with asyncio.timeout(timeout_seconds):
                self._courier.flush()
                while self._backlog or self._link.busy:
                    await self._link.idle()
                    self._courier.flush()
        except TimeoutError:
            log.warning("Redis does not take all that was used", extra={"settlements": len(self._backlog)})
        return self._backlog.close()

    # What comes back.

    def granted(self, tenant: Tenant, asked: Asked, granted: Granted) -> None:
        """A reserve was granted."""
        tenant.day_spent, tenant.month_spent = granted.day_spent, granted.month_spent
        tenant.live[asked.id] = (asked.limited_key, self._loop.time())
        asked.done(granted.reservation)

    def kept(self, settlement: Settlement) -> None:
        """Redis has a settlement."""
        now = self._loop.time()
        self._settlements += 1
        self._backlog.done(settlement)
        answered = self._answered
        answered.append((now, settlement))
        while answered[0][0] < now - SAID_AGAIN_SECONDS:
            answered.popleft()

    def unanswered(self, tenant: Tenant, ops: Sequence[Op], reason: str) -> None:
        """Redis did not answer."""
        self._reason = reason
        self.unsent(tenant, ops)

    def unsent(self, tenant: Tenant, ops: Sequence[Op]) -> None:
        """There was no way to Redis."""
        for op in ops:
            if isinstance(op, Settlement):
                self._backlog.add(op)
            else:
                self._decide_alone(tenant, op)

    def replayed(self) -> None:
        """Part of the backlog is there: send the next."""
        taken = self._backlog.take(MOST_OPS)
        if taken:
            self._courier.send(self._tenants.named(taken[0].tenant), [*taken], from_backlog=True)

    # Without Redis, and when it is back.

    def _decide_alone(self, tenant: Tenant, asked: Asked) -> None:
        assert tenant.held is not None
        policy = tenant.held.policy
        if policy.limits.when_unavailable is not WhenUnavailable.LOCAL_SHARE:
            asked.done(Unknown(self._reason))
            return
        decision = self._stand_in.reserve(
            policy, tenant.replicas, tenant.day_spent, tenant.month_spent, asked.key_name, asked.id, asked.demand
        )
        if isinstance(decision, Reservation):
            self._backlog.begin(tenant.name, asked.id, asked.note)
        asked.done(decision)

    def link_down(self, reason: str) -> None:
        """Redis does not answer."""
        self._reason = reason
        self._absences += 1
        self._stand_in = StandIn()

    def link_up(self, now_ms: int, *, again: bool) -> None:
        """Redis answers."""
        self._courier.set_clock(now_ms)
        if again:
            since = self._loop.time() - SAID_AGAIN_SECONDS
            for at, settlement in self._answered:
                if at >= since and settlement.event:
                    settlement.sent = True
                    self._backlog.add(settlement)
            self._answered.clear()
        self._signs.give(0.0)
        self.replayed()
