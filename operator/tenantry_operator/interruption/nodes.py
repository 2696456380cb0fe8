"""Nodes: which of them go away and until when, from all that is known; and what is to be written down about it.

Pure. What is on the Node object (taints, ``unschedulable``, the agent's annotation) is read anew each time, so it is
over when it is taken away. What was heard otherwise (a queue's message, an Event, or only now that a taint is there
without a time) is noted in an annotation of the Node: that is all the memory there is.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from tenantry_operator.interruption import names
from tenantry_operator.interruption.observed import Node, Taint
from tenantry_operator.interruption.signals import SPOT_NOTICE, Kind, Mark, Source, merged, whole

#: What taints of others say. Karpenter's is on every node that it ends, for whatever reason; NTH's come with taintNode.
TAINTS: Mapping[str, Kind] = {
    "karpenter.sh/disrupted": Kind.DRAIN,
    "karpenter.sh/disruption": Kind.DRAIN,  # Karpenter before 1.0
    "ToBeDeletedByClusterAutoscaler": Kind.DRAIN,
    "aws-node-termination-handler/spot-itn": Kind.SPOT,
    "aws-node-termination-handler/rebalance-recommendation": Kind.REBALANCE,
    "aws-node-termination-handler/scheduled-maintenance": Kind.MAINTENANCE,
    "aws-node-termination-handler/asg-lifecycle-termination": Kind.GROUP,
    "node.kubernetes.io/out-of-service": Kind.GONE,
    "node.cloudprovider.kubernetes.io/shutdown": Kind.GONE,
    "node.kubernetes.io/unreachable": Kind.LOST,
}

#: What Karpenter tells of a node or NodeClaim in Events (its pkg/controllers/interruption/events/events.go).
EVENT_REASONS: Mapping[str, tuple[Kind, timedelta | None]] = {
    "SpotInterrupted": (Kind.SPOT, SPOT_NOTICE),
    "SpotRebalanceRecommendation": (Kind.REBALANCE, None),
    "InstanceStopping": (Kind.STOPPING, timedelta(seconds=20)),
    "InstanceTerminating": (Kind.STOPPING, timedelta(seconds=20)),
    "InstanceUnhealthy": (Kind.DRAIN, None),
}

#: Kinds that somebody else keeps pods off the node for.
_FENCED_BY_OTHERS = frozenset({Kind.DRAIN, Kind.LOST})


class NodeNote(Struct, frozen=True, kw_only=True):
    """A change of a Node: our annotation (None: none) and all its taints."""

    node: Node
    mark: Mark | None
    taints: tuple[Taint, ...]


def leaving(nodes: Mapping[str, Node], heard: Mapping[str, Mark], now: datetime) -> dict[str, Mark]:
    """The nodes that go away, each with what is known of it; those whose time has not come are not among them.

    When half of all nodes are silent it is more likely that we (or the API server) are cut off than that they are dead;
    then nothing is done about silent ones. Kubernetes' node lifecycle controller thinks alike.
    """
    found = {name: mark for name, each in nodes.items() if (mark := _known(each, heard.get(name), now)) is not None}
    silent = [name for name, mark in found.items() if mark.kind is Kind.LOST]
    if 2 * len(silent) >= len(nodes):
        for name in silent:
            del found[name]
    return {name: mark for name, mark in found.items() if mark.acts(now)}


def notes(
    nodes: Mapping[str, Node], heard: Mapping[str, Mark], emptied: frozenset[str], now: datetime
) -> Iterator[NodeNote]:
    """What is to be written on Nodes. ``emptied``: nodes that no active pod of a tenant is on."""
    for name, each in nodes.items():
        mark = merged(_lasting(each, heard.get(name), now))
        if mark is not None and mark.kind is Kind.REBALANCE and not mark.done and name in emptied and each.mark == mark:
            mark = replace(mark, done=True)
        taints = _taints(each, _known(each, heard.get(name), now), now)
        if mark != each.mark or taints != each.taints:
            yield NodeNote(node=each, mark=mark, taints=taints)


def _known(node: Node, heard: Mark | None, now: datetime) -> Mark | None:
    """All that is known of a node, as one."""
    marks = list(_lasting(node, heard, now))
    if node.agent is not None and not (node.ready and node.agent.is_over(now)):
        marks.append(node.agent)
    marks += [_now(TAINTS[taint.key], now) for taint in node.taints if taint.key in TAINTS]
    if node.unschedulable:
        marks.append(_now(Kind.DRAIN, now))
    return merged(marks)


def _lasting(node: Node, heard: Mark | None, now: datetime) -> Iterator[Mark]:
    """What is or is to be noted in the annotation."""
    known = node.mark
    spot = any(TAINTS.get(taint.key) is Kind.SPOT for taint in node.taints)
    if known is not None:
        cancelled = known.source is Source.NODE and not spot
        untrue = node.ready and known.is_over(now)
        if not cancelled and not untrue:
            yield known
            spot = spot and known.kind is not Kind.SPOT
    if heard is not None:
        yield heard
    if spot:  # the taint names no time, so its two minutes begin when it is seen first
        yield Mark(kind=Kind.SPOT, source=Source.NODE, since=whole(now), deadline=whole(now + SPOT_NOTICE))


def _now(kind: Kind, now: datetime) -> Mark:
    return Mark(kind=kind, source=Source.NODE, since=whole(now))


def _taints(node: Node, known: Mark | None, now: datetime) -> tuple[Taint, ...]:
    others = tuple(taint for taint in node.taints if taint.key != names.LEAVING_TAINT)
    if known is None or known.kind in _FENCED_BY_OTHERS or not known.acts(now):
        return others
    effect = "PreferNoSchedule" if known.kind is Kind.REBALANCE else "NoSchedule"
    for taint in node.taints:
        if (taint.key, taint.value, taint.effect) == (names.LEAVING_TAINT, known.kind.value, effect):
            return node.taints
    return (*others, Taint(key=names.LEAVING_TAINT, value=known.kind.value, effect=effect))
