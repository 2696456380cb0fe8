"""Tenants' pods as they are: the few facts that scaling and hand-over go by, kept from one watch for everybody.

A hint in the end, as all that is remembered: each write carries its own precondition. Some 400 bytes for each pod.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec
from msgspec import Struct

from tenantry_operator import metrics
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.reflector import Reflector
from tenantry_operator.kube.resources import PODS
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import version

#: What the watch selects.
SELECTOR = f"{names.TENANT_LABEL},app.kubernetes.io/name=tenantry-api"


class _Meta(Struct, frozen=True, rename="camel"):
    name: str
    uid: str = ""
    namespace: str = ""
    resource_version: str = "0"
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Spec(Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _Condition(Struct, frozen=True):
    type: str = ""
    status: str = ""


class _Status(Struct, frozen=True, rename="camel"):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: list[_Condition] = []


class LivePod(Struct, frozen=True):
    """A Pod, as far as we read it."""

    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


class Pod(Struct, frozen=True, kw_only=True, gc=False):
    """One pod of a tenant."""

    tenant: str
    name: str
    uid: str
    version: int
    node: str = ""
    ip: str = ""
    phase: str = ""
    ready: bool = False
    terminating: bool = False
    #: The labels ``tenantry.dev/pool`` and ``tenantry.dev/serve``.
    pool: str = ""
    serve: str = ""
    #: ``controller.kubernetes.io/pod-deletion-cost``; 0 when it has none.
    cost: int = 0
    created: datetime | None = None
    #: What is noted on a pod that is handed over (annotations ``tenantry.dev/handover…``).
    notes: dict[str, str] = {}

    @property
    def namespace(self) -> str:
        """Where it is."""
        return namespace_of(self.tenant)

    @property
    def serving(self) -> bool:
        """Whether requests are sent to it."""
        return self.ready and not self.terminating and self.serve == names.SERVING and bool(self.ip)


def pod(live: LivePod) -> Pod:
    """The facts of one pod. Somebody else's that only carries our label belongs to nobody: its tenant is empty."""
    meta, status = live.metadata, live.status
    tenant = meta.labels.get(names.TENANT_LABEL, "")
    cost = meta.annotations.get(names.DELETION_COST, "0")
    return Pod(
        tenant=tenant if namespace_of(tenant) == meta.namespace else "",
        name=meta.name,
        uid=meta.uid,
        version=version(meta.resource_version),
        node=live.spec.node_name,
        ip=status.pod_ip,
        phase=status.phase,
        ready=any(each.type == "Ready" and each.status == "True" for each in status.conditions),
        terminating=meta.deletion_timestamp is not None,
        pool=meta.labels.get(names.POOL_LABEL, ""),
        serve=meta.labels.get(names.SERVE_LABEL, ""),
        cost=int(cost) if cost.removeprefix("-").isdigit() else 0,
        created=meta.creation_timestamp,
        notes={key: value for key, value in meta.annotations.items() if key.startswith(names.HANDOVER_PREFIX)},
    )


def followed(client: Client, pods: "Pods") -> Reflector[LivePod, Pod]:
    """The watch that fills ``pods``, still to be run."""
    reflector = Reflector(client, PODS, pods, labels=SELECTOR, into=LivePod, keep=pod)
    metrics.WATCH_AGE_SECONDS.labels(PODS.kind).set_function(reflector.age)
    return reflector


class Pods:
    """All of them. A sink of ``Reflector``; ``listeners`` are told of every change, with whether the pod is gone."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, dict[str, Pod]] = {}
        self.listeners: list[Callable[[Pod, bool], None]] = []

    def listed(self, found: list[Pod], as_of: str) -> None:
        """All that there were at that version; those that went away unseen are told of as gone."""
        present = {each.uid for each in found}
        ghosts = [known for known in self if known.uid not in present and known.version <= version(as_of)]
        for each in found:
            self.changed(each, False)
        for each in ghosts:
            self.changed(each, True)

    def changed(self, item: Pod, gone: bool) -> None:
        """One was added or changed, or is gone."""
        if not item.tenant:
            return
        mine = self._by_tenant.setdefault(item.tenant, {})
        known = mine.get(item.uid)
        if known is not None and known.version >= item.version and not gone:
            return
        if gone:
            mine.pop(item.uid, None)
        else:
            mine[item.uid] = item
        if not mine:
            del self._by_tenant[item.tenant]
        for listener in self.listeners:
            listener(item, gone)

    def __iter__(self) -> Iterator[Pod]:
        for mine in self._by_tenant.values():
            yield from mine.values()

    def of(self, tenant: str) -> list[Pod]:
        """The tenant's."""
        return list(self._by_tenant.get(tenant, {}).values())

    def on_node(self, node: str) -> list[Pod]:
        """Those on this node."""
        return [each for each in self if each.node == node]
