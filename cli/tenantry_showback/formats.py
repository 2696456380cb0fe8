"""A statement in public formats: OpenCost's allocation JSON and FOCUS rows."""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tenantry_usage.focus import COLUMNS, UNIT_PRICES

from tenantry_showback.statement import GIB, Line, Statement, Use

NANO = 10**9

#: Names that OpenCost gives to what belongs to nobody.
IDLE, OVERHEAD = "__idle__", "__overhead__"


class Window(NamedTuple):
    """From when to when, both aware; the end is not part of it."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> int:
        """How long it is."""
        return int((self.end - self.start).total_seconds())


def allocations(
    statement: Statement, uses: Iterable[Use], window: Window, *, minutes: float | None = None
) -> list[dict[str, dict[str, object]]]:
    """What ``GET /allocation/compute?aggregate=label:tenant`` answers as ``data``: one set for the whole window.

    ``minutes``: how much of the window was seen, if not all of it. An allocation then begins as much later: OpenCost's
    clients work out rates from its ``start`` and ``end``.

    https://github.com/opencost/opencost/blob/develop/core/pkg/opencost/allocation_json.go
    Costs are numbers there, not strings; nano-dollars survive that up to some four million dollars.
    """
    cpu: dict[str, int] = {}
    memory: dict[str, int] = {}
    for use in uses:
        cpu[use.tenant] = cpu.get(use.tenant, 0) + use.cpu_milli_seconds
        memory[use.tenant] = memory.get(use.tenant, 0) + use.memory_byte_seconds
    seen = window.seconds / 60 if minutes is None else minutes
    found = {
        line.tenant: _allocation(line.tenant, window, seen, cpu.get(line.tenant, 0), memory.get(line.tenant, 0), line)
        for line in statement.lines
    }
    for name, amount in ((IDLE, statement.idle), (OVERHEAD, statement.overhead)):
        if amount:
            found[name] = _allocation(name, window, seen, 0, 0, Line(name, 0, 0, 0, amount, 0))
    return [found]


def _allocation(name: str, window: Window, minutes: float, cpu: int, memory: int, line: Line) -> dict[str, object]:
    seconds = max(1.0, minutes * 60)
    return {
        "name": name,
        "properties": {"labels": {"tenantry_dev_tenant": name}} if not name.startswith("__") else {},
        "window": {"start": _stamp(window.start), "end": _stamp(window.end)},
        "start": _stamp(window.end - timedelta(minutes=minutes)),
        "end": _stamp(window.end),
        "minutes": minutes,
        "cpuCores": cpu / 1000 / seconds,
        "cpuCoreHours": cpu / 1000 / 3600,
        "cpuCost": line.cpu / NANO,
        "ramBytes": memory / seconds,
        "ramByteHours": memory / 3600,
        "ramGiBHours": memory / GIB / 3600,
        "ramCost": line.memory / NANO,
        "gpuCost": 0.0,
        "networkCost": 0.0,
        "loadBalancerCost": 0.0,
        "pvCost": 0.0,
        "sharedCost": (line.idle + line.overhead) / NANO,
        "externalCost": line.tokens / NANO,
        "totalCost": line.total / NANO,
    }


def focus(statement: Statement, window: Window, *, account: str, region: str = "") -> str:
    """The statement as FOCUS 1.2 in CSV: a row for each part of each tenant's cost, and for what was kept."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    parts = (
        ("cpu", "Compute", "CPU of the tenant's pods"),
        ("memory", "Compute", "Memory of the tenant's pods"),
        ("idle", "Compute", "Share of nodes that nobody asked for"),
        ("overhead", "Management and Governance", "Share of what serves all tenants"),
        ("tokens", "AI and Machine Learning", "Tokens"),
    )
    for line in statement.lines:
        for part, category, what in parts:
            amount: int = getattr(line, part)
            if amount:
                writer.writerow(_row(line.tenant, part, category, what, amount, window, account, region))
    for name, amount in ((IDLE, statement.idle), (OVERHEAD, statement.overhead)):
        if amount:
            writer.writerow(_row(name, name.strip("_"), "Compute", "Not shared out", amount, window, account, region))
    return out.getvalue()


def _row(
    tenant: str, part: str, category: str, what: str, amount: int, window: Window, account: str, region: str
) -> Mapping[str, str]:
    cost = f"{amount // NANO}.{amount % NANO:09}"
    start, end = _stamp(window.start), _stamp(window.end)
    owner = (
        {}
        if tenant.startswith("__")
        else {"SubAccountId": tenant, "SubAccountName": tenant, "SubAccountType": "Tenant"}
    )
    return {
        **dict.fromkeys(COLUMNS, ""),
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        **dict.fromkeys((*UNIT_PRICES, "PricingCurrencyEffectiveCost"), cost),
        "BillingAccountId": account,
        "BillingAccountName": account,
        "BillingAccountType": "Cluster",
        "BillingCurrency": "USD",
        "PricingCurrency": "USD",
        "BillingPeriodStart": _stamp(_month(window.start)),
        "BillingPeriodEnd": _stamp(_next_month(window.start)),
        "ChargeCategory": "Usage",
        "ChargeDescription": what,
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "ConsumedQuantity": "1",
        "ConsumedUnit": "Share",
        "PricingCategory": "Standard",
        "PricingQuantity": "1",
        "PricingUnit": "Share",
        "InvoiceIssuerName": "Tenantry",
        "ProviderName": "Tenantry",
        "PublisherName": "Tenantry",
        "RegionId": region,
        "RegionName": region,
        "ResourceId": f"tenant/{tenant}",
        "ResourceName": tenant,
        "ResourceType": "Tenant" if owner else "Cluster",
        "ServiceCategory": category,
        "ServiceName": "Tenantry",
        "ServiceSubcategory": "Generative AI" if part == "tokens" else f"Other ({category})",
        "SkuId": part,
        "SkuMeter": "Share",
        "SkuPriceId": part,
        **owner,
        "Tags": "{}",
    }


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _month(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(moment: datetime) -> datetime:
    first = _month(moment)
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
