"""Figures of each Tenant, from the operator's picture of the cluster at the moment of a scrape.

One series of each for every Tenant: the label is closed, and these are what dashboards and alerts about one customer
need. The money is ``status.usage``, so it is as fresh as that. In the leader only: nobody else has a picture.

They are text at once, and a Tenant's lines are kept until it or its tier changes: through the client library a scrape
of 10,000 Tenants would take half a second, in which the operator does nothing else.
"""

from collections import Counter
from collections.abc import Container

from msgspec import Struct

from tenantry_operator.api.conditions import ConditionStatus
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.page.view import budget_of, most_replicas, ready_condition


class Family(Struct, frozen=True):
    """One gauge."""

    name: str
    help: str
    #: In the order in which the client library writes them, the alphabet's.
    labels: tuple[str, ...]

    def line(self, value: float, *labels: str) -> str:
        """One sample in Prometheus' text format, version 0.0.4."""
        said = ",".join(f'{name}="{_escaped(each)}"' for name, each in zip(self.labels, labels, strict=True))
        return f"{self.name}{{{said}}} {float(value)!r}\n"

    def head(self) -> str:
        """What comes before the samples."""
        return f"# HELP {self.name} {self.help}\n# TYPE {self.name} gauge\n"


READY = Family("tenantry_tenant_ready", "1 while the Tenant is Ready.", ("tenant", "tier"))
REPLICAS = Family("tenantry_tenant_replicas", "Pods that the Tenant has.", ("tenant",))
MOST = Family("tenantry_tenant_replicas_max", "Pods that the Tenant may have.", ("tenant",))
SPENT = Family("tenantry_budget_spent_usd", "Spent in the budget's current window, in US dollars.", ("tenant",))
LIMIT = Family("tenantry_budget_limit_usd", "The budget of one window, in US dollars.", ("tenant", "window"))
OF_EACH = READY, REPLICAS, MOST, SPENT, LIMIT
COUNTS = Family("tenantry_tenants", "Tenants, by why they are Ready or not.", ("reason", "tier"))
FAMILIES = *OF_EACH, COUNTS


class _Known(Struct, frozen=True):
    """A Tenant's lines, a place for each of ``OF_EACH``, and what they were made of."""

    record: TenantRecord
    tier: TenantTier | FieldError | None
    counted: tuple[str, str]
    lines: tuple[str, ...]


class TenantMetrics:
    """All of ``FAMILIES``."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._known: dict[str, _Known] = {}

    def text(self, wanted: Container[str] = ()) -> str:
        """The families that are ``wanted``, by name; without a name all of them."""
        if wanted and not any(family.name in wanted for family in FAMILIES):
            return ""
        found = {name: self._of(name, record) for name, record in self._live.tenants.items()}
        self._known = found
        counts = Counter(each.counted for each in found.values())
        samples = [*zip(*(each.lines for each in found.values()), strict=True)] or [()] * len(OF_EACH)
        samples.append(tuple(COUNTS.line(count, *labels) for labels, count in counts.items()))
        given = zip(FAMILIES, samples, strict=True)
        return "".join(family.head() + "".join(lines) for family, lines in given if not wanted or family.name in wanted)

    def _of(self, name: str, record: TenantRecord) -> _Known:
        named = "" if isinstance(record.tenant, FieldError) else record.tenant.spec.tier
        known, tier = self._known.get(name), self._live.tiers.get(named)
        if known is not None and known.record is record and known.tier is tier:
            return known
        condition = ready_condition(record)
        good = condition is not None and condition.status is ConditionStatus.TRUE
        ceiling, budget, usage = most_replicas(record, self._live), budget_of(record, self._live), record.status.usage
        lines = (
            READY.line(good, name, named),
            REPLICAS.line(record.status.replicas, name),
            "" if ceiling is None else MOST.line(ceiling, name),
            "" if usage is None else SPENT.line(float(usage.spend), name),
            "" if budget is None else LIMIT.line(float(budget[0]), name, budget[1]),
        )
        return _Known(record, tier, (condition.reason if condition else "", named), lines)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
