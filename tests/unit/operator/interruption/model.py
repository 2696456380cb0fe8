"""A cluster in memory, as far as hand-overs see it: ReplicaSets that replace, a scheduler with room, kubelets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace
from tenantry_operator.interruption import names, patches
from tenantry_operator.interruption.handover import Amend, Plan, Release, Remove, Step, Surge, World, decide, in_pool
from tenantry_operator.interruption.observed import Node
from tenantry_operator.interruption.signals import Kind, Mark, Source
from tenantry_operator.plan.names import HANDOVER_PREFIX, POOL_LABEL, SERVE_LABEL
from tenantry_operator.pods import Pod, Pods

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def spot(seconds: int = 120, kind: Kind = Kind.SPOT) -> Mark:
    """A notice of so many seconds."""
    return Mark(kind=kind, source=Source.QUEUE, since=START, deadline=START + timedelta(seconds=seconds))


@dataclass
class Model:
    """Time goes on by ``tick``. ``room``: pods that a node holds."""

    replicas: dict[str, int]
    nodes: dict[str, Node]
    room: Mapping[str, int]
    now: datetime = START
    start_up: int = 3
    pods: Pods = field(default_factory=Pods)
    streams: dict[str, int] = field(default_factory=dict)
    heard: dict[str, Mark] = field(default_factory=dict)
    #: What was done, for people: (verb, tenant).
    story: list[tuple[str, str]] = field(default_factory=list)
    removed: dict[str, int | None] = field(default_factory=dict)
    #: Pods, by uid, that somebody wants to evict.
    evicted: set[str] = field(default_factory=set)
    _count: int = 0
    _age: dict[str, int] = field(default_factory=dict)

    def place(self, tenant: str, node: str, *, streams: int = 0, ready: bool = True) -> Pod:
        """A pod that is there."""
        self._count += 1
        uid = f"{tenant}-{self._count}"
        item = Pod(tenant=tenant, name=uid, uid=uid, version=1, node=node, ip="10.0.0.1", pool="active", serve="yes")
        item = replace(item, phase="Running" if node else "Pending", ready=ready and bool(node), created=self.now)
        self.streams[uid] = streams
        self.pods.changed(item, False)
        return item

    def endpoints(self, tenant: str) -> int:
        """Pods that the Service sends requests to."""
        return sum(each.ready and each.serve == "yes" and not each.terminating for each in self.pods.of(tenant))

    def plan(self) -> Plan:
        """What is due."""
        world = World(
            self.nodes, self.pods, self.heard, self.replicas.get, self.streams, evicted=frozenset(self.evicted)
        )
        return decide(world, self.now)

    def operate(self, keep: int = 1000) -> Plan:
        """Do what is due, or only the first so many of it, as somebody does who is killed then."""
        plan = self.plan()
        for change in plan.notes[:keep]:
            noted = replace(change.node, mark=change.mark, taints=change.taints)
            self.nodes[noted.name] = noted
            self.heard.pop(noted.name, None)
        for step in plan.steps[: max(0, keep - len(plan.notes))]:
            self._do(step)
        return plan

    def _do(self, step: Step) -> None:
        item = step.pod
        self.story.append((type(step).__name__, item.tenant))
        match step:
            case Surge(mark=mark, release=release):
                self._patch(item, patches.surge(item, mark, self.now, owner="uid", release=release))
            case Amend(deadline=deadline):
                self._patch(item, patches.amend(item, deadline, self.now))
            case Release():
                self._patch(item, patches.release(item, self.now))
            case Remove(grace=grace):
                self.removed[item.uid] = grace
                self.pods.changed(item, True)

    def _patch(self, item: Pod, body: patches.Body) -> None:
        metadata = body["metadata"]
        assert isinstance(metadata, dict)
        assert (metadata["uid"], metadata["resourceVersion"]) == (item.uid, str(item.version)), "no precondition"
        labels = {POOL_LABEL: item.pool, SERVE_LABEL: item.serve, **metadata.get("labels", {})}
        written = {key: text for key, text in metadata["annotations"].items() if key.startswith(HANDOVER_PREFIX)}
        notes = {key: text for key, text in {**item.notes, **written}.items() if text is not None}
        fresh = replace(item, version=item.version + 1, pool=labels[POOL_LABEL], serve=labels[SERVE_LABEL], notes=notes)
        self.pods.changed(fresh, False)

    def tick(self, seconds: int = 1) -> None:
        """Controllers, scheduler and kubelets do their part, and time passes."""
        for tenant, wanted in self.replicas.items():
            for _ in range(wanted - sum(in_pool(each) and not each.terminating for each in self.pods.of(tenant))):
                self.place(tenant, "", ready=False)
        for each in list(self.pods):
            if not each.node and (found := self._free()):
                self.pods.changed(replace(each, node=found, version=each.version + 1, phase="Running"), False)
            elif each.node and not each.ready and self.nodes[each.node].ready and in_pool(each):
                self._age[each.uid] = self._age.get(each.uid, 0) + 1
                if self._age[each.uid] >= self.start_up:
                    self.pods.changed(replace(each, ready=True, version=each.version + 1), False)
        self.now += timedelta(seconds=seconds)

    def _free(self) -> str | None:
        def takes(node: Node) -> bool:
            closed = node.unschedulable or any(t.effect in ("NoSchedule", "NoExecute") for t in node.taints)
            return not closed and len(self.pods.on_node(node.name)) < self.room.get(node.name, 0)

        open_nodes = [node for node in self.nodes.values() if takes(node)]
        open_nodes.sort(key=lambda node: any(t.key == names.LEAVING_TAINT for t in node.taints))
        return open_nodes[0].name if open_nodes else None

    def play(self, seconds: int, keep: Iterable[int] = ()) -> None:
        """Let so much time pass."""
        limits = iter(keep)
        for _ in range(seconds):
            for _ in range(3):
                self.operate(next(limits, 1000))
            self.tick()


def cluster(replicas: Mapping[str, int], room: Mapping[str, int]) -> Model:
    """Empty nodes with room, and tenants that have no pods yet."""
    return Model(dict(replicas), {name: Node(name=name) for name in room}, room)
