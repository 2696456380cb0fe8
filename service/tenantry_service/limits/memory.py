"""Limits in this process's memory: exact for one process, gone with it. For the laptop, and a tenant with one pod."""

import time
from collections.abc import Callable

from tenantry_service.limits import buckets
from tenantry_service.limits.bounds import Bounds, Held
from tenantry_service.limits.buckets import State
from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.limits.limiter import Decision, Limiter, Mode
from tenantry_service.policy import Policy


class MemoryLimiter(Limiter):
    """See :class:`tenantry_service.limits.limiter.Limiter`. State lives per tenant *name* and key *id*, so that a new
    policy or a new secret keeps what was used. A slot needs no lease here: its owner and this store die together."""

    def __init__(
        self,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._tenants: dict[str, _Tenant] = {}

    @property
    def accepting(self) -> bool:
        """There is nothing that could be full."""
        return True

    @property
    def records(self) -> bool:
        """Events go to a ledger of their own."""
        return False

    def mode(self, policy: Policy) -> Mode:
        """Always the same."""
        return Mode.MEMORY

    def reserve(
        self,
        policy: Policy,
        key_name: str,
        reservation_id: str,
        demand: Demand,
        note: bytes,
        done: Callable[[Decision], None],
    ) -> None:
        """Decide at once: ``done`` is called before this returns."""
        tenant = self._tenants.get(policy.tenant)
        if tenant is None:
            tenant = self._tenants[policy.tenant] = _Tenant(policy)
        elif policy is not tenant.held.policy:
            tenant.take_over(policy)
        now_ms, wall_ms = self._monotonic_ns() // 1_000_000, self._wall_ns() // 1_000_000
        state, held = tenant.state, tenant.held
        buckets.advance(state, held.tenant, now_ms, wall_ms)
        bounds = held.keys.get(key_name) if held.keys else None
        if bounds is None:
            done(buckets.reserve(state, None, demand, reservation_id, wall_ms))
            return
        key = tenant.key(key_name, bounds)
        buckets.advance(key, bounds, now_ms, wall_ms)
        done(buckets.reserve(state, key, demand, reservation_id, wall_ms, key_name))

    def settle(
        self, policy: Policy, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool, event: bytes
    ) -> None:
        """Correct a reservation to what was used."""
        tenant = self._tenants[policy.tenant]
        key = tenant.keys[reservation.key_name] if reservation.key_name else None
        buckets.settle(tenant.state, key, reservation, tokens, nano_usd, exact=exact)

    def spent(self, tenant: str, key_name: str) -> tuple[int, int, int, int] | None:
        """The budget windows of a tenant, or of a key of it that is named: the day's beginning and what was spent or
        reserved in it, and the month's. None if nothing was ever asked for."""
        known = self._tenants.get(tenant)
        if known is None:
            return None
        state = known.keys.get(key_name) if key_name else known.state
        return None if state is None else (state.day, state.day_spent, state.month, state.month_spent)


class _Tenant:
    """A tenant's state, and the newest policy that any of its requests came with: one that began under an older policy
    is held to the newer limits, and does not bring the older ones back."""

    __slots__ = ("held", "keys", "state")

    def __init__(self, policy: Policy) -> None:
        self.held = Held(policy)
        self.state = State()
        self.keys: dict[str, State] = {}

    def take_over(self, policy: Policy) -> None:
        """Keep the newer of the two."""
        if self.held.older_than(policy):
            self.held = Held(policy)

    def key(self, key_name: str, bounds: Bounds) -> State:
        """The state of a key with limits of its own."""
        found = self.keys.get(key_name)
        if found is None:
            found = self.keys[key_name] = State()
        return found
