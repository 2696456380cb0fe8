"""Managed objects, as they change: into ``Live``, and the tenants for whom it was news into the queue.

We follow these ourselves instead of by Kopf, because they are many (a tenant has some twenty, each with several
events on its way up): decoded straight into the few fields that are kept, one event costs a twentieth. And a list that
the watch goes on from leaves no gap, so they need no periodic list either.
"""

import asyncio
import logging
import sys
from functools import partial

from tenantry_operator import metrics
from tenantry_operator.api.meta import NAMESPACE_PREFIX
from tenantry_operator.apply.kinds import OPTIONAL, WATCHED
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.reflector import Reflector
from tenantry_operator.kube.resources import DEPLOYMENTS, HTTP_ROUTES, NAMESPACES, RESOURCE_QUOTAS, Resource
from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import Child, LiveAny, LiveDeployment, LiveObject, LiveRoute, child, version
from tenantry_operator.queue import Lane, WorkQueue

log = logging.getLogger(__name__)


class Children:
    """The managed objects of one kind. A sink of ``Reflector``."""

    def __init__(self, resource: Resource, live: Live, queue: WorkQueue) -> None:
        self._resource, self._live, self._queue = resource, live, queue
        self._news = metrics.WATCH_EVENTS.labels(resource.kind, "yes")
        self._echo = metrics.WATCH_EVENTS.labels(resource.kind, "no")

    def listed(self, found: list[Child], as_of: str) -> None:
        """All of them; also finds those that went away while nobody was looking."""
        self._serve(True)
        for tenant in self._live.replace_kind(self._resource.group_kind, found, version(as_of)):
            self._queue.add(tenant, Lane.PROGRESS)

    def missing(self) -> None:
        """The cluster does not know the kind."""
        self._serve(False)
        for tenant in self._live.replace_kind(self._resource.group_kind, [], sys.maxsize):
            self._queue.add(tenant, Lane.PROGRESS)

    def _serve(self, served: bool) -> None:
        if self._resource is not HTTP_ROUTES or self._live.routes_served is served:
            return
        self._live.routes_served = served
        log.info("HTTPRoutes are %s by this cluster", "served" if served else "not served")
        for tenant in self._live.tenants:
            self._queue.add(tenant, Lane.RESYNC)

    def changed(self, item: Child, gone: bool) -> None:
        """One of them was added, changed, or is gone (or has lost its label)."""
        if not item.at_home:  # labelled as somebody else's, or relabelled: then its real tenant has lost it
            place = item.ref.namespace or item.ref.name
            item, gone = item.of(place.removeprefix(NAMESPACE_PREFIX)), True
        if gone:
            news = self._live.drop_child(item.tenant, item.ref, item.uid, as_of=item.version)
        else:
            news = self._live.put_child(item)
        (self._news if news else self._echo).inc()
        if news:
            self._wake(item.tenant)

    def _wake(self, tenant: str) -> None:
        owner = self._live.tenants.get(tenant)
        if owner is None or owner.meta.deletion_timestamp is None:
            self._queue.add(tenant, Lane.PROGRESS)
        elif self._resource in (NAMESPACES, DEPLOYMENTS):  # what else goes on the way out is of no interest
            self._queue.add(tenant, Lane.DELETION)


class ChildWatches:
    """All kinds that are followed."""

    def __init__(self, client: Client, live: Live, queue: WorkQueue) -> None:
        self._reflectors = [_reflector(client, resource, Children(resource, live, queue)) for resource in WATCHED]

    def age(self) -> float:
        """Seconds since the kind that has been silent the longest was heard of."""
        return max(reflector.age() for reflector in self._reflectors)

    async def synced(self) -> None:
        """Wait until every kind is read: what is not read yet would look like drift."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))

    async def run(self) -> None:
        """Follow all of them until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())


#: The kinds of which more is read than who owns which field. Of all others the metadata is enough, except of quotas,
#: which also tell how many Secrets there are.
_READ_AS: dict[Resource, type[LiveAny]] = {
    DEPLOYMENTS: LiveDeployment,
    HTTP_ROUTES: LiveRoute,
    RESOURCE_QUOTAS: LiveObject,
}


def _reflector(client: Client, resource: Resource, sink: Children) -> Reflector[LiveAny, Child]:
    followed: Reflector[LiveAny, Child] = Reflector(
        client,
        resource,
        sink,
        labels=names.MANAGED_SELECTOR,
        into=_READ_AS.get(resource, LiveObject),
        keep=partial(child, resource.group_kind),
        metadata_only=resource not in _READ_AS,
        missing=sink.missing if resource in OPTIONAL else None,
    )
    metrics.WATCH_AGE_SECONDS.labels(resource.kind).set_function(followed.age)
    return followed
