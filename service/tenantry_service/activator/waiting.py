"""Who waits for whom, and how many may. No I/O; times are passed in (monotonic seconds)."""

from collections.abc import Callable

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.telemetry import Histogram

#: Seconds, from a pod that was almost up to a node that had to be bought.
BOUNDS = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0)


def _full(message: str, wait_ms: int) -> ApiError:
    return ApiError(
        status=503,
        error_type=errors.ErrorType.TENANTRY_OVERLOADED,
        message=message,
        type="service_unavailable_error",
        code="waking_up",
        headers=errors.retry_after(wait_ms),
    )


FULL = _full("This tenant is waking up, and as many requests as may wait for it already do; repeat shortly.", 2_000)
TOO_LONG = _full("This tenant is waking up, which takes longer than a request may wait; repeat it shortly.", 5_000)


class Waiting:
    """The requests that wait. ``wanted`` is called for a tenant that somebody begins to wait for."""

    def __init__(self, most: int, most_per_tenant: int, wanted: Callable[[], None]) -> None:
        self._most, self._most_per_tenant, self._wanted = most, most_per_tenant, wanted
        self._count: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self.total = 0
        self.refused = 0
        self.cold_start, self.held = Histogram(BOUNDS), Histogram(BOUNDS)

    def tenants(self) -> tuple[str, ...]:
        """Who is waited for."""
        return tuple(self._count)

    def enter(self, tenant: str, now: float) -> bool:
        """A request begins to wait; False if it may not. Whoever may must ``leave``."""
        waiting = self._count.get(tenant, 0)
        if self.total >= self._most or waiting >= self._most_per_tenant:
            self.refused += 1
            return False
        self.total += 1
        self._count[tenant] = waiting + 1
        if not waiting:
            self._since[tenant] = now
            self._wanted()
        return True

    def leave(self, tenant: str, since: float, now: float, *, served: bool) -> None:
        """It waits no more: there is a pod (``served``), or it has gone or given up."""
        self.total -= 1
        self._count[tenant] -= 1
        if served:
            self.held.observe(now - since)
            began = self._since.pop(tenant, None)
            if began is not None:  # the first of them: the others waited for less
                self.cold_start.observe(now - began)
        if not self._count[tenant]:
            del self._count[tenant]
            self._since.pop(tenant, None)
