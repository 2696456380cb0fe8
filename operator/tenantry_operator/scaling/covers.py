"""Where tenants' Services lead beside their pods: the slices that we have put there, followed as all that we write."""

import time
from collections.abc import Callable

from msgspec import Struct

from tenantry_operator import metrics
from tenantry_operator.api.meta import NAMESPACE_PREFIX
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.reflector import Reflector
from tenantry_operator.kube.resources import ENDPOINT_SLICES
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import version


class _Meta(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    resource_version: str = "0"


class _Endpoint(Struct, frozen=True):
    addresses: list[str] = []


class LiveSlice(Struct, frozen=True):
    """An EndpointSlice, as far as we read it."""

    metadata: _Meta
    endpoints: list[_Endpoint] | None = None


class Cover(Struct, frozen=True, gc=False):
    """One tenant's slice: its addresses, and since when (monotonic) they are these."""

    tenant: str
    version: int
    addresses: frozenset[str]
    since: float = 0.0


def cover(live: LiveSlice) -> Cover:
    """The facts of one slice; one that is no tenant's belongs to nobody."""
    meta = live.metadata
    ours = meta.name == names.ACTIVATOR_SLICE and meta.namespace.startswith(NAMESPACE_PREFIX)
    addresses = frozenset(address for each in live.endpoints or () for address in each.addresses)
    tenant = meta.namespace.removeprefix(NAMESPACE_PREFIX) if ours else ""
    return Cover(tenant, version(meta.resource_version), addresses)


class Covers:
    """All of them, by tenant. A sink of ``Reflector``; ``stirred`` is called for a tenant whose slice has changed."""

    def __init__(
        self, stirred: Callable[[str], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stirred, self._clock = stirred, clock
        self._known: dict[str, Cover] = {}

    def listed(self, found: list[Cover], as_of: str) -> None:
        """All that there were at that version."""
        present = {each.tenant for each in found}
        for ghost in [known for known in self._known.values() if known.tenant not in present]:
            if ghost.version <= version(as_of):
                self.changed(ghost, True)
        for each in found:
            self.changed(each, False)

    def changed(self, item: Cover, gone: bool) -> None:
        """One was written, or is gone."""
        if not item.tenant:
            return
        known = self._known.get(item.tenant)
        if known is not None and (known.version > item.version or (known.version == item.version and not gone)):
            return
        if gone:
            self._known.pop(item.tenant, None)
        else:
            same = known is not None and known.addresses == item.addresses
            since = known.since if same and known is not None else self._clock()
            self._known[item.tenant] = Cover(item.tenant, item.version, item.addresses, since)
        self.stirred(item.tenant)

    def of(self, tenant: str) -> Cover | None:
        """The tenant's, if it has one."""
        return self._known.get(tenant)

    def tenants(self) -> list[str]:
        """Who has one."""
        return list(self._known)


def followed(client: Client, covers: Covers) -> Reflector[LiveSlice, Cover]:
    """The watch that fills ``covers``, still to be run."""
    labels = f"endpointslice.kubernetes.io/managed-by={names.SLICE_MANAGER}"
    reflector = Reflector(client, ENDPOINT_SLICES, covers, labels=labels, into=LiveSlice, keep=cover)
    metrics.WATCH_AGE_SECONDS.labels(ENDPOINT_SLICES.kind).set_function(reflector.age)
    return reflector
