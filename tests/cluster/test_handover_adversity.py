"""Hand-overs that do not go as planned: no room, no node, a notice that was wrong.

Each has an outcome, which docs/spot.md states.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from localcluster.config import ZONES, capacity_labels
from localcluster.controlplane import fake_node

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.leaving import (
    LONG,
    NODES,
    InterruptionQueue,
    Watched,
    cordon,
    endpoints,
    every_node,
    has_moved,
    karpenter_says,
    label,
    nothing_was_said,
    notice,
    only_pod,
    pods,
    taints,
    tenants,
    under_way,
)
from tests.cluster.operator_process import Operators
from tests.cluster.pod_proxy import PodProxy

#: Until a replacement that does not come up is told of (``handover.STRANDED``, 30 s), on a busy machine.
STRANDED_WITHIN = 120.0


@contextmanager
def another_node(cluster: Cluster, name: str, capacity: str, instance: str) -> Iterator[None]:
    """A node that joins, and leaves in the end."""
    document = fake_node(0)
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
    metadata = {"labels": {**labels, **capacity_labels(capacity, ZONES[0])}}
    document["metadata"] = {**metadata, "name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    document["spec"] = {"providerID": f"aws:///{ZONES[0]}/{instance}"}
    cluster.call("POST", NODES, document)
    try:
        yield
    finally:
        cluster.delete(f"{NODES}/{name}")


def test_all_spot_nodes_at_once_leave_everybody_on_on_demand_ones(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    first = operators.start().says("synced")
    spot = every_node(cluster)
    streams.says = under_way(0)
    scaling = {"minReplicas": 2, "maxReplicas": 2}
    with (
        another_node(cluster, "node-on-demand", "on-demand", "i-0123456789abcdef0"),
        tenants(cluster, "all-a", "all-b", autoscaling=scaling),
    ):
        # At once: the operator that leads next hears of all of them before it does anything.
        assert first.stop() == 0
        for node in spot:
            notice(cluster, node, LONG)
        with Watched(cluster, "all-a") as a, Watched(cluster, "all-b") as b:
            operators.start().says("synced")
            for name in ("all-a", "all-b"):
                eventually(f"{name} has moved", lambda: has_moved(cluster, name, *spot))  # noqa: B023
        assert (a.fewest, b.fewest) == (2, 2)
        assert {each["spec"]["nodeName"] for each in pods(cluster, "all-a")} == {"node-on-demand"}


@pytest.mark.timeout(600)
def test_without_room_the_old_pod_serves_on_and_the_tenant_says_what_it_lacks(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    operator = operators.start().says("synced")
    streams.says = under_way(0)
    with tenants(cluster, "stuck"):
        old, node = only_pod(cluster, "stuck")
        others = [each for each in every_node(cluster) if each != node]
        for each in others:
            cordon(cluster, each)
        notice(cluster, node, LONG)
        with Watched(cluster, "stuck") as watched:
            said = lambda: (cluster.condition("stuck", "Degraded") or {}).get("reason") == "ReplacementPending"  # noqa: E731
            eventually("it says what it lacks", said, patience=STRANDED_WITHIN)
            assert cluster.condition("stuck", "Ready")["status"] == "True"  # type: ignore[index]
            assert operator.metric("tenantry_handover_stranded") == 1
            assert (label(cluster, old, "pool"), label(cluster, old, "serve")) == ("draining", "yes")
            cordon(cluster, others[0], on=False)
            eventually("room is used", lambda: has_moved(cluster, "stuck", node))
            cluster.wait_for("stuck", "Degraded", "False")
        assert watched.fewest == 1
        eventually("nobody lacks anything", lambda: operator.metric("tenantry_handover_stranded") == 0)


@pytest.mark.timeout(600)
def test_a_tenant_that_may_have_spot_nodes_only_says_so_while_there_are_none_and_moves_when_it_may(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    first = operators.start().says("synced")
    spot = every_node(cluster)
    streams.says = under_way(0)
    with (
        another_node(cluster, "node-dear", "on-demand", "i-0dddddddddddddddd"),
        tenants(cluster, "thrifty", placement={"capacity": "Spot"}),
    ):
        assert first.stop() == 0
        for each in spot:
            notice(cluster, each, LONG)
        with Watched(cluster, "thrifty") as watched:
            operator = operators.start().says("synced")
            lacks = lambda: (cluster.condition("thrifty", "Degraded") or {}).get("reason") == "ReplacementPending"  # noqa: E731
            eventually("it says what it lacks", lacks, patience=STRANDED_WITHIN)
            said = cluster.condition("thrifty", "Degraded")
            assert said is not None
            assert "placement.capacity SpotPreferred" in said["message"]
            assert operator.metric("tenantry_handover_stranded") == 1
            cluster.patch(f"{TENANTS}/thrifty", {"spec": {"placement": {"capacity": "SpotPreferred"}}})
            eventually("it has moved", lambda: has_moved(cluster, "thrifty", *spot))
            cluster.wait_for("thrifty", "Degraded", "False")
        assert watched.fewest == 1
        assert only_pod(cluster, "thrifty")[1] == "node-dear"


def test_a_notice_for_an_instance_that_is_no_node_waits_for_its_node(cluster: Cluster, operators: Operators) -> None:
    with InterruptionQueue() as queue:
        operator = operators.start("--interruption-queue-url", queue.url, environment=queue.ENVIRONMENT)
        operator.says("synced")
        queue.notice("i-0aaaaaaaaaaaaaaaa")
        queue.notice("i-0bbbbbbbbbbbbbbbb")
        karpenter_says(cluster, "SpotInterrupted", "node-of-nobody")
        unknown = 'tenantry_interruption_signals_total{kind="Spot",known="no"'
        eventually("all of it is heard", lambda: operator.metric(unknown) == 3)
        eventually("the messages are done with", lambda: not queue.messages)
        assert operator.metric("tenantry_nodes_leaving") == 0
        with another_node(cluster, "node-late", "spot", "i-0aaaaaaaaaaaaaaaa"):
            fence = {"key": "tenantry.dev/leaving", "value": "Spot", "effect": "NoSchedule"}
            eventually("the node is kept free", lambda: fence in taints(cluster, "node-late"))
        assert operator.metric("tenantry_handovers_total") == 0
    nothing_was_said(cluster)


def test_what_karpenter_said_a_moment_before_the_operator_came_is_heard(cluster: Cluster, operators: Operators) -> None:
    fence = {"key": "tenantry.dev/leaving", "value": "Spot", "effect": "NoSchedule"}
    with another_node(cluster, "node-told-early", "spot", "i-0cccccccccccccccc"):
        karpenter_says(cluster, "SpotInterrupted", "node-told-early")
        operators.start().says("synced")
        eventually("the node is kept free", lambda: fence in taints(cluster, "node-told-early"))
    nothing_was_said(cluster)


def test_a_notice_that_is_called_off_leaves_an_orphan_without_an_end_that_goes_when_its_streams_have(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    operators.start().says("synced")
    with tenants(cluster, "calm"):
        old, node = only_pod(cluster, "calm")
        notice(cluster, node, LONG)
        eventually("its place is taken", lambda: label(cluster, old, "serve") == "no")
        cluster.patch(f"{NODES}/{node}", {"metadata": {"annotations": {"tenantry.dev/agent-notice": None}}})

        def has_no_end() -> bool:
            return "tenantry.dev/streams-end-at" not in cluster.call("GET", old)["metadata"]["annotations"]

        eventually("its end is off", has_no_end)
        eventually("the node takes pods again", lambda: not taints(cluster, node))
        assert label(cluster, old, "pool") == "draining", "its stream is still open"
        streams.says = under_way(0)
        eventually("the orphan is collected", lambda: label(cluster, old, "pool") is None)
        assert len(pods(cluster, "calm")) == len(endpoints(cluster, "calm")) == 1


def test_a_node_that_is_gone_before_its_time_does_not_keep_its_pods(cluster: Cluster, operators: Operators) -> None:
    """Neither one that has been handed over and still ends streams, nor one that nobody had time to hand over."""
    operators.start().says("synced")
    with tenants(cluster, "gone", "dead"):
        handed, told = only_pod(cluster, "gone")
        struck, untold = only_pod(cluster, "dead")
        notice(cluster, told, LONG)
        eventually("its place is taken", lambda: label(cluster, handed, "serve") == "no")
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoSchedule"}
        for node in {told, untold}:
            fence = [each for each in taints(cluster, node) if each["key"] == "tenantry.dev/leaving"]
            cluster.patch(f"{NODES}/{node}", {"spec": {"taints": [*fence, taint]}})
        for name, node in (("gone", told), ("dead", untold)):
            eventually(f"{name} has moved", lambda: has_moved(cluster, name, node))  # noqa: B023
        eventually("nothing is kept of them", lambda: not (cluster.find(handed) or cluster.find(struck)))
