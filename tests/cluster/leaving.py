"""Nodes that go away, and tenants on them: what tests of hand-overs do to nodes and see of pods."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Self

from tenantry_operator.interruption.signals import Kind, Mark, Source

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.pod_proxy import Says
from tests.cluster.stand_in import Answerer, StandIn

NODES = "/api/v1/nodes"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
#: Seconds of notice that no test lasts: what happens then has another cause than the node's end.
LONG = 900

Object = dict[str, Any]


def under_way(requests: int) -> Says:
    """What every pod says of itself: so many streams are open."""
    return lambda _: {"requests": requests, "streams": requests, "draining": False, "idleSeconds": 0.0}


@contextmanager
def tenants(cluster: Cluster, *names: str, **spec: object) -> Iterator[None]:
    """Ready tenants; an operator runs already. Nodes are as before in the end."""
    cluster.tier("moved", limits={"requestsPerMinute": 60})
    try:
        for name in names:
            cluster.tenant(name, tier="moved", **spec)
        for name in names:
            cluster.wait_for(name, "Ready", "True")
        replicas = int(str(dict(spec.get("autoscaling") or {}).get("minReplicas", 1)))  # type: ignore[call-overload]
        eventually("all pods are ready", lambda: all(len(endpoints(cluster, name)) == replicas for name in names))
        yield
    finally:
        for each in cluster.call("GET", NODES)["items"]:
            clear(cluster, each["metadata"]["name"])
        nothing_was_said(cluster)
        for name in names:
            cluster.delete(f"{TENANTS}/{name}")
        for name in names:
            cluster.gone(name)


def clear(cluster: Cluster, node: str) -> None:
    """Nothing is known against the node any more."""
    notes = {f"tenantry.dev/{key}": None for key in ("agent-notice", "interruption")}
    cluster.patch(
        f"{NODES}/{node}", {"metadata": {"annotations": notes}, "spec": {"taints": None, "unschedulable": None}}
    )


def cordon(cluster: Cluster, node: str, *, on: bool = True) -> None:
    """Whether the scheduler leaves the node out."""
    cluster.patch(f"{NODES}/{node}", {"spec": {"unschedulable": True if on else None}})


def taint(cluster: Cluster, node: str, *keys: str) -> None:
    """What keeps new pods off the node: these taints and no other."""
    written = [{"key": key, "value": "evt", "effect": "NoSchedule"} for key in keys]
    cluster.patch(f"{NODES}/{node}", {"spec": {"taints": written or None}})


def pods(cluster: Cluster, name: str) -> list[Object]:
    """The tenant's pods that are not on their way out."""
    found: list[Object] = cluster.call("GET", f"/api/v1/namespaces/tenant-{name}/pods")["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def only_pod(cluster: Cluster, name: str) -> tuple[str, str]:
    """The path of a tenant's only pod, and its node."""
    (pod,) = pods(cluster, name)
    return f"/api/v1/namespaces/tenant-{name}/pods/{pod['metadata']['name']}", str(pod["spec"]["nodeName"])


def label(cluster: Cluster, pod: str, key: str) -> str | None:
    """One of the pod's labels that say how far its hand-over is; None: it is gone, or about to be."""
    found = cluster.find(pod)
    if found is None or "deletionTimestamp" in found["metadata"]:
        return None
    return str(found["metadata"]["labels"][f"tenantry.dev/{key}"])


def every_node(cluster: Cluster) -> list[str]:
    """The nodes' names."""
    return [each["metadata"]["name"] for each in cluster.call("GET", NODES)["items"]]


def taints(cluster: Cluster, node: str) -> list[Object]:
    """The node's."""
    found: list[Object] = cluster.call("GET", f"{NODES}/{node}")["spec"].get("taints", [])
    return found


def endpoints(cluster: Cluster, name: str) -> list[str]:
    """Pods that the tenant's Service sends requests to."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/tenant-{name}/endpointslices"
    slices = cluster.call("GET", f"{path}?labelSelector=kubernetes.io/service-name=api")["items"]
    each = [entry for one in slices for entry in one.get("endpoints") or []]
    return [entry["targetRef"]["name"] for entry in each if entry["conditions"].get("ready")]


def notice(cluster: Cluster, node: str, seconds: float | None, kind: Kind = Kind.SPOT) -> None:
    """What the node's agent writes when EC2 has told it."""
    now = datetime.now(UTC)
    deadline = None if seconds is None else now + timedelta(seconds=seconds)
    text = Mark(kind=kind, source=Source.AGENT, since=now, deadline=deadline).encode()
    cluster.patch(f"{NODES}/{node}", {"metadata": {"annotations": {"tenantry.dev/agent-notice": text}}})


def has_moved(cluster: Cluster, name: str, *nodes: str) -> bool:
    """Whether only pods of the Deployment are left, all Ready, none on these nodes."""
    found = pods(cluster, name)
    labels = [each["metadata"]["labels"] for each in found]
    return (
        bool(found)
        and all(each["tenantry.dev/pool"] == "active" and each["tenantry.dev/serve"] == "yes" for each in labels)
        and not {each["spec"].get("nodeName") for each in found} & set(nodes)
        and len(endpoints(cluster, name)) == len(found)
    )


def nothing_was_said(cluster: Cluster) -> None:
    """Operators that begin hear no Event of a moment ago."""
    cluster.call("DELETE", EVENTS)


def karpenter_says(cluster: Cluster, reason: str, node: str, number: int = 0) -> None:
    """One of Karpenter's Events."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{node}.{time.time_ns()}.{number}", "namespace": "default"},
        "reason": reason,
        "regarding": {"kind": "Node", "name": node, "apiVersion": "v1"},
        "reportingController": "karpenter",
        "reportingInstance": "karpenter-1",
        "eventTime": now,
        "action": "Interrupt",
        "type": "Warning",
        "note": "Spot interruption warning was triggered",
    }
    cluster.call("POST", EVENTS, event)


class Watched:
    """Counts a tenant's endpoints as long as the block lasts: the fewest that there were."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._stop = threading.Event()
        self.fewest, self.looks = 99, 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self.fewest, self.looks = min(self.fewest, len(endpoints(self._cluster, self._name))), self.looks + 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


class InterruptionQueue(StandIn):
    """SQS as far as the operator uses it: messages come again until they are deleted. Use as a context manager.

    What AWS itself says to our client's requests is tried against moto (tests/component/infra/test_queue.py).
    """

    #: What the operator needs for it beside the URL.
    ENVIRONMENT: Mapping[str, str] = MappingProxyType(
        {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    )

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        queue = self

        class Handler(Answerer):
            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                """ReceiveMessage or DeleteMessage."""
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer: Object = {}
                if self.headers["X-Amz-Target"].endswith("DeleteMessage"):
                    queue.messages.pop(asked["ReceiptHandle"], None)
                else:
                    time.sleep(0.2)  # a short long poll
                    found = list(queue.messages.items())
                    answer = {"Messages": [{"Body": b, "ReceiptHandle": h, "MessageId": h} for h, b in found]}
                self.answer(200, answer, "application/x-amz-json-1.0")

        super().__init__(Handler)
        self.url += "/000000000000/interruptions"

    def notice(self, instance: str) -> None:
        """EventBridge's event of a Spot interruption."""
        detail = {"instance-id": instance, "instance-action": "terminate"}
        event = {"detail-type": "EC2 Spot Instance Interruption Warning", "source": "aws.ec2", "detail": detail}
        self.messages[f"{instance}-{time.time_ns()}"] = json.dumps(event)
