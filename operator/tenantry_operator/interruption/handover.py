"""How pods leave a node that goes away: one pure function from what is known to the writes that are due.

A pod is in one of these situations, which its own labels and annotations tell, so nothing is lost with the operator:

    active                   on a node that stays
    -> draining, serving     surged: released by its ReplicaSet, which makes another; it goes on serving
    -> draining, released    out of the Service, because the replacement is Ready; what is under way goes on
    -> deleted               nothing is under way any more, or the node's end is near

The number of replicas is never touched, so there is no quarrel with an HPA, and a single replica has no gap. Each write
is one patch or deletion of one pod; whoever comes after a crash sees the same situations and goes on.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from tenantry_operator.interruption import names
from tenantry_operator.interruption.nodes import NodeNote, leaving, notes
from tenantry_operator.interruption.observed import Node, handover
from tenantry_operator.interruption.signals import Kind, Mark, Source, whole
from tenantry_operator.live import StandIn
from tenantry_operator.pods import Pod, Pods

#: Before the node's end: the pod ends its open streams itself, each with a well-formed last event.
END_MARGIN = timedelta(seconds=15)
#: Before the node's end: the pod is deleted, whatever it does.
DELETE_MARGIN = timedelta(seconds=10)
#: Between leaving the Service and the end: endpoints reach all nodes within a second or two, and what was sent to the
#: pod meanwhile has arrived.
LINGER = timedelta(seconds=5)
#: Longest that a pod may go on with its streams where no deadline is known. An hour is more than any answer takes.
PATIENCE = timedelta(hours=1)
#: A replacement that is not Ready after so long is worth telling: usually there is no room for it.
STRANDED = timedelta(seconds=30)
#: Pods surged in one go: those with most at stake come first, and in-flight figures are there for the next.
BATCH = 32
#: Seconds between looks while anything is under way.
TICK = 0.5


class Surge(Struct, frozen=True):
    """Take the pod out of the pool, and with ``release`` at once out of the Service, too."""

    pod: Pod
    mark: Mark
    release: bool = False


class Amend(Struct, frozen=True):
    """The node's end is at another time than the pod says, or has been called off."""

    pod: Pod
    deadline: datetime | None


class Release(Struct, frozen=True):
    """Take the pod out of the Service."""

    pod: Pod


class Remove(Struct, frozen=True):
    """Delete the pod. ``grace`` seconds; None: its own. 0 only for what does not run any more."""

    pod: Pod
    grace: int | None = None


Step = Surge | Amend | Release | Remove


class World(Struct, frozen=True):
    """What is known."""

    nodes: Mapping[str, Node]
    pods: Pods
    #: Heard of nodes and not noted on them yet.
    heard: Mapping[str, Mark]
    #: Replicas that a tenant's Deployment is to have, if known.
    wanted: Callable[[str], int | None]
    #: Requests under way, by uid of the pod, where they are known as of a moment ago.
    in_flight: Mapping[str, int]
    #: Nodes that could not be written to. Their pods leave all the same, though a replacement may come back to them.
    unwritable: frozenset[str] = frozenset()
    #: Pods, by uid, that somebody wants to evict, wherever they are.
    evicted: frozenset[str] = frozenset()


class Plan(Struct, frozen=True):
    """What is due."""

    notes: list[NodeNote]
    steps: list[Step]
    #: Tenants with pods that serve until their replacements are Ready.
    stand_ins: dict[str, StandIn]
    #: Pods whose requests are to be counted.
    asked: list[Pod]
    #: Nodes that go away.
    leaving: dict[str, Mark]
    #: Whether to look again without being woken.
    busy: bool


def decide(world: World, now: datetime) -> Plan:
    """What is due now."""
    going = leaving(world.nodes, world.heard, now)
    mine = [
        pod
        for pod in world.pods
        if not _has_ended(pod) and (pod.node in going or not in_pool(pod) or pod.uid in world.evicted)
    ]
    tenants = {
        tenant: [pod for pod in world.pods.of(tenant) if not _has_ended(pod)] for tenant in {pod.tenant for pod in mine}
    }
    under_way = [pod for pod in mine if not pod.terminating and not _stays(pod, going)]
    # A rebalance is over when its node's pods have left it, so at once where there were none.
    emptied = frozenset(going) - {pod.node for pod in under_way if in_pool(pod)}
    noted = list(notes(world.nodes, world.heard, emptied, now))
    # The taint comes first: a replacement must not be put on the very node.
    unfenced = {note.node.name for note in noted} - world.unwritable
    emptied_by_hand = dict.fromkeys(world.evicted, Mark(kind=Kind.DRAIN, source=Source.NODE, since=whole(now)))
    fenced = [pod for pod in mine if pod.node not in unfenced]
    steps = _surges(fenced, going, emptied_by_hand, tenants, world.in_flight)
    stand_ins: dict[str, StandIn] = {}
    for tenant, pods in tenants.items():
        steps += _leave(pods, going, world.wanted(tenant), world.in_flight, now)
        if any(_waits(pod) for pod in pods):
            stand_ins[tenant] = _stand_in([pod for pod in pods if _waits(pod)], now)
    return Plan(
        notes=noted,
        steps=steps,
        stand_ins=stand_ins,
        asked=[pod for pod in under_way if pod.ip],
        leaving=going,
        busy=bool(under_way) or any(node.mark or node.agent for node in world.nodes.values()),
    )


def in_pool(pod: Pod) -> bool:
    """Whether the Deployment counts the pod."""
    return pod.pool != names.DRAINING


def in_service(pod: Pod) -> bool:
    """Whether requests are sent to the pod while it is ready."""
    return pod.serve != names.NO


def _has_ended(pod: Pod) -> bool:
    return pod.phase in ("Succeeded", "Failed")


def _stays(pod: Pod, going: Mapping[str, Mark]) -> bool:
    """Whether the pod stays although its node is among those: a rebalance moves once what was there when it came."""
    mark = going.get(pod.node)
    if mark is None or mark.kind is not Kind.REBALANCE or not in_pool(pod):
        return False
    return mark.done or (pod.created is not None and pod.created > mark.since)


def _waits(pod: Pod) -> bool:
    return not in_pool(pod) and in_service(pod) and not pod.terminating


def _stand_in(waiting: list[Pod], now: datetime) -> StandIn:
    since = min((handover(pod).since or now for pod in waiting), default=now)
    return StandIn(sum(pod.ready for pod in waiting), since if now - since > STRANDED else None)


def _surges(
    mine: list[Pod],
    going: Mapping[str, Mark],
    evicted: Mapping[str, Mark],
    tenants: Mapping[str, list[Pod]],
    in_flight: Mapping[str, int],
) -> list[Step]:
    """Pods that begin to leave: tenants without a Ready pod elsewhere first, then those with most under way."""
    unsettled = {pod.node for pod in mine if _waits(pod)}
    due: list[tuple[bool, int, str, Step]] = []
    for pod in mine:
        mark = None if _stays(pod, going) else going.get(pod.node)
        if mark is None or mark.kind is Kind.REBALANCE:
            mark = evicted.get(pod.uid, mark)
        if not in_pool(pod) or mark is None:
            continue
        if mark.kind is Kind.GONE:
            due.append((False, 0, pod.uid, Remove(pod, grace=0)))
        elif pod.terminating:
            continue
        elif mark.kind is Kind.REBALANCE and pod.node in unsettled:
            continue  # without hurry: one at a time, and none where replacements find no room
        else:
            unsettled.add(pod.node)
            elsewhere = any(each.ready and in_pool(each) and each.node not in going for each in tenants[pod.tenant])
            lost = mark.kind is Kind.LOST or not pod.ready
            due.append((elsewhere, -in_flight.get(pod.uid, 0), pod.uid, Surge(pod, mark, release=lost)))
    due.sort(key=lambda entry: entry[:3])
    return [step for *_, step in due[:BATCH]]


def _leave(
    pods: list[Pod],
    going: Mapping[str, Mark],
    wanted: int | None,
    in_flight: Mapping[str, int],
    now: datetime,
) -> list[Step]:
    """The next steps of one tenant's pods that have begun to leave."""
    steps: list[Step] = []
    active = [pod for pod in pods if in_pool(pod) and not pod.terminating]
    healthy = sum(pod.ready and (pod.node not in going or _stays(pod, going)) for pod in active)
    needed = len(active) if wanted is None else wanted
    waiting = sorted(
        (pod for pod in pods if _waits(pod)),
        key=lambda pod: (_deadline(pod, going) or now + PATIENCE, in_flight.get(pod.uid, 0), pod.uid),
    )
    serving = healthy + sum(pod.ready for pod in waiting)
    for pod in waiting:
        deadline, mark = _deadline(pod, going), going.get(pod.node)
        # One that is not Ready serves nobody. Of the others as many go as there are beyond what is wanted.
        spare = serving > needed and healthy > 0
        if mark is not None and mark.kind is Kind.GONE:
            steps.append(Remove(pod, grace=0))
        elif not pod.ready or needed == 0 or spare:
            steps.append(Release(pod))
            serving -= pod.ready
        elif deadline is not None and now >= deadline - DELETE_MARGIN:
            steps.append(Remove(pod, grace=_rest(deadline, now)))
        elif handover(pod).deadline != deadline:
            steps.append(Amend(pod, deadline))
    released = [pod for pod in pods if not in_pool(pod) and not in_service(pod)]
    steps += [step for pod in released if (step := _end(pod, going.get(pod.node), in_flight, now)) is not None]
    return steps


def _end(pod: Pod, mark: Mark | None, in_flight: Mapping[str, int], now: datetime) -> Step | None:
    """The next step of a pod that is out of the Service."""
    if mark is not None and mark.kind is Kind.GONE:
        return Remove(pod, grace=0)
    if pod.terminating:
        return None
    if mark is not None and mark.kind is Kind.LOST:
        return None  # nobody there would hear of it: it goes with its Node, or ends properly when that comes back
    note, deadline = handover(pod), mark.deadline if mark is not None else None
    if deadline is not None and now >= deadline - DELETE_MARGIN:
        return Remove(pod, grace=_rest(deadline, now))
    if note.deadline != deadline:
        return Amend(pod, deadline)
    since = note.released or note.since
    if since is None or now - since >= PATIENCE:
        return Remove(pod)
    # One that is not Ready and does not answer has nothing left to do either.
    under_way = in_flight.get(pod.uid, 1 if pod.ready else 0)
    if now - since >= LINGER and under_way == 0:
        return Remove(pod)
    return None


def _deadline(pod: Pod, going: Mapping[str, Mark]) -> datetime | None:
    mark = going.get(pod.node)
    return mark.deadline if mark is not None else None


def _rest(deadline: datetime, now: datetime) -> int:
    """Seconds of grace before the node's end; at least one, because 0 means that nobody waits for the process."""
    return max(1, int((deadline - now).total_seconds()) - 2)


def streams_end(deadline: datetime, now: datetime) -> datetime:
    """When a pod ends what is still open."""
    return max(whole(deadline - END_MARGIN), whole(now))
