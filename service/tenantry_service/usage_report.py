"""``GET /tenantry/v1/usage``: what a tenant has used and what is left of its budgets, for a holder of one of its keys.

Two sources, told apart in the answer: the ledger's roll-up (complete to some seconds ago; ``asOf``), and the limiter,
which knows what is spent and reserved at this moment and is what budgets are held to.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from tenantry_service.ledger.spend import Day, Spend, Used
from tenantry_service.limits import windows
from tenantry_service.policy import Budget, Key, Policy, Window

#: Days that are told one by one.
DAYS = 62


class Spent(NamedTuple):
    """What a limiter's state says of budget windows: their beginnings (Unix seconds), nano-USD spent or reserved."""

    day: int
    day_nano_usd: int
    month: int
    month_nano_usd: int


class Source(Protocol):
    """Where the figures come from."""

    async def spend(self, tenant: str) -> Spend | None:
        """The ledger's roll-up; None if there is none yet, or it cannot be read now."""

    async def spent(self, tenant: str, key_name: str) -> Spent | None:
        """The limiter's state of a tenant, or of one of its keys that has limits of its own (named); None if nothing
        was ever spent. Raises OSError while it cannot be asked."""


class BudgetLeft(Struct, frozen=True, kw_only=True, rename="camel"):
    """A budget and what is left of it. Money in nano-USD. ``spent`` and ``remaining`` are null while the limiter cannot
    be asked; ``remaining`` is negative where an exhausted budget only warns."""

    window: Window
    start: datetime
    end: datetime
    amount_nano_usd: int
    spent_nano_usd: int | None
    remaining_nano_usd: int | None


class KeyReport(Struct, frozen=True, kw_only=True, rename="camel"):
    """The key that asks."""

    name: str
    budget: BudgetLeft | None


class Report(Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer."""

    object: str = "usage"
    tenant: str
    key: KeyReport
    budget: BudgetLeft | None
    #: When the ledger's figures below were complete; null if there are none.
    as_of: datetime | None
    day: Used
    month: Used
    days: tuple[Day, ...]


def left(budget: Budget, spent: Spent | None, now: datetime, *, known: bool) -> BudgetLeft:
    """What is left of a budget. A window that is not the present one has nothing spent in it."""
    start = windows.window_start(budget.window, int(now.timestamp() * 1000))
    taken: int | None = None
    if known:
        taken = 0
        if spent is not None and budget.window is Window.DAY and spent.day == start:
            taken = spent.day_nano_usd
        elif spent is not None and budget.window is Window.MONTH and spent.month == start:
            taken = spent.month_nano_usd
    return BudgetLeft(
        window=budget.window,
        start=datetime.fromtimestamp(start, UTC),
        end=datetime.fromtimestamp(windows.window_end(budget.window, start), UTC),
        amount_nano_usd=budget.amount_nano_usd,
        spent_nano_usd=taken,
        remaining_nano_usd=None if taken is None else budget.amount_nano_usd - taken,
    )


async def report(policy: Policy, key: Key, source: Source, now: datetime) -> bytes:
    """The answer's body."""
    spend = await source.spend(policy.tenant)
    today = now.astimezone(UTC).date()
    made = Report(
        tenant=policy.tenant,
        key=KeyReport(name=key.name, budget=await _budget(key.budget, policy.tenant, key.name, source, now)),
        budget=await _budget(policy.budget, policy.tenant, "", source, now),
        as_of=None if spend is None else spend.as_of,
        day=_window(None if spend is None else spend.day, today),
        month=_window(None if spend is None else spend.month, today.replace(day=1)),
        days=() if spend is None else spend.days,
    )
    return msgspec.json.encode(made)


async def _budget(
    budget: Budget | None, tenant: str, key_name: str, source: Source, now: datetime
) -> BudgetLeft | None:
    if budget is None:
        return None
    try:
        return left(budget, await source.spent(tenant, key_name), now, known=True)
    except OSError:
        return left(budget, None, now, known=False)


def _window(sums: Used | None, start: date) -> Used:
    """What a roll-up says of the present window: nothing, if it was made in an earlier one and nothing came since."""
    if sums is None or sums.start != start:
        return Used(start=start)
    return sums


def rolled_up(lines: Iterable[Day], now: datetime) -> Spend:
    """A roll-up from daily lines, for a ledger that has nobody to make one."""
    today = now.astimezone(UTC).date()
    month = today.replace(day=1)
    day_sums, month_sums = Used(start=today), Used(start=month)
    found = sorted(lines, key=lambda line: (line.day, line.nano_usd, line.model), reverse=True)
    for line in found:
        if line.day == today:
            day_sums = day_sums.plus(line)
        if line.day >= month:
            month_sums = month_sums.plus(line)
    return Spend(as_of=now, day=day_sums, month=month_sums, days=tuple(found))


def since(now: datetime) -> date:
    """The first day that is told."""
    return now.astimezone(UTC).date() - timedelta(days=DAYS)
