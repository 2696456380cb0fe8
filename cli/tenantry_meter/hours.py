"""Samples of the cluster, added up by the hour. Pure.

A sample says what holds now; it is taken to have held since the one before. Prices are per month, times are seconds,
and both are only multiplied here: the division is the last thing that happens, so nothing is lost over the hours.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from msgspec import Struct
from tenantry_showback.statement import NodeCost, Sharing, Statement, Use, state

#: Of a month, as price books have it.
MONTH_SECONDS = 730 * 3600

HOUR = timedelta(hours=1)


class Sample(NamedTuple):
    """What holds at a moment. Nodes are priced per month; uses are of one second; ``spent``: each tenant's spend so far
    in its budget's window, in nano-USD, which begins anew with every window."""

    nodes: Sequence[NodeCost]
    overhead: int
    uses: Sequence[Use]
    spent: Mapping[str, int]


class Hour(Struct):
    """An hour, or as much of it as was seen. Node -> [price x seconds, milli-CPU x seconds, bytes x seconds]; owner and
    node -> [milli-CPU x seconds, bytes x seconds]; tenant -> nano-USD of tokens."""

    start: datetime
    seconds: int = 0
    overhead: int = 0
    nodes: dict[str, list[int]] = {}
    uses: dict[str, dict[str, list[int]]] = {}
    tokens: dict[str, int] = {}


def hour_of(moment: datetime) -> datetime:
    """The beginning of the hour that a moment is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def add(hour: Hour, sample: Sample, seconds: int, before: Mapping[str, int] | None) -> None:
    """Count a sample for so long. ``before``: what was spent at the former sample; None when there was none."""
    hour.seconds += seconds
    hour.overhead += sample.overhead * seconds
    for node in sample.nodes:
        _add(hour.nodes, node.name, (node.nano_usd * seconds, node.cpu_milli * seconds, node.memory_bytes * seconds))
    for use in sample.uses:
        there = hour.uses.setdefault(use.tenant, {})
        _add(there, use.node, (use.cpu_milli_seconds * seconds, use.memory_byte_seconds * seconds))
    if before is not None:
        for tenant, spent in sample.spent.items():
            known = before.get(tenant, 0)
            fresh = spent - known if spent >= known else spent  # a new window has begun
            if fresh:
                hour.tokens[tenant] = hour.tokens.get(tenant, 0) + fresh


def _add(sums: dict[str, list[int]], key: str, amounts: Sequence[int]) -> None:
    known = sums.setdefault(key, [0] * len(amounts))
    sums[key] = [a + b for a, b in zip(known, amounts, strict=True)]


def statement(
    hours: Iterable[Hour], *, share_idle: Sharing, share_overhead: Sharing
) -> tuple[Statement, list[Use], int]:
    """What these hours cost, what was used in them, and how many seconds of them were seen."""
    whole = Hour(start=datetime.min.replace(tzinfo=UTC))
    for hour in hours:
        whole.seconds += hour.seconds
        whole.overhead += hour.overhead
        for name, amounts in hour.nodes.items():
            _add(whole.nodes, name, amounts)
        for tenant, there in hour.uses.items():
            for name, amounts in there.items():
                _add(whole.uses.setdefault(tenant, {}), name, amounts)
        for tenant, tokens in hour.tokens.items():
            whole.tokens[tenant] = whole.tokens.get(tenant, 0) + tokens
    # Capacities are already times their seconds, since nodes come and go: as if the window had one second.
    nodes = [NodeCost(name, price // MONTH_SECONDS, cpu, memory) for name, (price, cpu, memory) in whole.nodes.items()]
    uses = [Use(tenant, node, *amounts) for tenant, there in whole.uses.items() for node, amounts in there.items()]
    found = state(
        nodes,
        uses,
        seconds=1,
        overhead=whole.overhead // MONTH_SECONDS,
        tokens=whole.tokens,
        share_idle=share_idle,
        share_overhead=share_overhead,
    )
    return found, uses, whole.seconds
