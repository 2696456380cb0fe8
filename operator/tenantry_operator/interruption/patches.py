"""The bodies of what a hand-over writes. Each carries uid and resourceVersion of what was looked at: the API server
refuses it when the pod or Node is another one, or has changed since."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from tenantry_operator.api.meta import API_VERSION
from tenantry_operator.interruption import names
from tenantry_operator.interruption.handover import streams_end
from tenantry_operator.interruption.nodes import NodeNote
from tenantry_operator.interruption.signals import Mark, whole
from tenantry_operator.plan.names import POOL_LABEL, SERVE_LABEL
from tenantry_operator.pods import Pod

Body = Mapping[str, object]


def surge(pod: Pod, mark: Mark, now: datetime, *, owner: str | None, release: bool) -> Body:
    """Out of the pool, in one write: what says how far the hand-over is, until when, and that it is under way at all.

    ``owner``: the uid of the pod's Tenant, whose it is from now on, because its ReplicaSet lets go of it. As a
    controller: `kubectl drain` refuses to touch a pod that has none.
    """
    labels = {POOL_LABEL: names.DRAINING, **({SERVE_LABEL: names.NO} if release else {})}
    annotations: dict[str, str | None] = {
        names.HANDOVER: mark.kind.value,
        names.SINCE: _text(now),
        names.DO_NOT_DISRUPT: "true",
        **({names.RELEASED: _text(now)} if release else {}),
        **(_ends(mark.deadline, now) if mark.deadline is not None else {}),
    }
    metadata: dict[str, object] = {**_same(pod), "labels": labels, "annotations": annotations}
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": API_VERSION, "kind": "Tenant", "name": pod.tenant, "uid": owner, "controller": True}
        ]
    return {"metadata": metadata}


def amend(pod: Pod, deadline: datetime | None, now: datetime) -> Body:
    """Another end of the node, or none."""
    return {"metadata": {**_same(pod), "annotations": _ends(deadline, now)}}


def release(pod: Pod, now: datetime) -> Body:
    """Out of the Service."""
    annotations = {names.RELEASED: _text(now)}
    return {"metadata": {**_same(pod), "labels": {SERVE_LABEL: names.NO}, "annotations": annotations}}


def note(change: NodeNote) -> Body:
    """Our annotation and taint of a Node. The list of taints is written as a whole, hence the precondition."""
    node, mark = change.node, change.mark
    annotations = {names.INTERRUPTION: mark.encode() if mark is not None else None}
    metadata = {"uid": node.uid, "resourceVersion": node.version, "annotations": annotations}
    body: dict[str, object] = {"metadata": metadata}
    if change.taints != node.taints:
        body["spec"] = {"taints": msgspec.to_builtins(change.taints) or None}
    return body


def _ends(deadline: datetime | None, now: datetime) -> dict[str, str | None]:
    if deadline is None:
        return {names.DEADLINE: None, names.STREAMS_END: None}
    return {names.DEADLINE: _text(deadline), names.STREAMS_END: _text(streams_end(deadline, now))}


def _same(pod: Pod) -> dict[str, object]:
    return {"uid": pod.uid, "resourceVersion": str(pod.version)}


def _text(moment: datetime) -> str:
    return whole(moment).isoformat().replace("+00:00", "Z")
