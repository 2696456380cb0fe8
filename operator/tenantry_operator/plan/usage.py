"""What a tenant has used, from the ledger's roll-up to what its status shows. Pure."""

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from tenantry_operator.api.allowance import BudgetWindow
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Usage
from tenantry_operator.api.units import format_usd


class _Window(Struct, frozen=True, rename="camel"):
    """A day or a month of the roll-up."""

    start: str = ""
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0


class RollUp(Struct, frozen=True, rename="camel"):
    """What the ledger writer keeps of each tenant for readers, the fields in use."""

    day: _Window = _Window()
    month: _Window = _Window()


def rolled_up(document: str | None) -> RollUp | None:
    """Read it; None when there is none, or none that we can read."""
    if document is None:
        return None
    try:
        return msgspec.json.decode(document, type=RollUp)
    except msgspec.DecodeError:
        return None


def window_of(spec: ResolvedSpec) -> BudgetWindow:
    """Over which window usage is shown: that of the budget."""
    return BudgetWindow.MONTH if spec.budget is None else spec.budget.window


def usage(found: RollUp, window: BudgetWindow, now: datetime) -> Usage:
    """What was used in the window that ``now`` is in. A roll-up of a former window says: nothing yet in this one."""
    start = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    used = found.day
    if window is BudgetWindow.MONTH:
        start, used = start.replace(day=1), found.month
    if used.start != f"{start:%Y-%m-%d}":
        used = _Window()
    return Usage(
        window_start=start,
        requests=used.requests,
        tokens=used.input_tokens + used.output_tokens,
        spend=format_usd(used.nano_usd),
    )


def next_window(window: BudgetWindow, now: datetime) -> datetime:
    """When the next one begins."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if window is BudgetWindow.DAY:
        return today + timedelta(days=1)
    return (today.replace(day=28) + timedelta(days=4)).replace(day=1)
