"""Figures and how they are shown."""

import math
from collections.abc import Sequence

Measured = dict[str, float]

#: In the order of the table: name, what it means, the most that it may be.
MEANING: tuple[tuple[str, str, float | None], ...] = (
    ("tenants", "tenants", None),
    ("objects", "objects of each", None),
    ("bare_s", "bare client: until all are ready, s", None),
    ("operator_s", "operator: until all are ready, s", None),
    ("convergence_ratio", "operator / bare client", 1.25),
    ("ready_p50_s", "time to ready of a Tenant, p50, s", None),
    ("ready_p99_s", "time to ready of a Tenant, p99, s", None),
    ("calls_per_tenant_minus_objects", "API calls per new tenant beyond its objects", 3),
    ("rss_mb", "memory of operator and renderer at most, MB", None),
    ("quiet_writes", "writes after convergence", 0),
    ("restart_watch_s", "restart: watching after, s", 10),
    ("restart_served_s", "restart: all tenants looked at after, s", 30),
    ("restart_writes", "restart: writes", 0),
    ("restart_rss_mb", "restart: memory of operator and renderer, MB", None),
    ("restart_cpu_s", "restart: CPU of the operator, s", None),
    ("drift_p50_s", "drift put back, p50, s", None),
    ("drift_p99_s", "drift put back, p99, s", 2),
    ("drift_max_s", "drift put back, longest, s", None),
    ("drifts", "drifts measured", None),
    ("delete_s", "deletion of all, s", None),
    ("operator_cpu_ms", "CPU per tenant, ms: operator", None),
    ("renderer_cpu_ms", "CPU per tenant, ms: renderer", 2),
    ("feeder_cpu_ms", "CPU per tenant, ms: who creates and watches", None),
    ("bare_client_cpu_ms", "CPU per tenant, ms: bare client", None),
)

#: The last line of the output.
SUMMARY = (
    "convergence_ratio",
    "rss_mb",
    "calls_per_tenant_minus_objects",
    "ready_p99_s",
    "delete_s",
    "restart_writes",
    "restart_watch_s",
    "restart_served_s",
    "drift_p99_s",
    "quiet_writes",
    "tenants",
)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def table(found: Measured) -> str:
    """One line for each figure that was measured, and its goal where there is one."""
    lines = []
    for name, meaning, goal in MEANING:
        if name in found:
            verdict = "" if goal is None else f"   <= {goal:g}: {'yes' if found[name] <= goal else 'NO'}"
            lines.append(f"{meaning:<48}{found[name]:>10.2f}{verdict}")
    servers = sorted(name for name in found if name.endswith("_cpu_ms") and name.partition("_")[2].startswith(_SERVERS))
    lines += [f"{_server(name):<48}{found[name]:>10.2f}" for name in servers]
    return "\n".join(lines)


_SERVERS = ("etcd", "kube-", "kwok")


def _server(name: str) -> str:
    run, _, rest = name.partition("_")
    return f"CPU per tenant, ms: {rest.removesuffix('_cpu_ms')} ({'bare client' if run == 'bare' else run})"


def summary(found: Measured) -> dict[str, float]:
    """What machines read: what was measured of ``SUMMARY``."""
    return {name: round(found[name], 3) for name in SUMMARY if name in found}
