"""What the operator says about itself, in Prometheus terms. Every label set is closed.

One registry for the process, filled where things happen; ``main`` serves it.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

RECONCILE_SECONDS = Histogram(
    "tenantry_reconcile_duration_seconds",
    "Time for one reconcile, by how it ended.",
    ["result"],  # ok, failed
    buckets=(0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("tenantry_queue_depth", "Keys that wait for a worker, by lane.", ["lane"], registry=REGISTRY)
QUEUE_WAIT_SECONDS = Histogram(
    "tenantry_queue_wait_seconds",
    "Time from when a key was due until a worker took it.",
    ["lane"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300),
    registry=REGISTRY,
)
QUEUE_OLDEST_SECONDS = Gauge(
    "tenantry_queue_oldest_seconds", "How long the oldest due key has been waiting.", registry=REGISTRY
)
QUEUE_RETRIES = Counter("tenantry_queue_retries_total", "Reconciles that failed and were put off.", registry=REGISTRY)
QUEUE_PARKED = Gauge(
    "tenantry_queue_parked", "Tenants whose circuit is open because they change too often.", registry=REGISTRY
)

API_CALLS = Counter(
    "tenantry_kube_requests_total",
    "Requests to the API server, by verb, kind and status code (0: no answer).",
    ["verb", "kind", "code"],
    registry=REGISTRY,
)
API_SECONDS = Histogram(
    "tenantry_kube_request_duration_seconds",
    "Time for one request to the API server.",
    ["verb"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
    registry=REGISTRY,
)

APPLIES = Counter(
    "tenantry_applies_total",
    "Objects that were applied, by kind and by what came of it.",
    ["kind", "result"],  # created, changed, unchanged, refused, failed
    registry=REGISTRY,
)
RENDERS = Counter(
    "tenantry_renders_total",
    "Renders of the tenant chart, by whether the result was still in memory.",
    ["cache"],  # hit, miss
    registry=REGISTRY,
)
DRIFT = Counter(
    "tenantry_drift_corrected_total",
    "Objects that somebody else had changed or deleted and that were put back, by kind.",
    ["kind"],
    registry=REGISTRY,
)
READY_SECONDS = Histogram(
    "tenantry_time_to_ready_seconds",
    "Time from the creation of a Tenant until it was Ready for the first time.",
    buckets=(1, 2, 3, 5, 8, 13, 21, 34, 55, 90, 180, 600),
    registry=REGISTRY,
)
ROLLOUT_HALTED = Gauge(
    "tenantry_rollout_halted",
    "1 while a tier's roll-out is halted because Tenants that it moved are not Ready.",
    ["tier"],  # the platform's own, a handful
    registry=REGISTRY,
)
METRIC_AGE_SECONDS = Histogram(
    "tenantry_metric_age_seconds",
    "How old each value of the custom metrics API was when it was told.",
    buckets=(0.25, 0.5, 1, 2, 3, 4, 5),
    registry=REGISTRY,
)
SCRAPES = Counter(
    "tenantry_inflight_scrapes_total",
    "Questions to pods for their requests in flight, by whether they were answered.",
    ["result"],  # ok, failed
    registry=REGISTRY,
)
ASLEEP = Gauge("tenantry_tenants_asleep", "Tenants that sleep: no pods until a request comes.", registry=REGISTRY)
SLEEPS = Counter("tenantry_sleeps_total", "Tenants that were put to sleep.", registry=REGISTRY)
WAKES = Counter("tenantry_wakes_total", "Tenants that were woken up.", registry=REGISTRY)
SIGNALS = Counter(
    "tenantry_interruption_signals_total",
    "Signals that a node goes away, by channel, kind, and whether they were about a node of this cluster.",
    ["source", "kind", "known"],
    registry=REGISTRY,
)
MESSAGES_SET_ASIDE = Counter(
    "tenantry_interruption_messages_set_aside_total",
    "Messages of the interruption queue that nobody can make sense of; the log has their beginnings.",
    registry=REGISTRY,
)
QUEUE_READ_AGE = Gauge(
    "tenantry_interruption_queue_silence_seconds",
    "Time since the interruption queue has answered (0 without a queue).",
    registry=REGISTRY,
)
NODES_LEAVING = Gauge("tenantry_nodes_leaving", "Nodes that are known to go away.", registry=REGISTRY)
HANDOVERS = Counter(
    "tenantry_handovers_total",
    "Pods handed over, by why their node went and by how their requests ended.",
    ["reason", "ended"],  # finished, ended_early, unknown
    registry=REGISTRY,
)
REPLACEMENT_SECONDS = Histogram(
    "tenantry_handover_replacement_seconds",
    "Time from the beginning of a pod's hand-over until its replacement was Ready.",
    buckets=(1, 2, 3, 5, 8, 13, 21, 34, 55, 90, 120, 300),
    registry=REGISTRY,
)
STRANDED = Gauge(
    "tenantry_handover_stranded",
    "Tenants whose pods leave a node and whose replacements have not been Ready for more than 30 s: no room, usually.",
    registry=REGISTRY,
)
EVICTIONS = Counter(
    "tenantry_evictions_total",
    "Evictions of tenants' pods that the API server has asked about, by answer.",
    ["answer"],  # allowed, later
    registry=REGISTRY,
)
LEADING = Gauge("tenantry_leading", "1 while this process holds the Lease.", registry=REGISTRY)
WATCH_EVENTS = Counter(
    "tenantry_watch_events_total",
    "Watch events, by kind and whether they were news.",
    ["kind", "news"],
    registry=REGISTRY,
)
WATCH_AGE_SECONDS = Gauge(
    "tenantry_watch_age_seconds",
    "Time since a watch of this kind was last heard of, bookmarks included (Lease: all that Kopf watches).",
    ["kind"],
    registry=REGISTRY,
)


REDIS_UP = Gauge("tenantry_redis_up", "1 while Redis answers the operator and obeys it.", registry=REGISTRY)
REDIS_USERS = Counter(
    "tenantry_redis_user_changes_total",
    "Changes of tenants' users in Redis.",
    ["change"],  # granted, narrowed, removed
    registry=REGISTRY,
)


def observe_call(verb: str, kind: str, code: int, seconds: float) -> None:
    """Count one request to the API server."""
    API_CALLS.labels(verb, kind, str(code)).inc()
    API_SECONDS.labels(verb).observe(seconds)
