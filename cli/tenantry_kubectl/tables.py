"""Text as kubectl prints it: columns, ages, key-value lists. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

#: Between columns, as in kubectl.
GAP = 3


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns, each as wide as its widest cell. Without rows: the header alone."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join(
        "".join(cell.ljust(width + GAP) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def fields(pairs: Iterable[tuple[str, str]], indent: int = 0) -> str:
    """``Name:   value`` lines with their values below each other."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0) + 2
    return "\n".join(f"{' ' * indent}{f'{name}:':<{width}} {value}".rstrip() for name, value in pairs)


def section(title: str, body: str) -> str:
    """A title with its text indented below it; nothing when there is no text."""
    if not body:
        return ""
    return f"{title}:\n" + "\n".join(f"  {line}".rstrip() for line in body.splitlines())


def age(since: datetime | None, now: datetime) -> str:
    """How long ago, as kubectl says it.

    https://pkg.go.dev/k8s.io/apimachinery/pkg/util/duration#HumanDuration
    """
    return "<unknown>" if since is None else human(int((now - since).total_seconds()))


def human(seconds: int) -> str:
    """A duration in at most two units: 90s, 5m10s, 3h5m, 2d, 400d."""
    if seconds < 0:
        return "0s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    for below, text in (
        (120, f"{seconds}s"),
        (600, _two(minutes, "m", seconds % 60, "s")),
        (3 * 3600, f"{minutes}m"),
        (8 * 3600, _two(hours, "h", minutes % 60, "m")),
        (48 * 3600, f"{hours}h"),
        (8 * 86400, _two(days, "d", hours % 24, "h")),
    ):
        if seconds < below:
            return text
    return f"{days}d"


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large}{unit}{small}{smaller}" if small else f"{large}{unit}"


def share(part: int, whole: int) -> str:
    """A percentage without decimals, rounded down: 100% means all of it."""
    return f"{100 * part // whole}%" if whole else "-"


def count(number: int | None) -> str:
    """An integer with separators; ``unlimited`` for None."""
    return "unlimited" if number is None else f"{number:,}"
