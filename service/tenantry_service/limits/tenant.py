"""What a process keeps of each tenant whose limits are in Redis."""

from collections.abc import Callable, Iterator

from tenantry_service.limits.bounds import Held
from tenantry_service.limits.calls import Keys
from tenantry_service.limits.decisions import Demand
from tenantry_service.limits.limiter import Decision
from tenantry_service.limits.settlement import Settlement
from tenantry_service.policy import Policy

Done = Callable[[Decision], None]


class Asked:
    """A reserve under way. ``limited_key`` is the key's name if it has limits of its own, else empty; ``again``: it was
    asked a second time."""

    __slots__ = ("again", "demand", "done", "id", "key_name", "limited_key", "note")

    def __init__(self, key_name: str, id: str, demand: Demand, note: bytes, done: Done) -> None:  # noqa: A002
        self.key_name = key_name
        self.limited_key = ""
        self.id = id
        self.demand = demand
        self.note = note
        self.done = done
        self.again = False


Op = Asked | Settlement


class Tenant:
    """One tenant as this process sees it. ``held`` is None for one whose settlements a dead process left."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys = Keys(name)
        self.held: Held | None = None
        #: What the present loop iteration has brought.
        self.waiting: list[Op] = []
        #: Reservations that are not settled: the key's name if that has limits, and since when (loop time).
        self.live: dict[str, tuple[str, float]] = {}
        self.used_at = 0.0
        #: What Redis last said: processes that serve this tenant, nano-USD spent in the present day and month.
        self.replicas = 1
        self.day_spent = 0
        self.month_spent = 0


class Tenants:
    """All of a process, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Tenant] = {}

    def __iter__(self) -> Iterator[Tenant]:
        return iter(list(self._by_name.values()))

    def under(self, policy: Policy) -> Tenant:
        """Held to the newest policy that any of its requests came with, see ``limits/memory.py``."""
        tenant = self.named(policy.tenant)
        held = tenant.held
        if held is None or (policy is not held.policy and held.older_than(policy)):
            tenant.held = Held(policy)
        return tenant

    def named(self, name: str) -> Tenant:
        """Known or not."""
        tenant = self._by_name.get(name)
        if tenant is None:
            tenant = self._by_name[name] = Tenant(name)
        return tenant
