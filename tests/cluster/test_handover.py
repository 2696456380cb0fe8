"""Pods leave nodes that go away, on the real controllers: surged by label, replaced, released, deleted.

And whatever happens to the operator meanwhile, it ends the same.
"""

import json
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, RefusedError, eventually
from tests.cluster.installation import Installation
from tests.cluster.leaving import (
    LONG,
    NODES,
    Object,
    Watched,
    clear,
    endpoints,
    every_node,
    has_moved,
    karpenter_says,
    label,
    notice,
    only_pod,
    pods,
    taint,
    taints,
    tenants,
    under_way,
)
from tests.cluster.operator_process import Operators
from tests.cluster.pod_proxy import PodProxy
from tests.cluster.recording_proxy import Asked, proxies

#: Seconds of notice where a node's end is waited for: pods are gone 10 s before it, and a slow machine needs some.
NOTICE = 60


def test_one_replica_moves_without_a_gap_and_leaves_before_its_node_though_a_stream_is_open(
    cluster: Cluster, operators: Operators
) -> None:
    operator = operators.start().says("synced")
    with tenants(cluster, "solo"):
        old, node = only_pod(cluster, "solo")
        with Watched(cluster, "solo") as watched:
            notice(cluster, node, NOTICE)
            eventually("its place is taken", lambda: label(cluster, old, "serve") == "no")
            leaving = cluster.call("GET", old)["metadata"]
            assert cluster.condition("solo", "Ready")["status"] == "True"  # type: ignore[index]
            eventually("it has moved", lambda: has_moved(cluster, "solo", node), patience=NOTICE + 60)
        assert (watched.fewest, watched.looks > 20) == (1, True)
        (owner,) = leaving["ownerReferences"]
        assert owner["kind"] == "Tenant", "somebody has to own what its ReplicaSet let go of"
        notes = leaving["annotations"]
        assert notes["karpenter.sh/do-not-disrupt"] == "true"
        assert notes["tenantry.dev/handover"] == "Spot"
        end, deadline = (
            datetime.fromisoformat(notes[f"tenantry.dev/{key}"]) for key in ("streams-end-at", "handover-deadline")
        )
        assert (deadline - end).total_seconds() == 15
        assert operator.said_at("pod handed over") < deadline, "not before its node's end"
        assert {"key": "tenantry.dev/leaving", "value": "Spot", "effect": "NoSchedule"} in taints(cluster, node)
        assert operator.metric('tenantry_handovers_total{ended="ended_early",reason="Spot"}') == 1
        clear(cluster, node)
        operator.settles()


def test_three_replicas_on_two_nodes_at_once_stay_three(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    operators.start().says("synced")
    with tenants(cluster, "trio", autoscaling={"minReplicas": 3, "maxReplicas": 3}):
        first, second, *_ = sorted({each["spec"]["nodeName"] for each in pods(cluster, "trio")})
        with Watched(cluster, "trio") as watched:
            notice(cluster, first, LONG)
            notice(cluster, second, LONG)
            streams.says = under_way(0)
            eventually("they have moved", lambda: has_moved(cluster, "trio", first, second))
        assert watched.fewest == 3
        assert len(pods(cluster, "trio")) == 3


@pytest.mark.timeout(600)
def test_the_operator_killed_after_each_write_ends_where_an_undisturbed_one_does(
    cluster: Cluster, installation: Installation, operators: Operators, streams: PodProxy, tmp_path: Path
) -> None:
    """The writes: the Node fenced, the pod surged, released, deleted. The answer to each never arrives."""
    names = [f"step-{number}" for number in range(1, 5)]
    operators.start(lease="steps").says("synced")
    streams.says = under_way(0)
    where: dict[str, tuple[str, str]] = {}
    with ExitStack() as held:
        for name in names:
            held.enter_context(tenants(cluster, name))
            where[name] = only_pod(cluster, name)
            # A node for each: what is written to it is one of the writes.
            taint(cluster, where[name][1], "taken")
        operators.end()
        watched = [held.enter_context(Watched(cluster, name)) for name in names]
        ways = held.enter_context(proxies(installation.operator, tmp_path))
        for number, name in enumerate(names, start=1):
            old, node = where[name]

            def counts(asked: Asked, pod: str = old, node: str = node) -> bool:
                return asked.path in (pod, f"{NODES}/{node}")

            way = ways.open(only=name)
            operators.kubeconfig = way.kubeconfig
            victim = operators.start(lease=f"victim-{name}", revived=False).says("synced")
            way.kill_after(number, victim.process.pid, of=counts)
            notice(cluster, node, LONG)
            while (status := victim.process.wait(timeout=180)) == 1 and not way.has_killed:  # its Lease was lost
                victim = operators.start(lease=f"victim-{name}", revived=False)
                way.aim_at(victim.process.pid)
            assert status == -9
            fenced = "tenantry.dev/leaving" in [each["key"] for each in taints(cluster, node)]
            stands = (fenced, label(cluster, old, "pool"), label(cluster, old, "serve"))
            reached = [(True, "active", "yes"), (True, "draining", "yes"), (True, "draining", "no"), (True, None, None)]
            assert stands == reached[number - 1], f"killed after {number} writes"
        operators.kubeconfig = installation.operator
        operators.start(lease="steps-heir").says("synced")
        for name in names:
            eventually(f"{name} has moved", lambda: has_moved(cluster, name, where[name][1]))  # noqa: B023
            assert len(pods(cluster, name)) == 1
        assert [each.fewest for each in watched] == [1] * len(names)


def test_both_replicas_killed_in_the_middle_cut_nothing_and_the_next_one_goes_on(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    operators.start().says("leading")
    operators.start().says("standing by")
    with tenants(cluster, "twice"):
        old, node = only_pod(cluster, "twice")
        others = [each for each in every_node(cluster) if each != node]
        for each in others:  # not cordoned: the operator would take each of them for one that goes away
            taint(cluster, each, "taken")
        notice(cluster, node, LONG)
        eventually("it is under way", lambda: label(cluster, old, "pool") == "draining")
        for operator in operators.started:
            operator.kill()
        with Watched(cluster, "twice") as watched:
            for each in others:
                taint(cluster, each)  # only now can the replacement run
            eventually("its replacement is ready", lambda: len(endpoints(cluster, "twice")) == 2)
            operators.start().says("synced")
            streams.says = under_way(0)
            eventually("it has moved", lambda: has_moved(cluster, "twice", node))
        assert watched.fewest >= 1


def test_the_same_notice_by_three_channels_five_times_is_one_hand_over(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    operator = operators.start().says("synced")
    with tenants(cluster, "told"):
        _, node = only_pod(cluster, "told")
        taint(cluster, node, "aws-node-termination-handler/spot-itn")
        for number in range(3):
            karpenter_says(cluster, "SpotInterrupted", node, number)
        notice(cluster, node, LONG)
        heard = 'tenantry_interruption_signals_total{kind="Spot",known="yes",source="event"'
        eventually("all of them are heard", lambda: operator.metric(heard) == 3)
        streams.says = under_way(0)
        eventually("it has moved", lambda: has_moved(cluster, "told", node))
        assert operator.metric("tenantry_handovers_total") == 1
        assert len(pods(cluster, "told")) == 1
        keys = [each["key"] for each in taints(cluster, node)]
        assert sorted(keys) == ["aws-node-termination-handler/spot-itn", "tenantry.dev/leaving"]


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
