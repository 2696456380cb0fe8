"""Nodes as far as hand-overs look at them, and what pods note of their own."""

import sys
from datetime import datetime

from msgspec import Struct, field

from tenantry_operator.api.meta import moment
from tenantry_operator.interruption import names
from tenantry_operator.interruption.signals import Kind, Mark
from tenantry_operator.pods import Pod


class Meta(Struct, frozen=True, rename="camel"):
    """The part of ``metadata`` that is read."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Condition(Struct, frozen=True):
    """A condition of a node or pod."""

    type: str = ""
    status: str = ""


class Taint(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A taint, whole: the list is only ever written as one."""

    key: str
    effect: str = ""
    value: str = ""
    time_added: str = ""


class NodeSpec(Struct, frozen=True):
    """``spec`` of a Node."""

    provider_id: str = field(default="", name="providerID")
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class Conditions(Struct, frozen=True):
    """``status`` of a Node."""

    conditions: tuple[Condition, ...] = ()


class LiveNode(Struct, frozen=True):
    """A Node as the API server tells of it."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: Conditions = Conditions()


class Node(Struct, frozen=True, kw_only=True):
    """A Node as it is kept."""

    name: str
    uid: str = ""
    version: str = ""
    instance: str = ""
    unschedulable: bool = False
    ready: bool = True
    taints: tuple[Taint, ...] = ()
    #: What the operator has noted of it, and what its agent has.
    mark: Mark | None = None
    agent: Mark | None = None


def node(live: LiveNode) -> Node:
    """What is kept of a Node. The instance is the last part of its provider id (aws:///<zone>/i-…), never its name."""
    meta, notes = live.metadata, live.metadata.annotations
    return Node(
        name=sys.intern(meta.name),
        uid=meta.uid,
        version=meta.resource_version,
        instance=live.spec.provider_id.rpartition("/")[2],
        unschedulable=live.spec.unschedulable,
        ready=_is_true(live.status.conditions, "Ready"),
        taints=live.spec.taints,
        mark=Mark.decode(notes.get(names.INTERRUPTION, "")),
        agent=Mark.decode(notes.get(names.AGENT_NOTICE, "")),
    )


class Handover(Struct, frozen=True, kw_only=True):
    """What a pod's own annotations say of its hand-over."""

    reason: Kind = Kind.DRAIN
    since: datetime | None = None
    deadline: datetime | None = None
    released: datetime | None = None


def handover(pod: Pod) -> Handover:
    """What a pod that has left the pool says of it."""
    notes = pod.notes
    reason = notes.get(names.HANDOVER, "")
    return Handover(
        reason=Kind(reason) if reason in set(Kind) else Kind.DRAIN,
        since=moment(notes.get(names.SINCE)),
        deadline=moment(notes.get(names.DEADLINE)),
        released=moment(notes.get(names.RELEASED)),
    )


def _is_true(conditions: tuple[Condition, ...], kind: str) -> bool:
    return any(condition.type == kind and condition.status == "True" for condition in conditions)
