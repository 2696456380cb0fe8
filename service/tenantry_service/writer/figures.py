"""What the writer counts, for Prometheus and its probes."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Figures(Collector):
    """Plain numbers, made into text when somebody scrapes. ``writing``: this process is the one that writes."""

    def __init__(self) -> None:
        self.writing = False
        self.new = 0
        self.corrections = 0
        self.repeated = 0
        self.dead = 0
        self.batches = 0
        self.commit_seconds = 0.0
        self.swept = 0
        self.published = 0
        self.tenants = 0
        self.waiting = 0
        self.oldest_ms: int | None = None
        self.dropped_partitions = 0
        self.unequal_partitions = 0
        #: By store: what is wrong with it, None if nothing is.
        self._stores: dict[str, str | None] = {"redis": "not asked yet", "postgres": "not asked yet"}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        for standard in (ProcessCollector, PlatformCollector):
            standard(registry=self.registry)

    def up(self, store: str, problem: str | None) -> bool:
        """Say how a store is (None: well); returns whether that is news."""
        before, self._stores[store] = self._stores[store], problem
        return (before is None) is not (problem is None)

    @property
    def problem(self) -> str | None:
        """Why events cannot be moved now, None if they can."""
        return "; ".join(f"{store}: {said}" for store, said in self._stores.items() if said is not None) or None

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every family (called by the registry)."""
        events = CounterMetricFamily("tenantry_ledger_events", "Entries taken from streams.", labels=("outcome",))
        outcomes = (
            ("new", self.new),
            ("correction", self.corrections),
            ("repeated", self.repeated),
            ("set_aside", self.dead),
        )
        for outcome, count in outcomes:
            events.add_metric([outcome], count)
        yield events
        stores = GaugeMetricFamily("tenantry_ledger_store_up", "1 while the store answers.", labels=("store",))
        for store, said in self._stores.items():
            stores.add_metric([store], int(said is None))
        yield stores
        age = 0.0 if self.oldest_ms is None else max(0.0, time.time() - self.oldest_ms / 1000)
        yield GaugeMetricFamily("tenantry_ledger_writing", "1 in the process that writes.", int(self.writing))
        yield GaugeMetricFamily("tenantry_ledger_waiting_events", "Entries in streams.", self.waiting)
        yield GaugeMetricFamily("tenantry_ledger_oldest_event_seconds", "Age of the oldest entry.", age)
        yield GaugeMetricFamily("tenantry_ledger_tenants", "Tenants with keys in Redis.", self.tenants)
        yield CounterMetricFamily("tenantry_ledger_batches", "Commits.", self.batches)
        yield CounterMetricFamily("tenantry_ledger_commit_seconds", "Time spent in commits.", self.commit_seconds)
        yield CounterMetricFamily("tenantry_ledger_swept_reservations", "Billed at the estimate.", self.swept)
        yield CounterMetricFamily("tenantry_ledger_published_rollups", "Roll-ups written to Redis.", self.published)
        yield CounterMetricFamily("tenantry_ledger_dropped_partitions", "Months dropped.", self.dropped_partitions)
        yield GaugeMetricFamily(
            "tenantry_ledger_unequal_partitions", "Months kept because sums differ.", self.unequal_partitions
        )
