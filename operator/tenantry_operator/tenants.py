"""Tenants as they change: into ``Live``, and those for whom it was news into the queue.

Followed by ourselves and not by Kopf, as all that there is a thousand of: Kopf holds a whole list as dicts before it
hands out the first object (50 KB for each Tenant), and keeps a memory, a queue and a task for each.
"""

from tenantry_operator import metrics
from tenantry_operator.api.decode import LiveTenant
from tenantry_operator.apply.kinds import TENANTS
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.reflector import Reflector
from tenantry_operator.live import Live, TenantRecord, read_tenant
from tenantry_operator.plan.observed import version
from tenantry_operator.queue import Lane, WorkQueue


class Tenants:
    """All of them. A sink of ``Reflector``."""

    def __init__(self, live: Live, queue: WorkQueue) -> None:
        self._live, self._queue = live, queue
        self._news = metrics.WATCH_EVENTS.labels(TENANTS.kind, "yes")
        self._echo = metrics.WATCH_EVENTS.labels(TENANTS.kind, "no")

    def listed(self, found: list[TenantRecord], as_of: str) -> None:
        """All that there were at that version; also finds those that went away while nobody was looking."""
        for name, gone in self._live.replace_tenants(found, version(as_of)):
            if gone:
                self._gone(name)
            else:
                self._queue.add(name, Lane.RESYNC)

    def changed(self, item: TenantRecord, gone: bool) -> None:
        """One was added, changed or removed."""
        name = item.meta.name
        known = self._live.tenants.get(name)
        news = self._live.drop_tenant(name, item.meta.uid) if gone else self._live.put_tenant(item)
        (self._news if news else self._echo).inc()
        if not news:
            return
        if gone:
            self._gone(name)
            return
        # Only a new spec is a user's change; whoever writes labels or our status must not get past the breaker.
        same_spec = known is not None and _spec(known) == _spec(item)
        lane = Lane.PROGRESS if same_spec else Lane.CHANGE
        self._queue.add(name, Lane.DELETION if item.meta.deletion_timestamp else lane)

    def _gone(self, name: str) -> None:
        self._queue.forget(name)
        self._queue.add(name, Lane.PROGRESS)  # once more: whoever remembers something of it forgets that


def _spec(record: TenantRecord) -> tuple[str, int]:
    return record.meta.uid, record.meta.generation


def followed(client: Client, live: Live, queue: WorkQueue) -> Reflector[LiveTenant, TenantRecord]:
    """The watch that fills ``live``, still to be run."""
    reflector = Reflector(client, TENANTS, Tenants(live, queue), labels="", into=LiveTenant, keep=read_tenant)
    metrics.WATCH_AGE_SECONDS.labels(TENANTS.kind).set_function(reflector.age)
    return reflector
