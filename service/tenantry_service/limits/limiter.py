"""What every store of limits can do.

``reserve`` answers through a callback and not by ``await``: the memory store answers before it returns, and a store
across the network may gather the reserves of one loop iteration into one round trip, without a task per request.
"""

from collections.abc import Callable
from typing import Protocol

from tenantry_service.limits.buckets import Demand, Refusal, Reservation
from tenantry_service.policy import Policy


class Unknown:
    """The limiter cannot be asked (and the tenant chose to be refused then)."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


Decision = Reservation | Refusal | Unknown


class Limiter(Protocol):
    """Admission for all tenants of this process."""

    def reserve(self, policy: Policy, reservation_id: str, demand: Demand, done: Callable[[Decision], None]) -> None:
        """Decide, and call ``done`` exactly once, at once or later, on the event loop's thread.

        A caller that has gone away meanwhile still gets its answer, and settles what was granted.
        """

    def settle(self, policy: Policy, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
        """Correct a reservation to what was used. Called exactly once for each one granted."""
