"""What the operator remembers of the objects that exist: the few facts that decisions need, not the objects.

``LiveObject`` is what is read of an object's JSON, ``Child`` what is kept of it (a few hundred bytes).
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from sys import intern

import msgspec
from msgspec import Raw, Struct

from tenantry_operator.api.meta import moment, namespace_of
from tenantry_operator.api.units import parse_quantity
from tenantry_operator.plan import names


class ManagedFields(Struct, frozen=True, rename="camel"):
    """One entry of ``metadata.managedFields``: who owns which fields."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    fields_v1: Raw = msgspec.field(default=Raw(b"{}"), name="fieldsV1")


class OwnerReference(Struct, frozen=True):
    """Who an object goes with."""

    uid: str = ""


class LiveMeta(Struct, frozen=True, rename="camel"):
    """The part of ``metadata`` that matters here."""

    name: str
    uid: str = ""
    resource_version: str = "0"
    generation: int = 0
    namespace: str = ""
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []


class ManagedMeta(LiveMeta, frozen=True, rename="camel"):
    """The same with who owns which fields."""

    managed_fields: list[ManagedFields] = []


class LiveSpec(Struct, frozen=True, rename="camel"):
    """``spec.replicas`` of a Deployment; absent elsewhere."""

    replicas: int = 0


class LiveCondition(Struct, frozen=True, rename="camel"):
    """A condition of a Deployment."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class LiveStatus(Struct, frozen=True, rename="camel"):
    """``status`` of a Deployment."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: list[LiveCondition] = []


class RouteCondition(LiveCondition, frozen=True, rename="camel"):
    """What a gateway's controller says of a route, and of which state of it."""

    observed_generation: int = 0


class RouteParent(Struct, frozen=True):
    """One Gateway of a route."""

    conditions: list[RouteCondition] = []


class RouteStatus(Struct, frozen=True):
    """``status`` of an HTTPRoute."""

    parents: list[RouteParent] = []


class LiveRoute(Struct, frozen=True):
    """An HTTPRoute, as far as we read it."""

    metadata: ManagedMeta
    status: RouteStatus = RouteStatus()


class LiveUsage(Struct, frozen=True):
    """``status`` of a ResourceQuota, which is what its admission goes by; absent elsewhere."""

    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class LiveObject(Struct, frozen=True, rename="camel"):
    """Any managed object, as far as we read it."""

    metadata: ManagedMeta
    status: LiveUsage = LiveUsage()


class LiveDeployment(Struct, frozen=True, rename="camel"):
    """A Deployment, as far as we read it."""

    metadata: ManagedMeta
    spec: LiveSpec = LiveSpec()
    status: LiveStatus = LiveStatus()


#: Whatever the API server answers to an apply.
LiveAny = LiveObject | LiveDeployment | LiveRoute


class Workload(Struct, frozen=True, kw_only=True):
    """How a Deployment fares."""

    current: bool  # its controller has seen the latest spec
    wanted: int
    total: int
    updated: int
    ready: int
    available: int
    deadline_exceeded: bool = False
    refused: str = ""  # why pods cannot be created, in the API server's words
    asked_again: datetime | None = None  # when the operator last had such pods asked for again


class Route(Struct, frozen=True, kw_only=True):
    """What a gateway makes of an HTTPRoute (https://gateway-api.sigs.k8s.io/reference/spec/#routeparentstatus)."""

    accepted: bool = False  # as it is now, and everything that it leads to exists
    refused: str = ""  # why not, in the controller's words; neither: nothing has been said yet


class Ref(Struct, frozen=True, order=True):
    """Which object."""

    group_kind: str
    namespace: str
    name: str


class Child(Struct, frozen=True, kw_only=True):
    """A managed object as it was last seen."""

    ref: Ref
    uid: str
    version: int
    tenant: str
    set_id: str
    fields: str  # hash of the fields that we own; changes when somebody else changes one of them
    terminating: bool = False
    tenant_uid: str = ""  # Namespaces only: whose it is
    workload: Workload | None = None
    route: Route | None = None
    secrets: int | None = None  # ResourceQuotas only: how many Secrets it has counted in the namespace
    full: bool = False  # ResourceQuotas only: it has no room for another pod
    lost: int = 0  # ResourceQuotas only: how often that has become less, as far as this process has seen

    @property
    def at_home(self) -> bool:
        """Whether it is where its tenant's objects are: anybody who may write somewhere can put our labels there."""
        return (self.ref.namespace or self.ref.name) == namespace_of(self.tenant)

    def of(self, tenant: str) -> "Child":
        """The same object as another tenant's."""
        return msgspec.structs.replace(self, tenant=tenant)

    def same_as(self, other: "Child") -> bool:
        """Whether nothing that decisions look at differs. More Secrets are no news, fewer are."""
        return msgspec.structs.replace(self, version=other.version, secrets=other.secrets) == other

    def after(self, before: "Child") -> "Child":
        """The same with what follows from how it was before."""
        fewer = before.secrets is not None and self.secrets is not None and self.secrets < before.secrets
        lost = before.lost + fewer
        return msgspec.structs.replace(self, lost=lost) if lost else self


def child(group_kind: str, live: LiveAny) -> Child:
    """The facts of one object. Names that all objects of a tenant share are kept once."""
    meta = live.metadata
    return Child(
        ref=Ref(group_kind, intern(meta.namespace), intern(meta.name)),
        uid=meta.uid,
        version=version(meta.resource_version),
        tenant=intern(meta.labels.get(names.TENANT_LABEL, "")),
        set_id=intern(meta.labels.get(names.PART_OF, "")),
        fields=_owned(meta),
        terminating=meta.deletion_timestamp is not None,
        tenant_uid=meta.annotations.get(names.TENANT_UID, "") if group_kind == "Namespace" else "",
        workload=_workload(live) if isinstance(live, LiveDeployment) else None,
        route=_route(live) if isinstance(live, LiveRoute) else None,
        secrets=_secrets(live) if isinstance(live, LiveObject) else None,
        full=_full(live) if isinstance(live, LiveObject) else False,
    )


def _secrets(live: LiveObject) -> int | None:
    counted = live.status.used.get(names.COUNTED_SECRETS, "")
    return int(counted) if counted.isdigit() else None


def _full(live: LiveObject) -> bool:
    """By the number of pods: the chart's quota has room for so many of the tenant's size."""
    hard, used = live.status.hard.get("pods"), live.status.used.get("pods")
    if hard is None or used is None:
        return False
    try:
        return parse_quantity(used) >= parse_quantity(hard)
    except ValueError:  # somebody else's spelling; the pods are asked for again all the same, if in vain
        return False


def version(resource_version: str) -> int:
    """resourceVersions are comparable integers of one collection (KEP-5504, Kubernetes 1.35; in fact since etcd 3)."""
    return int(resource_version) if resource_version.isdigit() else 0


def own_fields(meta: ManagedMeta) -> Mapping[str, object]:
    """The fields that we applied and that are still ours.

    When somebody else changes or removes a field that we applied, the API server takes it out of our entry.
    Fields that others add are theirs and no drift. Status writes of controllers touch their entries only.
    """
    for entry in meta.managed_fields:
        if entry.manager == names.FIELD_MANAGER and entry.operation == "Apply" and not entry.subresource:
            return msgspec.json.decode(entry.fields_v1, type=dict[str, object])
    return {}


def _owned(meta: ManagedMeta) -> str:
    for entry in meta.managed_fields:
        if entry.manager == names.FIELD_MANAGER and entry.operation == "Apply" and not entry.subresource:
            return _hashed(bytes(entry.fields_v1))
    return ""


@lru_cache(maxsize=4096)  # the same few field sets, for every tenant
def _hashed(fields: bytes) -> str:
    canonical = msgspec.json.encode(msgspec.json.decode(fields), order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


def _workload(live: LiveDeployment) -> Workload:
    status = live.status
    conditions = {condition.type: condition for condition in status.conditions}
    progressing, failure = conditions.get("Progressing"), conditions.get("ReplicaFailure")
    return Workload(
        current=status.observed_generation >= live.metadata.generation > 0,
        wanted=live.spec.replicas,
        total=status.replicas,
        updated=status.updated_replicas,
        ready=status.ready_replicas,
        available=status.available_replicas,
        deadline_exceeded=progressing is not None and progressing.reason == "ProgressDeadlineExceeded",
        refused=failure.message if failure is not None and failure.status == "True" else "",
        asked_again=moment(live.metadata.annotations.get(names.ASKED_AGAIN)),
    )


def _route(live: LiveRoute) -> Route:
    generation = live.metadata.generation
    said = [
        condition
        for parent in live.status.parents
        for condition in parent.conditions
        if condition.type in ("Accepted", "ResolvedRefs") and condition.observed_generation >= generation
    ]
    refused = [f"{each.reason}: {each.message}" for each in said if each.status == "False"]
    accepted = {each.type for each in said if each.status == "True"} == {"Accepted", "ResolvedRefs"}
    return Route(accepted=accepted and not refused, refused="; ".join(refused))


def fingerprint(children: list[Child]) -> str:
    """One hash for "these objects exist and hold what we applied". Equal before and after a restart: no drift."""
    seen = [each for each in children if each.ref.group_kind != "Secret"]  # not watched, so not comparable later
    lines = sorted(f"{each.ref.group_kind}/{each.ref.namespace}/{each.ref.name}={each.fields}" for each in seen)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
