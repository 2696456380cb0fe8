"""A batch's daily sums, added up here so that the database need not read back what it was given. Pure.

Days are UTC days of the request's beginning, months those of the partition that keeps the row.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from tenantry_service.ledger.event import UsageEvent, created_ms

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)

#: What is added up of each row, in this order, and subtracted in corrections.
SUMS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "nano_usd")
#: The columns of ``usage_daily`` that name a line, and those that grow.
NAMES = ("tenant", "day", "key_name", "model", "month")
COUNTS = ("requests", *SUMS, "estimated")
_TYPES = ("text", "date", "text", "text", "date", *["bigint"] * len(COUNTS))

# Only names of columns, all from this file, are put together into statements.
#: What an INSERT into ``usage_daily AS d`` does where there is such a line.
ON_CONFLICT = f"ON CONFLICT ({', '.join(NAMES)}) DO UPDATE SET " + ", ".join(
    f"{name} = d.{name} + EXCLUDED.{name}" for name in COUNTS
)
#: Adds lines, given column by column as :func:`columns` makes them.
ADD = (
    f"INSERT INTO usage_daily AS d ({', '.join((*NAMES, *COUNTS))}) SELECT * FROM unnest("  # noqa: S608
    + ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_TYPES, 1))
    + f") {ON_CONFLICT}"
)


def day_of(moment_ms: int) -> date:
    """The UTC day of Unix milliseconds."""
    return _EPOCH + timedelta(moment_ms // DAY_MS)


def month_of(moment_ms: int) -> tuple[int, int]:
    """Year and month (UTC) of Unix milliseconds."""
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.year, moment.month


def months_of(events: Iterable[UsageEvent]) -> set[tuple[int, int]]:
    """The months of the partitions that the rows of these events belong into."""
    days = {created_ms(event.event_id, event.occurred_at_ms) // DAY_MS for event in events}
    return {month_of(day * DAY_MS) for day in days}


def columns(events: Iterable[UsageEvent]) -> tuple[list[object], ...]:
    """What these events add to the daily sums, if all of them are new: the columns of ``NAMES`` and ``COUNTS``.

    Lines are sorted, so that two writers take their locks in the same order.
    """
    lines: dict[tuple[str, int, str, str, int], list[int]] = {}
    for event in events:
        occurred = event.occurred_at_ms
        name = (
            event.tenant,
            (occurred - event.duration_ms) // DAY_MS,
            event.key_name,
            event.served_model,
            created_ms(event.event_id, occurred) // DAY_MS,
        )
        line = lines.get(name)
        if line is None:
            line = lines[name] = [0] * len(COUNTS)
        line[0] += 1
        line[1] += event.input_tokens
        line[2] += event.cached_input_tokens
        line[3] += event.output_tokens
        line[4] += event.reasoning_tokens
        line[5] += event.nano_usd
        line[6] += event.estimated
    by_month: dict[tuple[object, ...], list[int]] = {}
    for (tenant, day, key_name, model, made), line in lines.items():
        year, month = month_of(made * DAY_MS)
        named = (tenant, day_of(day * DAY_MS), key_name, model, date(year, month, 1))
        there = by_month.get(named)
        by_month[named] = line if there is None else [a + b for a, b in zip(there, line, strict=True)]
    rows = sorted((*named, *line) for named, line in by_month.items())
    return tuple(map(list, zip(*rows, strict=True)))
