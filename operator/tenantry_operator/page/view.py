"""What the status page shows, from the operator's picture of the cluster. No I/O, no clock."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from tenantry_operator.api.allowance import BudgetWindow
from tenantry_operator.api.conditions import Condition, ConditionStatus, ConditionType
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.settings import Settings
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.api.units import parse_usd
from tenantry_operator.interruption.signals import Kind
from tenantry_operator.kube.events import Told
from tenantry_operator.live import Live, TenantRecord


class Row(Struct, frozen=True, kw_only=True):
    """One Tenant."""

    name: str
    tier: str
    ready: bool
    reason: str
    message: str
    ready_replicas: int
    replicas: int
    in_flight: int | None
    spend: str
    budget: str
    #: Percent of the budget, rounded down; None without a budget or before usage is known.
    used: int | None


#: Why a node goes away, in words.
WHY = {
    Kind.GONE: "It has stopped.",
    Kind.LOST: "Nobody has heard of it for a while.",
    Kind.STOPPING: "It is being stopped.",
    Kind.SPOT: "Spot interruption: EC2 takes it back.",
    Kind.GROUP: "Its Auto Scaling group removes it.",
    Kind.MAINTENANCE: "AWS has scheduled work on its host.",
    Kind.DRAIN: "It is being drained.",
    Kind.REBALANCE: "A Spot interruption has become likely.",
}


class NodeAtRisk(Struct, frozen=True, kw_only=True):
    """A node that is about to go away, and when; None: nobody knows."""

    name: str
    why: str
    deadline: datetime | None


class Overview(Struct, frozen=True, kw_only=True):
    """The page's content. ``leading`` False: this replica stands by and knows nothing."""

    time: datetime
    leading: bool
    rows: tuple[Row, ...]
    #: How many Tenants there are for each reason of Ready.
    reasons: tuple[tuple[str, int], ...]
    nodes: tuple[NodeAtRisk, ...]
    events: tuple[Told, ...]


def _nothing(_: str) -> int | None:
    return None


@dataclass(slots=True)
class Board:
    """Where the page gets its content from; ``main`` fills it in once the process leads."""

    live: Live | None = None
    told: Iterable[Told] = ()
    in_flight: Callable[[str], int | None] = _nothing

    def show(self, time: datetime) -> Overview:
        """The content at this moment."""
        return overview(
            self.live or Live(),
            time=time,
            leading=self.live is not None,
            in_flight=self.in_flight,
            events=tuple(self.told),
        )


def overview(
    live: Live,
    *,
    time: datetime,
    leading: bool,
    in_flight: Callable[[str], int | None],
    events: Sequence[Told],
) -> Overview:
    """The page's content. Tenants that are not Ready come first, then by name; the latest Events first."""
    rows = [_row(record, live, in_flight) for record in live.tenants.values()]
    rows.sort(key=lambda row: (row.ready, row.name))
    counted = Counter(row.reason for row in rows)
    return Overview(
        time=time,
        leading=leading,
        rows=tuple(rows),
        reasons=tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0]))),
        nodes=tuple(
            NodeAtRisk(name=name, why=WHY[Kind(each.why)], deadline=each.deadline)
            for name, each in sorted(live.leaving.items())
        ),
        events=tuple(reversed(events)),
    )


def _row(record: TenantRecord, live: Live, in_flight: Callable[[str], int | None]) -> Row:
    status, ready = record.status, ready_condition(record)
    usage, limit = status.usage, budget_of(record, live)
    return Row(
        name=record.meta.name,
        tier=record.tenant.spec.tier if isinstance(record.tenant, Tenant) else "",
        ready=ready is not None and ready.status is ConditionStatus.TRUE,
        reason=ready.reason if ready else "",
        message=ready.message if ready else "",
        ready_replicas=status.ready_replicas,
        replicas=status.replicas,
        in_flight=in_flight(record.meta.name),
        spend=usage.spend if usage else "",
        budget=limit[0] if limit else "",
        used=100 * parse_usd(usage.spend) // parse_usd(limit[0]) if usage and limit and parse_usd(limit[0]) else None,
    )


def ready_condition(record: TenantRecord) -> Condition | None:
    """The condition Ready, if the operator has come to the Tenant."""
    return next((each for each in record.status.conditions if each.type == ConditionType.READY), None)


def budget_of(record: TenantRecord, live: Live) -> tuple[str, str] | None:
    """Amount and window of the budget that holds for a Tenant, as said; None when there is none, or nobody can tell."""
    given = [each.budget for each in _said(record, live) if each.budget is not None]
    amount = next((each.amount for each in given if each.amount is not None), None)
    window = next((each.window for each in given if each.window is not None), BudgetWindow.MONTH)
    return None if amount is None else (amount, window.value)


def most_replicas(record: TenantRecord, live: Live) -> int | None:
    """Most pods that a Tenant may have; None when nobody has said."""
    given = [each.autoscaling for each in _said(record, live) if each.autoscaling is not None]
    return next((each.max_replicas for each in given if each.max_replicas is not None), None)


def _said(record: TenantRecord, live: Live) -> list[Settings]:
    """What the Tenant says and what its tier says, as far as they can be read. Cheaper than resolving all of it."""
    if isinstance(record.tenant, FieldError):
        return []
    tier = live.tiers.get(record.tenant.spec.tier)
    return [record.tenant.spec, *([] if tier is None or isinstance(tier, FieldError) else [tier.spec])]
