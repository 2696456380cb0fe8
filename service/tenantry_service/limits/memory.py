"""Limits in this process's memory: exact for one process, gone with it. For the laptop, and a tenant with one pod."""

import time
from collections.abc import Callable

from tenantry_service.limits import buckets
from tenantry_service.limits.buckets import Demand, Reservation, State
from tenantry_service.limits.limiter import Decision
from tenantry_service.policy import Policy


class MemoryLimiter:
    """See :class:`tenantry_service.limits.limiter.Limiter`. State lives per tenant *name*, so that a new policy or a
    new key keeps what was used. A slot needs no lease here: its owner and this store die together."""

    def __init__(
        self,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._states: dict[str, State] = {}

    def reserve(self, policy: Policy, reservation_id: str, demand: Demand, done: Callable[[Decision], None]) -> None:
        """Decide at once: ``done`` is called before this returns."""
        state = self._states.get(policy.tenant)
        if state is None:
            state = self._states[policy.tenant] = State()
        wall_us = self._wall_ns() // 1000
        buckets.advance(state, policy.limits, policy.budget, self._monotonic_ns() // 1000, wall_us)
        done(buckets.reserve(state, policy.limits, policy.budget, demand, reservation_id, wall_us))

    def settle(self, policy: Policy, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
        """Correct a reservation to what was used."""
        buckets.settle(self._states[policy.tenant], policy.budget, reservation, tokens, nano_usd, exact=exact)
