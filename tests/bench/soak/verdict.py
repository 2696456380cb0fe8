"""What must hold when the load is over. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

#: Growth of the resident memory between two thirds of a run that is no leak: an arena here and there.
GROWTH_MB = 4.0
GROWTH_SHARE = 0.05
#: Of all requests, faults included: a service that mostly refuses has little to leak.
LEAST_SERVED = 0.85


@dataclass(frozen=True)
class Look:
    """What the service was at one moment. ``files``: open ones, without the connections that it knows of."""

    seconds: float
    rss_mb: float
    files: int
    tasks: int
    in_flight: int
    connections: int


@dataclass(frozen=True)
class Books:
    """What the service counted, by how requests ended (``error_type``): in its metrics, without WebSockets, and in the
    ledger. Only admitted requests of metered routes have a row."""

    counted: Mapping[str, int]
    rows: Mapping[str, int]
    internal_errors: int

    @property
    def served(self) -> float:
        """The share of all requests, those of every fault included, that ended well."""
        return self.counted.get("none", 0) / (sum(self.counted.values()) or 1)


def problems(idle: Look, looks: Sequence[Look], last: Look, books: Books, seen: Mapping[str, int]) -> list[str]:
    """Why the run failed; nothing is what one wants. ``idle``: after the first load had warmed the service and gone;
    ``looks``: under load; ``last``: when all clients have left; ``seen``: what clients sent and heard."""
    found = []
    if last.in_flight:
        found.append(f"{last.in_flight} requests are still in flight")
    if last.connections > idle.connections:
        found.append(f"{last.connections} connections of clients are open, {idle.connections} were before")
    if last.files > idle.files:
        found.append(f"{last.files} files are open, {idle.files} were before")
    if last.tasks > idle.tasks:
        found.append(f"{last.tasks} tasks run, {idle.tasks} did before")
    grown, allowed = growth(looks)
    if grown > allowed:
        found.append(f"memory grew by {grown:.1f} MB between the second and the last third (allowed: {allowed:.1f})")
    if books.internal_errors:
        found.append(f"{books.internal_errors} internal errors: see the log")
    for kind, rows in sorted(books.rows.items()):
        counted = books.counted.get(kind, 0)
        if rows > counted or (kind == "none" and rows != counted):
            found.append(f"{rows} rows of the ledger ended by {kind!r}, {counted} requests did")
    requests = sum(books.counted.values())
    if not seen["answered"] <= requests <= seen["sent"]:
        # Whoever leaves at once may have sent nothing that arrived.
        found.append(f"{requests} requests ended; {seen['sent']} were sent, {seen['answered']} of them were answered")
    return found


def thin(books: Books, seen: Mapping[str, int], played: Mapping[str, int], kinds: Sequence[str]) -> list[str]:
    """Why a run that left nothing behind proves little: it hardly served, its breaker never opened, or one of the
    ``kinds`` of scenarios was never played. ``seen``: see ``scenarios.Site``."""
    found = [f"nobody played {kind!r}" for kind in kinds if not played.get(kind)]
    if books.served < LEAST_SERVED:
        found.append(f"{books.served:.0%} of the requests were served, which is less than {LEAST_SERVED:.0%}")
    if not seen.get("suspended"):
        found.append("no circuit breaker has opened")
    return found


def growth(looks: Sequence[Look]) -> tuple[float, float]:
    """How much the median memory grew from the second third of a run to the last, and how much it may; in MB."""
    third = len(looks) // 3
    if not third:
        return 0.0, GROWTH_MB
    second, last = (median(look.rss_mb for look in part) for part in (looks[third : 2 * third], looks[2 * third :]))
    return last - second, max(GROWTH_MB, second * GROWTH_SHARE)


def counted(metrics: str) -> Counter[str]:
    """`tenantry_requests_total` by error type, of routes whose requests have rows if they were admitted."""
    found: Counter[str] = Counter()
    for line in metrics.splitlines():
        if line.startswith("tenantry_requests_total{"):
            labels, _, value = line.partition("{")[2].rpartition("} ")
            pairs = dict(pair.split("=", 1) for pair in labels.split(","))
            if pairs["gen_ai_operation_name"] not in ('"realtime"', '"models"'):
                found[pairs["error_type"].strip('"')] += round(float(value))
    return found


def gauge(metrics: str, name: str) -> int:
    """The sum of a metric over its labels."""
    lines = (line for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))
