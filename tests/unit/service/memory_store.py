"""The law itself as a store, under a clock that the test sets."""

from tenantry_service.limits import buckets
from tenantry_service.limits.bounds import Bounds
from tenantry_service.limits.buckets import State
from tenantry_service.limits.decisions import Demand, Refusal, Reservation


class MemoryStore:
    """See `limits_law.Store`."""

    def __init__(self) -> None:
        self.tenant = State()
        self.keys: dict[str, State] = {}

    def reserve(
        self, now_ms: int, generation: int, tenant: Bounds, keys: dict[str, Bounds], key: str, name: str, demand: Demand
    ) -> Reservation | Refusal:
        buckets.advance(self.tenant, tenant, now_ms, now_ms)
        bounds = keys.get(key)
        if bounds is None:
            return buckets.reserve(self.tenant, None, demand, name, now_ms)
        state = self.keys.setdefault(key, State())
        buckets.advance(state, bounds, now_ms, now_ms)
        return buckets.reserve(self.tenant, state, demand, name, now_ms, key)

    def settle(self, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
        key = self.keys[reservation.key_name] if reservation.key_name else None
        buckets.settle(self.tenant, key, reservation, tokens, nano_usd, exact=exact)

    def close(self) -> None:
        pass
