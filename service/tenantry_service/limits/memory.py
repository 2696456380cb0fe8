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
        self._tenants: dict[str, _Tenant] = {}

    def reserve(self, policy: Policy, reservation_id: str, demand: Demand, done: Callable[[Decision], None]) -> None:
        """Decide at once: ``done`` is called before this returns."""
        tenant = self._tenants.get(policy.tenant)
        if tenant is None:
            tenant = self._tenants[policy.tenant] = _Tenant(policy)
        elif policy is not tenant.policy and (
            policy.generation > tenant.policy.generation or policy.revision != tenant.policy.revision
        ):
            tenant.take_over(policy)
        state, limits = tenant.state, tenant.policy.limits
        wall_us = self._wall_ns() // 1000
        buckets.advance(state, limits, self._monotonic_ns() // 1000, wall_us)
        done(buckets.reserve(state, limits, tenant.policy.budget, demand, reservation_id, wall_us))

    def settle(self, policy: Policy, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
        """Correct a reservation to what was used."""
        buckets.settle(self._tenants[policy.tenant].state, reservation, tokens, nano_usd, exact=exact)


class _Tenant:
    """A tenant's state, and the newest policy that any of its requests came with: one that began under an older policy
    is held to the newer limits, and does not bring the older ones back."""

    __slots__ = ("policy", "state")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = State()

    def take_over(self, policy: Policy) -> None:
        """Keep the newer of the two. A policy of the same generation but another content is the newer one."""
        if policy.generation >= self.policy.generation:
            self.policy = policy
