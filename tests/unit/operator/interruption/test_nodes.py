"""Which nodes go away and until when, and what is noted of it."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from msgspec.structs import replace
from tenantry_operator.interruption.nodes import leaving, notes
from tenantry_operator.interruption.observed import Condition, Conditions, LiveNode, Meta, Node, NodeSpec, Taint, node
from tenantry_operator.interruption.signals import DOUBT, LEAD, STALE, Kind, Mark, Signal, Source, merged

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
D = NOW + timedelta(seconds=120)
NOBODY: frozenset[str] = frozenset()


def mark(kind: Kind, deadline: datetime | None = None, source: Source = Source.QUEUE, since: datetime = NOW) -> Mark:
    """Something known of a node."""
    return Mark(kind=kind, source=source, since=since, deadline=deadline)


def world(*nodes: Node) -> dict[str, Node]:
    """These nodes and two that nothing is the matter with."""
    return {each.name: each for each in (*nodes, Node(name="fine"), Node(name="well"))}


def settled(nodes: dict[str, Node], heard: dict[str, Mark] | None = None, now: datetime = NOW) -> dict[str, Node]:
    """The nodes after what is to be noted has been written, and has been written again."""
    for _ in range(3):
        changes = list(notes(nodes, heard or {}, NOBODY, now))
        nodes = {**nodes, **{c.node.name: replace(c.node, mark=c.mark, taints=c.taints) for c in changes}}
    assert not changes, "it never comes to rest"
    return nodes


@pytest.mark.parametrize(
    ("key", "kind"),
    {
        "karpenter.sh/disrupted": Kind.DRAIN,
        "karpenter.sh/disruption": Kind.DRAIN,
        "ToBeDeletedByClusterAutoscaler": Kind.DRAIN,
        "aws-node-termination-handler/spot-itn": Kind.SPOT,
        "aws-node-termination-handler/rebalance-recommendation": Kind.REBALANCE,
        "aws-node-termination-handler/scheduled-maintenance": Kind.MAINTENANCE,
        "aws-node-termination-handler/asg-lifecycle-termination": Kind.GROUP,
        "node.kubernetes.io/out-of-service": Kind.GONE,
        "node.kubernetes.io/unreachable": Kind.LOST,
    }.items(),
)
def test_a_taint_of_somebody_elses_says_that_a_node_leaves(key: str, kind: Kind) -> None:
    found = leaving(world(Node(name="n", taints=(Taint(key=key, effect="NoSchedule", value="id"),))), {}, NOW)
    assert {name: each.kind for name, each in found.items()} == {"n": kind}


def test_a_cordon_says_that_a_node_leaves_and_uncordoning_calls_it_off() -> None:
    cordoned = Node(name="n", unschedulable=True)
    assert leaving(world(cordoned), {}, NOW)["n"].kind is Kind.DRAIN
    assert not leaving(world(replace(cordoned, unschedulable=False)), {}, NOW)


def test_other_taints_say_nothing() -> None:
    taints = (Taint(key="dedicated", value="gpu", effect="NoSchedule"), Taint(key="node.kubernetes.io/not-ready"))
    nodes = world(Node(name="n", taints=taints))
    assert not leaving(nodes, {}, NOW)
    assert not list(notes(nodes, {}, NOBODY, NOW))


def test_what_was_heard_is_noted_with_a_taint_beside_those_of_others() -> None:
    other = Taint(key="dedicated", value="gpu", effect="NoSchedule")
    (change,) = notes(world(Node(name="n", taints=(other,))), {"n": mark(Kind.SPOT, D)}, NOBODY, NOW)
    assert change.mark == mark(Kind.SPOT, D)
    assert change.taints == (other, Taint(key="tenantry.dev/leaving", value="Spot", effect="NoSchedule"))


def test_a_taint_without_a_time_gets_its_deadline_once() -> None:
    tainted = Node(name="n", taints=(Taint(key="aws-node-termination-handler/spot-itn", effect="NoSchedule"),))
    nodes = settled(world(tainted))
    later = NOW + timedelta(seconds=50)
    assert nodes["n"].mark is not None
    assert leaving(nodes, {}, later)["n"].deadline == D
    assert settled(nodes, now=later) == nodes


def test_a_taint_that_is_taken_away_calls_its_notice_off() -> None:
    tainted = Node(name="n", taints=(Taint(key="aws-node-termination-handler/spot-itn", effect="NoSchedule"),))
    nodes = settled(world(tainted))
    nodes["n"] = replace(nodes["n"], taints=tuple(t for t in nodes["n"].taints if "handler" not in t.key))
    assert not leaving(nodes, {}, NOW)
    cleared = settled(nodes)["n"]
    assert (cleared.mark, cleared.taints) == (None, ())


def test_the_same_notice_five_times_by_three_channels_is_one_notice() -> None:
    spoken = [
        mark(Kind.SPOT, D, Source.AGENT),
        mark(Kind.SPOT, D + timedelta(seconds=3), Source.QUEUE, NOW + timedelta(seconds=3)),
        mark(Kind.SPOT, D + timedelta(seconds=5), Source.EVENT, NOW + timedelta(seconds=5)),
        mark(Kind.REBALANCE, None, Source.QUEUE, NOW + timedelta(seconds=1)),
        mark(Kind.SPOT, D, Source.AGENT),
    ]
    outcomes = {merged(order) for order in permutations(spoken)}
    assert {(each.kind, each.deadline, each.since) for each in outcomes if each} == {(Kind.SPOT, D, NOW)}
    nodes = world(Node(name="n"))
    writes = 0
    for each in spoken:
        changes = list(notes(nodes, {"n": each}, NOBODY, NOW))
        writes += len(changes)
        nodes |= {c.node.name: replace(c.node, mark=c.mark, taints=c.taints) for c in changes}
    assert writes == 1


def test_a_notice_that_does_not_come_true_is_forgotten_with_its_taint() -> None:
    nodes = settled(world(Node(name="n")), {"n": mark(Kind.SPOT, D)})
    later = D + DOUBT + timedelta(seconds=1)
    assert leaving(nodes, {}, D + DOUBT)["n"].kind is Kind.SPOT
    cleared = settled(nodes, now=later)["n"]
    assert (cleared.mark, cleared.taints) == (None, ())
    group = settled(world(Node(name="n")), {"n": mark(Kind.GROUP)})
    assert settled(group, now=NOW + STALE + timedelta(seconds=1))["n"].mark is None


def test_a_notice_of_a_node_that_is_down_is_not_forgotten() -> None:
    nodes = settled(world(Node(name="n")), {"n": mark(Kind.SPOT, D)})
    nodes["n"] = replace(nodes["n"], ready=False)
    assert settled(nodes, now=D + timedelta(days=1)) == nodes


def test_what_is_announced_for_later_is_noted_at_once_and_acted_upon_in_time() -> None:
    far = NOW + timedelta(days=3)
    nodes = settled(world(Node(name="n")), {"n": mark(Kind.MAINTENANCE, far)})
    assert nodes["n"].mark is not None
    assert nodes["n"].taints == ()
    assert not leaving(nodes, {}, NOW)
    assert "n" in leaving(nodes, {}, far - LEAD)
    assert settled(nodes, now=far - LEAD)["n"].taints[0].value == "Maintenance"


def test_an_agents_notice_lasts_as_long_as_it_says_so() -> None:
    told = replace(Node(name="n"), agent=mark(Kind.SPOT, D, Source.AGENT))
    nodes = settled(world(told))
    assert nodes["n"].mark is None
    assert nodes["n"].taints[0].key == "tenantry.dev/leaving"
    assert leaving(nodes, {}, NOW)["n"].deadline == D
    assert settled({**nodes, "n": replace(nodes["n"], agent=None)})["n"].taints == ()


def test_a_rebalance_keeps_pods_off_gently_and_happens_once() -> None:
    nodes = settled(world(Node(name="n")), {"n": mark(Kind.REBALANCE)})
    assert [taint.effect for taint in nodes["n"].taints] == ["PreferNoSchedule"]
    (done,) = notes(nodes, {}, frozenset({"n"}), NOW)
    assert done.mark is not None
    assert done.mark.done
    nodes["n"] = replace(nodes["n"], mark=done.mark)
    for _ in range(3):  # told again
        assert not list(notes(nodes, {"n": mark(Kind.REBALANCE)}, frozenset({"n"}), NOW))


def test_a_spot_notice_after_a_rebalance_is_acted_upon() -> None:
    once = replace(mark(Kind.REBALANCE), done=True)
    found = merged([once, mark(Kind.SPOT, D)])
    assert found is not None
    assert (found.kind, found.done, found.deadline) == (Kind.SPOT, False, D)


def test_silence_of_half_the_nodes_is_ours_and_not_theirs() -> None:
    silent = (Taint(key="node.kubernetes.io/unreachable", effect="NoExecute"),)
    some = {f"n{number}": Node(name=f"n{number}", taints=silent if number < 2 else ()) for number in range(5)}
    assert set(leaving(some, {}, NOW)) == {"n0", "n1"}
    most = {name: replace(each, taints=silent) if name < "n3" else each for name, each in some.items()}
    assert not leaving(most, {}, NOW)


@pytest.mark.parametrize(
    "text", ["", "no", "{}", '{"kind": "Spot"}', '{"kind":"Spot","source":"queue","since":"2026-01-01T00:00:00"}']
)
def test_an_annotation_that_is_no_mark_says_nothing(text: str) -> None:
    assert Mark.decode(text) is None


def test_a_mark_is_read_in_whole_seconds_because_pods_note_whole_ones() -> None:
    text = '{"kind":"Spot","source":"queue","since":"2026-03-01T12:00:00.5Z","deadline":"2026-03-01T13:02:00.25+01:00"}'
    assert Mark.decode(text) == mark(Kind.SPOT, D)


def test_a_mark_is_read_as_it_was_written() -> None:
    whole = Mark.of(Signal(kind=Kind.SPOT, source=Source.EVENT, since=NOW + timedelta(milliseconds=5), deadline=D))
    assert Mark.decode(whole.encode()) == whole


def test_a_node_is_known_by_the_last_part_of_its_provider_id() -> None:
    meta = Meta(name="ip-10-0-1-2", resource_version="7", annotations={"tenantry.dev/interruption": "rubbish"})
    status = Conditions((Condition("Ready", "True"),))
    live = LiveNode(meta, NodeSpec("aws:///us-east-1a/i-0abc", unschedulable=True), status)
    assert node(live) == Node(name="ip-10-0-1-2", version="7", instance="i-0abc", unschedulable=True, ready=True)
