"""Metrics: names of OpenTelemetry's GenAI conventions in Prometheus spelling, and ``tenantry_*`` for what they lack.

Every label set is closed: route templates, configured models or ``other``, an error type by fault domain; never a key,
a user or a raw path. A request touches plain integers of one :class:`Series`; text is made when someone scrapes.
All of it belongs to the event loop's thread.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

#: Bounds in seconds of OpenTelemetry's ``gen_ai.client.operation.duration``.
DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
#: Bounds in seconds of ``gen_ai.server.time_to_first_token``, and the tail that reasoning models need.
FIRST_BYTE_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
#: Bounds in seconds of our own share: from 20 microseconds, where a healthy process is, to where it hurts.
OVERHEAD_BOUNDS = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

#: Bounds of tokens used over tokens reserved: above 1 they became debt, far below they kept others out meanwhile.
ESTIMATE_BOUNDS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)

LABELS = ("gen_ai_operation_name", "gen_ai_request_model")


class Histogram:
    """Counts per bucket, and a sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        # Compiled, a loop over so few takes a third of the time of calling bisect.
        index = 0
        for bound in self.bounds:
            if value <= bound:
                break
            index += 1
        self.counts[index] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus wants them."""
        running, buckets = 0, []
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        return buckets


class Series:
    """Everything counted for one operation and one model."""

    __slots__ = ("cached_tokens", "duration", "ended", "first_byte", "input_tokens", "nano_usd", "output_tokens")

    def __init__(self) -> None:
        #: By :class:`tenantry_service.errors.ErrorType`.
        self.ended: dict[str, int] = {}
        self.duration = Histogram(DURATION_BOUNDS)
        self.first_byte = Histogram(FIRST_BYTE_BOUNDS)
        self.input_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.nano_usd = 0


class PolicyInfo(NamedTuple):
    """What ``tenantry_policy_info`` says of one document."""

    tenant: str
    revision: str
    generation: int


class Telemetry(Collector):
    """The counters of one process and the registry that renders them."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}
        self.overhead = Histogram(OVERHEAD_BOUNDS)
        self.estimates = Histogram(ESTIMATE_BOUNDS)
        self.in_flight = 0
        self.connections = 0
        self.estimated_events = 0
        self.internal_errors = 0
        #: By what became of asking whether an answer is kept.
        self.recalled: dict[str, int] = {}
        self.policies: tuple[PolicyInfo, ...] = ()
        self.policy_reloads = 0
        self.policy_failures = 0
        self.draining = False
        #: Read at scrape time: how many tenants have their limits counted in which way.
        self.limiter_modes: Callable[[], Mapping[str, int]] = dict
        #: Read at scrape time: events queued, written, and batches that failed.
        self.ledger_figures: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
        self.tasks: Callable[[], int] = lambda: 0
        #: Spans and lines of the access log that could not be sent.
        self.dropped: Callable[[], Iterable[tuple[str, int]]] = lambda: ()
        self.upstream_connections: Callable[[], Iterable[tuple[str, int, int]]] = lambda: ()
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=self.registry)

    def series(self, operation: str, model: str) -> Series:
        """The series of an operation (from the route table) and a model's label (configured, or ``other``)."""
        found = self._series.get((operation, model))
        if found is None:
            found = self._series[(operation, model)] = Series()
        return found

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every family (called by the registry)."""
        yield from self._requests()
        yield from self._process()

    def _requests(self) -> Iterator[Metric]:
        ended = CounterMetricFamily("tenantry_requests", "Requests that ended, by how.", labels=(*LABELS, "error_type"))
        tokens = CounterMetricFamily(
            "gen_ai_client_token_usage_tokens", "Tokens used.", labels=(*LABELS, "gen_ai_token_type")
        )
        cost = CounterMetricFamily("tenantry_cost_nano_usd", "Cost in nano-USD.", labels=LABELS)
        duration = HistogramMetricFamily(
            "gen_ai_server_request_duration_seconds", "From the request's first byte to its end.", labels=LABELS
        )
        first = HistogramMetricFamily(
            "gen_ai_server_time_to_first_token_seconds", "From the request's first byte to the answer's.", labels=LABELS
        )
        for (operation, model), series in self._series.items():
            labels = [operation, model]
            for error_type, count in series.ended.items():
                ended.add_metric([*labels, error_type], count)
            tokens.add_metric([*labels, "input"], series.input_tokens)
            tokens.add_metric([*labels, "cached_input"], series.cached_tokens)
            tokens.add_metric([*labels, "output"], series.output_tokens)
            cost.add_metric(labels, series.nano_usd)
            duration.add_metric(labels, series.duration.cumulative(), series.duration.total)
            first.add_metric(labels, series.first_byte.cumulative(), series.first_byte.total)
        yield from (ended, tokens, cost, duration, first)

    def _process(self) -> Iterator[Metric]:
        overhead = HistogramMetricFamily(
            "tenantry_overhead_seconds", "Time a request spent in this process, waiting for nobody.", labels=()
        )
        overhead.add_metric([], self.overhead.cumulative(), self.overhead.total)
        yield overhead
        estimates = HistogramMetricFamily(
            "tenantry_estimate_ratio", "Tokens that a request used, over those that were reserved for it.", labels=()
        )
        estimates.add_metric([], self.estimates.cumulative(), self.estimates.total)
        yield estimates
        info = GaugeMetricFamily(
            "tenantry_policy_info", "The policy being served.", labels=("tenant", "revision", "generation")
        )
        for policy in self.policies:
            info.add_metric([policy.tenant, policy.revision, str(policy.generation)], 1)
        yield info
        modes = GaugeMetricFamily("tenantry_limiter_mode", "Tenants, by where limits are counted.", labels=("mode",))
        for mode, tenants in self.limiter_modes().items():
            modes.add_metric([mode], tenants)
        yield modes
        queued, written, failures = self.ledger_figures()
        yield GaugeMetricFamily("tenantry_in_flight_requests", "Requests being served.", self.in_flight)
        yield GaugeMetricFamily("tenantry_open_connections", "Connections of clients.", self.connections)
        yield GaugeMetricFamily("tenantry_tasks", "Tasks of the event loop; none belongs to a request.", self.tasks())
        yield GaugeMetricFamily("tenantry_draining", "1 while the process finishes its work.", int(self.draining))
        yield GaugeMetricFamily("tenantry_ledger_queued_events", "Usage events not yet written.", queued)
        yield CounterMetricFamily("tenantry_ledger_written_events", "Usage events written.", written)
        yield CounterMetricFamily("tenantry_ledger_write_failures", "Batches that failed and were kept.", failures)
        yield CounterMetricFamily("tenantry_estimated_events", "Usage counted by us.", self.estimated_events)
        yield CounterMetricFamily("tenantry_internal_errors", "Errors of this service.", self.internal_errors)
        yield CounterMetricFamily("tenantry_policy_reloads", "Policies taken over.", self.policy_reloads)
        yield CounterMetricFamily("tenantry_policy_reload_failures", "Policies refused.", self.policy_failures)
        recalled = CounterMetricFamily("tenantry_recalled_answers", "Answers that may be kept.", labels=("outcome",))
        for outcome, count in self.recalled.items():
            recalled.add_metric([outcome], count)
        yield recalled
        dropped = CounterMetricFamily("tenantry_dropped_observations", "What watchers missed.", labels=("kind",))
        for kind, count in self.dropped():
            dropped.add_metric([kind], count)
        yield dropped
        pools = GaugeMetricFamily("tenantry_upstream_connections", "Connections.", labels=("upstream", "state"))
        for upstream, busy, idle in self.upstream_connections():
            pools.add_metric([upstream, "busy"], busy)
            pools.add_metric([upstream, "idle"], idle)
        yield pools
