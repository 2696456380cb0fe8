"""What the status page shows, from the operator's picture of the cluster. No I/O, no clock."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from tenantry_operator.api.conditions import Condition, ConditionStatus, ConditionType
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.api.units import parse_usd
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


class NodeAtRisk(Struct, frozen=True, kw_only=True):
    """A node that is about to go away, and until when its pods can stay."""

    name: str
    why: str
    deadline: datetime | None


class Told(Struct, frozen=True, kw_only=True):
    """An Event that this process has recorded."""

    time: datetime
    about: str
    reason: str
    note: str
    warning: bool


class Overview(Struct, frozen=True, kw_only=True):
    """The page's content. ``leading`` False: this replica stands by and knows nothing."""

    time: datetime
    leading: bool
    rows: tuple[Row, ...]
    #: How many Tenants there are for each reason of Ready.
    reasons: tuple[tuple[str, int], ...]
    nodes: tuple[NodeAtRisk, ...]
    events: tuple[Told, ...]


def overview(
    live: Live,
    *,
    time: datetime,
    leading: bool,
    in_flight: Callable[[str], int | None],
    nodes: Iterable[NodeAtRisk],
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
        nodes=tuple(sorted(nodes, key=lambda node: node.name)),
        events=tuple(reversed(events)),
    )


def _row(record: TenantRecord, live: Live, in_flight: Callable[[str], int | None]) -> Row:
    status, ready = record.status, _ready(record)
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


def _ready(record: TenantRecord) -> Condition | None:
    return next((each for each in record.status.conditions if each.type == ConditionType.READY), None)


def budget_of(record: TenantRecord, live: Live) -> tuple[str, str] | None:
    """Amount and window of the budget that holds for a Tenant, as said; None when there is none, or nobody can tell."""
    tenant = record.tenant
    if isinstance(tenant, FieldError):
        return None
    tier = live.tiers.get(tenant.spec.tier)
    given = [tenant.spec.budget, None if tier is None or isinstance(tier, FieldError) else tier.spec.budget]
    amount = next((each.amount for each in given if each is not None and each.amount is not None), None)
    window = next((each.window.value for each in given if each is not None and each.window is not None), "Month")
    return None if amount is None else (amount, window)
