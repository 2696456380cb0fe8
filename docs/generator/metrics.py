"""Metrics of each process, from what it really registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import Metric
from tenantry_operator import metrics as operator_metrics
from tenantry_operator.tenant_metrics import FAMILIES
from tenantry_service.activator.door import House
from tenantry_service.activator.main import Figures as ActivatorFigures
from tenantry_service.activator.sleepers import Sleepers
from tenantry_service.activator.waiting import Waiting
from tenantry_service.telemetry import Telemetry
from tenantry_service.writer.figures import Figures

from generator.markdown import page, table

#: What the client library adds for the process itself.
STANDARD = ("process_", "python_")


class Known(NamedTuple):
    """One metric: as it is exposed, without the suffixes of histograms."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def service() -> list[Known]:
    """Those of a tenant's pod."""
    return _of(Telemetry().registry.collect())


def ledger() -> list[Known]:
    """Those of the ledger's writer."""
    return _of(Figures().registry.collect())


def activator() -> list[Known]:
    """Those of the activator."""

    def nothing(*_: object) -> None:
        return None

    house = House(Sleepers(lambda: 0.0), Waiting(1, 1, nothing), patience=1.0, control=nothing)
    return _of(ActivatorFigures(house).collect())


def operator() -> list[Known]:
    """Those of the operator."""
    collectors = operator_metrics.REGISTRY._collector_to_names
    found = []
    for collector in collectors:
        described: Iterable[Metric] = collector.describe() if hasattr(collector, "describe") else ()
        labels = getattr(collector, "_labelnames", ())
        found += [_known(each, labels) for each in described]
    found += [Known(each.name, "gauge", each.labels, each.help) for each in FAMILIES]
    return sorted({each for each in found if not _standard(each)})


def processes() -> list[tuple[str, list[Known]]]:
    """All processes, and where they expose what."""
    return [
        ("A tenant's pods, port 8000", service()),
        ("The operator, port 8081", operator()),
        ("The ledger's writer, port 8081", ledger()),
        ("The activator, port 8000", activator()),
    ]


def exposed(known: Known) -> Iterator[str]:
    """The names of a metric's series."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(known.kind, ("",))
    return (f"{known.name}{suffix}" for suffix in suffixes)


def text() -> str:
    """The page."""
    parts = []
    for title, found in processes():
        rows = [
            (
                f"`{known.name}{'_total' if known.kind == 'counter' else ''}`",
                known.kind,
                ", ".join(known.labels),
                known.help,
            )
            for known in found
        ]
        parts.append(f"## {title}\n\n{table(('Metric', 'Type', 'Labels', 'What'), rows)}")
    intro = (
        "At `/metrics`. Every label has a closed set of values: route templates, configured models or `other`, tenants,"
        " kinds; never a key, a user or a path. The process' own metrics (`process_*`, `python_*`) are there as well."
    )
    return page("Metrics", "the processes' own registries", intro, *parts)


def _of(families: Iterable[Metric]) -> list[Known]:
    found = [_known(each, getattr(each, "_labelnames", ())) for each in families]
    return sorted(each for each in found if not _standard(each))


def _known(family: Metric, labels: Iterable[str]) -> Known:
    return Known(family.name, family.type, tuple(labels), family.documentation)


def _standard(known: Known) -> bool:
    return known.name.startswith(STANDARD)
