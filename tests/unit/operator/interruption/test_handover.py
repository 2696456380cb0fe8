"""How pods leave a node: no endpoint less than wanted, no stream cut, and nothing lost with the operator."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tenantry_operator.interruption.handover import Release, Remove, Surge
from tenantry_operator.interruption.observed import Taint, handover
from tenantry_operator.interruption.signals import Kind

from tests.unit.operator.interruption.model import START, Model, cluster, spot

UNREACHABLE = Taint(key="node.kubernetes.io/unreachable", effect="NoExecute")


def one_replica(streams: int = 0, spare: int = 5) -> Model:
    """A tenant with one pod on a node that gets a notice, and a node with room."""
    model = cluster({"acme": 1}, {"spot": 5, "other": spare})
    model.place("acme", "spot", streams=streams)
    model.heard["spot"] = spot()
    return model


def test_one_replica_has_no_gap_and_leaves_when_its_streams_have_ended() -> None:
    model = one_replica(streams=2)
    for second in range(40):
        model.operate()
        assert model.endpoints("acme") >= 1, f"a gap after {second} s: {model.story}"
        model.tick()
        if second == 30:
            model.streams = dict.fromkeys(model.streams, 0)
            assert not model.removed
    assert model.story == [("Surge", "acme"), ("Release", "acme"), ("Remove", "acme")]
    (left,) = model.pods.of("acme")
    assert left.node == "other"


def test_the_taint_is_there_before_a_replacement_can_come() -> None:
    model = one_replica()
    first = model.operate()
    assert [change.node.name for change in first.notes] == ["spot"]
    assert first.steps == []
    assert [type(step) for step in model.plan().steps] == [Surge]


def test_pods_leave_all_the_same_when_their_node_cannot_be_written_to() -> None:
    model = one_replica()
    from tenantry_operator.interruption.handover import World, decide

    plan = decide(World(model.nodes, model.pods, model.heard, model.replicas.get, {}, frozenset({"spot"})), model.now)
    assert [type(step) for step in plan.steps] == [Surge]


def test_of_three_replicas_as_many_serve_as_are_wanted() -> None:
    model = cluster({"acme": 3}, {"spot": 5, "other": 5})
    for node in ("spot", "spot", "other"):
        model.place("acme", node, streams=1)
    model.heard["spot"] = spot()
    for _ in range(30):
        model.operate()
        assert model.endpoints("acme") >= 3
        model.tick()
    assert {each.node for each in model.pods.of("acme") if each.serve == "yes"} == {"other"}


def test_without_room_the_old_pod_serves_to_the_end_and_that_is_told() -> None:
    model = one_replica(streams=1, spare=0)
    model.play(29)
    assert model.plan().stand_ins["acme"].awaited is None
    model.play(60)
    assert model.plan().stand_ins["acme"].awaited == START
    assert model.endpoints("acme") == 1
    model.play(22)
    (grace,) = model.removed.values()
    assert grace is not None
    assert 1 <= grace <= 10, "the kubelet gets what is left of the node's life"
    assert model.now >= START + timedelta(seconds=110)


def test_streams_that_outlast_the_notice_end_with_their_pod_before_the_node() -> None:
    model = one_replica(streams=1)
    model.play(109)
    assert not model.removed
    model.play(3)
    assert list(model.removed.values()) == [8]


def test_tenants_without_a_pod_elsewhere_come_first_and_then_those_with_most_under_way() -> None:
    model = cluster({"safe": 2, "calm": 1, "busy": 1}, {"spot": 9, "other": 9})
    for tenant, node, streams in (("safe", "spot", 90), ("safe", "other", 0), ("calm", "spot", 1), ("busy", "spot", 7)):
        model.place(tenant, node, streams=streams)
    model.heard["spot"] = spot()
    model.operate()
    model.operate()
    assert model.story == [("Surge", "busy"), ("Surge", "calm"), ("Surge", "safe")]


def test_two_nodes_at_once() -> None:
    model = cluster({"acme": 2}, {"one": 5, "two": 5, "other": 5})
    model.place("acme", "one")
    model.place("acme", "two")
    model.heard = {"one": spot(), "two": spot(100)}
    for _ in range(30):
        model.operate()
        assert model.endpoints("acme") >= 2
        model.tick()
    assert {each.node for each in model.pods.of("acme")} == {"other"}


def test_a_replacement_on_a_node_that_goes_next_is_handed_over_too() -> None:
    model = cluster({"acme": 1}, {"one": 5, "two": 5, "other": 0})
    model.place("acme", "one")
    model.heard["one"] = spot()
    model.play(6)
    model.room = {"other": 5}
    model.heard["two"] = spot()
    model.play(20)
    assert [each.node for each in model.pods.of("acme")] == ["other"]


def test_a_notice_that_is_called_off_leaves_no_deadline_and_the_orphan_is_collected_when_idle() -> None:
    model = one_replica(streams=1)
    model.play(10)
    (orphan,) = (each for each in model.pods.of("acme") if each.pool == "draining")
    assert handover(orphan).deadline is not None
    model.nodes["spot"] = replace(model.nodes["spot"], mark=None)
    model.play(300)
    (orphan,) = (each for each in model.pods.of("acme") if each.pool == "draining")
    assert handover(orphan).deadline is None
    model.streams[orphan.uid] = 0
    model.play(2)
    assert [each.pool for each in model.pods.of("acme")] == ["active"]
    assert model.nodes["spot"].taints == ()


def test_an_earlier_end_reaches_pods_that_are_on_their_way() -> None:
    model = one_replica(streams=1)
    model.play(3)
    model.heard["spot"] = spot(40, Kind.STOPPING)
    model.play(2)
    (leaving,) = (each for each in model.pods.of("acme") if each.pool == "draining")
    assert handover(leaving).deadline == START + timedelta(seconds=40)


def test_a_silent_node_is_left_at_once_but_its_pods_are_not_deleted_blindly() -> None:
    model = cluster({"acme": 1}, {"spot": 5, "other": 5, "third": 0})
    old = model.place("acme", "spot", ready=False)
    model.nodes["spot"] = replace(model.nodes["spot"], taints=(UNREACHABLE,), ready=False)
    model.play(10)
    assert model.endpoints("acme") == 1
    assert old.uid in {each.uid for each in model.pods.of("acme")}
    model.nodes["spot"] = replace(model.nodes["spot"], taints=(), ready=True)
    model.play(2)
    assert old.uid in model.removed


def test_pods_of_an_instance_that_is_gone_are_removed_without_waiting_for_its_kubelet() -> None:
    model = one_replica(streams=3)
    model.heard["spot"] = spot(0, Kind.GONE)
    model.operate()
    model.operate()
    assert list(model.removed.values()) == [0]


def test_a_rebalance_moves_one_pod_at_a_time_and_once() -> None:
    model = cluster({"a": 1, "b": 1, "c": 1}, {"spot": 9, "other": 2})
    for tenant in "abc":
        model.place(tenant, "spot")
    model.tick()
    model.heard["spot"] = replace(spot(kind=Kind.REBALANCE), deadline=None, since=model.now)
    moving = 0
    for _ in range(60):
        model.operate()
        moving = max(moving, sum(each.pool == "draining" and each.serve == "yes" for each in model.pods))
        assert all(model.endpoints(tenant) >= 1 for tenant in "abc")
        model.tick()
    assert moving == 1
    assert [verb for verb, _ in model.story].count("Surge") == 3, "what came back to the node stays there"
    assert model.nodes["spot"].mark is not None
    assert model.nodes["spot"].mark.done


def test_a_tenant_that_wants_no_pods_any_more_just_leaves() -> None:
    model = one_replica()
    model.play(1)
    model.replicas["acme"] = 0
    assert Release in {type(step) for step in model.plan().steps}


def test_a_pod_that_serves_nobody_is_replaced_and_removed() -> None:
    model = cluster({"acme": 1}, {"spot": 5, "other": 5})
    model.place("acme", "spot", ready=False)
    model.heard["spot"] = spot()
    model.streams.clear()
    model.play(12)
    assert [each.node for each in model.pods.of("acme")] == ["other"]


def test_nothing_is_due_while_nothing_is_the_matter() -> None:
    model = cluster({"acme": 2}, {"spot": 5})
    model.place("acme", "spot")
    model.place("acme", "spot")
    plan = model.plan()
    assert (plan.notes, plan.steps, plan.asked, plan.busy) == ([], [], [], False)


@given(
    replicas=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    layout=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    doomed=st.sets(st.integers(0, 1), min_size=1),
    killed=st.lists(st.integers(0, 3), max_size=60),
    streams=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
def test_killed_after_any_write_it_goes_on_and_nobody_has_a_gap(
    replicas: list[int], layout: list[int], doomed: set[int], killed: list[int], streams: list[int]
) -> None:
    model = cluster({f"t{n}": count for n, count in enumerate(replicas)}, {"n0": 20, "n1": 20, "n2": 40})
    places = iter(zip(layout, streams, strict=True))
    for tenant, count in model.replicas.items():
        for _ in range(count):
            at, open_streams = next(places)
            model.place(tenant, f"n{at}", streams=open_streams)
    model.heard = {f"n{number}": spot() for number in doomed}
    limits = iter(killed)
    for second in range(140):
        heard = dict(model.heard)
        model.operate(next(limits, 1000))
        model.heard = {**heard, **model.heard} if second < 20 else model.heard  # told again
        for tenant, count in model.replicas.items():
            assert model.endpoints(tenant) >= count, (tenant, model.story)
        model.tick()
        if second == 60:
            model.streams = dict.fromkeys(model.streams, 0)
    gone = {f"n{number}" for number in doomed}
    assert not [each for each in model.pods if each.node in gone]
    assert all(len(model.pods.of(tenant)) == count for tenant, count in model.replicas.items())
    assert {uid: grace for uid, grace in model.removed.items() if grace is not None} == {}
    assert all(verb != "Amend" for verb, _ in model.story)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_comes_to_rest(kind: Kind) -> None:
    model = one_replica()
    model.heard["spot"] = replace(spot(30 * 60 if kind is Kind.MAINTENANCE else 120), kind=kind)
    model.play(45 * 60 if kind is Kind.MAINTENANCE else 150)
    before = list(model.story)
    model.play(30)
    assert model.story == before
    assert model.endpoints("acme") == 1
    assert Remove.__name__ in {verb for verb, _ in before} or kind is Kind.LOST
