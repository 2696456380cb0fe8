"""Pods leave nodes that go away, on the real controllers: surged by label, replaced, released, deleted.

And whatever happens to the operator meanwhile, it ends the same. KWOK's pods answer nothing, so that what they have
under way is not known, and each is kept until its node's end.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from tenantry_operator.interruption.signals import Kind, Mark, Source

from tests.cluster.cluster import TENANTS, Cluster, RefusedError, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operators

NODES = "/api/v1/nodes"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
MERGE = "application/merge-patch+json"
#: Seconds of notice: long enough for a busy machine, and pods are gone 10 s before its end.
NOTICE = 30

Object = dict[str, Any]


@pytest.fixture
def operators(installation: Installation, tmp_path: Path) -> Iterator[Operators]:
    """Operators of a test."""
    running = Operators(installation.operator, tmp_path)
    yield running
    running.end()


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


def pods(cluster: Cluster, name: str) -> list[Object]:
    """The tenant's pods that are not on their way out."""
    found: list[Object] = cluster.call("GET", f"/api/v1/namespaces/tenant-{name}/pods")["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def node_of(cluster: Cluster, name: str) -> str:
    """The node of a tenant's only pod."""
    (pod,) = pods(cluster, name)
    return str(pod["spec"]["nodeName"])


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


def test_one_replica_moves_without_a_gap_and_nothing_is_left_behind(cluster: Cluster, operators: Operators) -> None:
    operator = operators.start().says("synced")
    with tenants(cluster, "solo"):
        node, (old,) = node_of(cluster, "solo"), pods(cluster, "solo")
        with Watched(cluster, "solo") as watched:
            began = time.monotonic()
            notice(cluster, node, NOTICE)
            eventually("its place is taken", lambda: endpoints(cluster, "solo") not in ([], [old["metadata"]["name"]]))
            leaving = cluster.call("GET", f"/api/v1/namespaces/tenant-solo/pods/{old['metadata']['name']}")["metadata"]
            assert cluster.condition("solo", "Ready")["status"] == "True"  # type: ignore[index]
            eventually("it has moved", lambda: has_moved(cluster, "solo", node))
            took = time.monotonic() - began
        assert (watched.fewest, watched.looks > 20) == (1, True)
        assert took < NOTICE, "not before its node's end"
        (owner,) = leaving["ownerReferences"]
        assert owner["kind"] == "Tenant", "somebody has to own what its ReplicaSet let go of"
        notes = leaving["annotations"]
        assert notes["karpenter.sh/do-not-disrupt"] == "true"
        assert notes["tenantry.dev/handover"] == "Spot"
        end, deadline = (
            datetime.fromisoformat(notes[f"tenantry.dev/{key}"]) for key in ("streams-end-at", "handover-deadline")
        )
        assert (deadline - end).total_seconds() == 15
        taints = cluster.call("GET", f"{NODES}/{node}")["spec"]["taints"]
        assert {"key": "tenantry.dev/leaving", "value": "Spot", "effect": "NoSchedule"} in taints
        assert operator.metric("tenantry_handovers_total") == 1
        clear(cluster, node)
        settled = operator.writes()
        time.sleep(2)
        assert operator.writes() == settled


def test_three_replicas_on_two_nodes_at_once_stay_three(cluster: Cluster, operators: Operators) -> None:
    operators.start().says("synced")
    with tenants(cluster, "trio", autoscaling={"minReplicas": 3, "maxReplicas": 3}):
        first, second, *_ = sorted({each["spec"]["nodeName"] for each in pods(cluster, "trio")})
        with Watched(cluster, "trio") as watched:
            notice(cluster, first, NOTICE)
            notice(cluster, second, NOTICE)
            eventually("they have moved", lambda: has_moved(cluster, "trio", first, second))
        assert watched.fewest == 3
        assert len(pods(cluster, "trio")) == 3


def test_both_replicas_killed_in_the_middle_cut_nothing_and_the_next_one_goes_on(
    cluster: Cluster, operators: Operators
) -> None:
    operators.start().says("leading")
    operators.start().says("standing by")
    with tenants(cluster, "twice"):
        node = node_of(cluster, "twice")
        notice(cluster, node, NOTICE + 15)
        eventually("it is under way", lambda: len(pods(cluster, "twice")) == 2)
        for operator in operators.started:
            operator.kill()
        for _ in range(20):
            assert endpoints(cluster, "twice")
            time.sleep(0.1)
        operators.start().says("synced")
        eventually("it has moved", lambda: has_moved(cluster, "twice", node), patience=NOTICE + 30)


def test_the_same_notice_by_three_channels_five_times_is_one_hand_over(cluster: Cluster, operators: Operators) -> None:
    operator = operators.start().says("synced")
    with tenants(cluster, "told"):
        node = node_of(cluster, "told")
        taint = {"key": "aws-node-termination-handler/spot-itn", "value": "evt", "effect": "NoSchedule"}
        cluster.patch(f"{NODES}/{node}", {"spec": {"taints": [taint]}})
        for number in range(3):
            karpenter_says(cluster, "SpotInterrupted", node, number)
        notice(cluster, node, NOTICE)
        eventually("it has moved", lambda: has_moved(cluster, "told", node))
        assert operator.metric("tenantry_handovers_total") == 1
        assert operator.metric('tenantry_interruption_signals_total{kind="Spot",known="yes",source="event"') == 3
        assert len(pods(cluster, "told")) == 1
        keys = [each["key"] for each in cluster.call("GET", f"{NODES}/{node}")["spec"]["taints"]]
        assert sorted(keys) == ["aws-node-termination-handler/spot-itn", "tenantry.dev/leaving"]


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metadata": {"labels": {"stolen": "yes"}}}, "labels, finalizers and owners"),
        (
            {"metadata": {"annotations": {"volumes.kubernetes.io/x": "y"}}},
            "only the annotation tenantry.dev/interruption",
        ),
        (
            {"metadata": {"annotations": {"tenantry.dev/agent-notice": "{}"}}},
            "only the annotation tenantry.dev/interruption",
        ),
        ({"spec": {"unschedulable": True}}, "spec.unschedulable"),
        ({"spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}}, "only tenantry.dev/leaving"),
    ],
    ids=str,
)
def test_of_a_node_the_operator_can_change_its_own_notes_only(
    installation: Installation, change: Object, said: str
) -> None:
    operator = Cluster(installation.operator)
    with pytest.raises(RefusedError, match=said):
        operator.patch(f"{NODES}/node-0", change)
    allowed = {"metadata": {"annotations": {"tenantry.dev/interruption": None}}, "spec": {"taints": None}}
    operator.patch(f"{NODES}/node-0", allowed)
    assert json.dumps(operator.call("GET", NODES)["items"][0])
