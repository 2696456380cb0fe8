"""What is read of the cluster's objects beside Tenants and tiers: the fields that are shown, and no others."""

from datetime import datetime

from msgspec import Struct, field
from tenantry_operator.plan.observed import ManagedFields


class Meta(Struct, frozen=True, rename="camel"):
    """``metadata``."""

    name: str = ""
    namespace: str = ""
    creation_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    managed_fields: list[ManagedFields] = []


class Column(Struct, frozen=True):
    """A column of the API server's table; ``priority`` above 0 is for wide output."""

    name: str
    priority: int = 0


class Row(Struct, frozen=True):
    """A line of it."""

    cells: list[object]


class Table(Struct, frozen=True, rename="camel"):
    """The API server's table of a list."""

    column_definitions: list[Column]
    rows: list[Row] | None = None


class _Quantities(Struct, frozen=True):
    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class Quota(Struct, frozen=True):
    """A ResourceQuota."""

    status: _Quantities = _Quantities()


class Secret(Struct, frozen=True):
    """A Secret."""

    metadata: Meta
    data: dict[str, str] = {}


class _Requirements(Struct, frozen=True):
    requests: dict[str, str | int] = {}
    limits: dict[str, str | int] = {}


class Container(Struct, frozen=True):
    """A container of a pod's spec."""

    name: str = ""
    resources: _Requirements = _Requirements()


class _PodSpec(Struct, frozen=True, rename="camel"):
    node_name: str = ""
    containers: list[Container] = []


class _ContainerStatus(Struct, frozen=True, rename="camel"):
    ready: bool = False
    restart_count: int = 0


class _PodStatus(Struct, frozen=True, rename="camel"):
    phase: str = ""
    container_statuses: list[_ContainerStatus] = []


class Pod(Struct, frozen=True):
    """A Pod."""

    metadata: Meta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    @property
    def ready(self) -> bool:
        """Whether all of its containers are."""
        found = self.status.container_statuses
        return bool(found) and all(each.ready for each in found)


class Pods(Struct, frozen=True):
    """A list of pods."""

    items: list[Pod]


class _NodeStatus(Struct, frozen=True):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}


class Node(Struct, frozen=True):
    """A Node."""

    metadata: Meta
    status: _NodeStatus = _NodeStatus()


class Nodes(Struct, frozen=True):
    """A list of nodes."""

    items: list[Node]


class Event(Struct, frozen=True, rename="camel"):
    """A core/v1 Event; those of events.k8s.io are the same objects, whose time is another field."""

    type: str = ""
    reason: str = ""
    message: str = ""
    last_timestamp: datetime | None = None
    event_time: datetime | None = None

    @property
    def time(self) -> datetime | None:
        """When it was last seen."""
        return self.last_timestamp or self.event_time


class Events(Struct, frozen=True):
    """A list of Events."""

    items: list[Event]


class ControllerRevision(Struct, frozen=True):
    """A ControllerRevision, without its data."""

    metadata: Meta
    revision: int = 0


class ControllerRevisions(Struct, frozen=True):
    """A list of them."""

    items: list[ControllerRevision]


class _Usage(Struct, frozen=True):
    usage: dict[str, str] = {}


class PodMetrics(Struct, frozen=True):
    """What metrics.k8s.io says of a pod."""

    metadata: Meta
    containers: list[_Usage] = []


class PodMetricsList(Struct, frozen=True):
    """A list of them."""

    items: list[PodMetrics]


class ConfigMap(Struct, frozen=True):
    """A ConfigMap."""

    data: dict[str, str] = {}


class _Template(Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class _DeploymentSpec(Struct, frozen=True):
    replicas: int = 1
    template: _Template = _Template()


class Deployment(Struct, frozen=True):
    """A Deployment."""

    metadata: Meta
    spec: _DeploymentSpec = field(default_factory=_DeploymentSpec)


class _ScalerSpec(Struct, frozen=True, rename="camel"):
    min_replicas: int = 1
    max_replicas: int = 1


class Scaler(Struct, frozen=True):
    """A HorizontalPodAutoscaler."""

    spec: _ScalerSpec = field(default_factory=_ScalerSpec)


class Managed(Struct, frozen=True):
    """Any object, for who manages it."""

    kind: str = ""
    metadata: Meta = Meta()


class ManagedList(Struct, frozen=True):
    """A list of them; the API server leaves out the items' kind."""

    items: list[Managed]
