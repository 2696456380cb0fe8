"""What both ledgers can say: a line per day, tenant, key and model. Pure."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

NANO = 1_000_000_000


class Line(NamedTuple):
    """Sums of one UTC day (of the requests' beginnings). Money in nano-USD."""

    day: date
    tenant: str
    key: str
    model: str
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    nano_usd: int
    estimated: int


def usd(nano: int) -> str:
    """Nano-USD as an exact decimal."""
    sign, whole = "-" if nano < 0 else "", abs(nano)
    return f"{sign}{whole // NANO}.{whole % NANO:09d}"


def totals(lines: Iterable[Line]) -> Line | None:
    """All lines as one; None of none."""
    found = list(lines)
    if not found:
        return None
    sums = [sum(line[index] for line in found) for index in range(4, len(Line._fields))]  # type: ignore[misc]
    return Line(found[0].day, "", "", "", *sums)


def table(lines: Sequence[Line]) -> str:
    """For people."""
    heads = ("DAY", "TENANT", "KEY", "MODEL", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "USD", "ESTIMATED")
    rows = [
        (
            str(line.day),
            line.tenant,
            line.key,
            line.model,
            *map(str, line[4:8]),
            usd(line.nano_usd),
            str(line.estimated),
        )
        for line in lines
    ]
    total = totals(lines)
    if total is not None:
        rows.append(("total", "", "", "", *map(str, total[4:8]), usd(total.nano_usd), str(total.estimated)))
    widths = [max(len(row[index]) for row in (heads, *rows)) for index in range(len(heads))]
    shown = []
    for row in (heads, *rows):
        cells = [
            cell.ljust(width) if index < 4 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown) + "\n"
