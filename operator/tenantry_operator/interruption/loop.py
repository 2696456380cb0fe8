"""Hand-overs, carried out: what is known of nodes and pods goes into ``decide``, and what that says is done.

Level-triggered, like all of the operator: woken by a change, it looks at everything again. Nothing is remembered from
one look to the next but what nodes and pods say themselves, so it may be killed between any two writes. A write that
fails is tried again with the next look; one that lost a race is decided upon anew.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from tenantry_operator import metrics
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.interruption import patches
from tenantry_operator.interruption.evictions import Evictions
from tenantry_operator.interruption.handover import (
    TICK,
    Amend,
    Plan,
    Release,
    Remove,
    Step,
    Surge,
    World,
    decide,
    in_pool,
)
from tenantry_operator.interruption.nodes import NodeNote
from tenantry_operator.interruption.observed import LiveNode, Node, handover, node
from tenantry_operator.interruption.signals import Kind, Mark, Signal, merged
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.reflector import Reflector
from tenantry_operator.kube.resources import DEPLOYMENTS, NODES, PODS
from tenantry_operator.live import Leaving, Live
from tenantry_operator.plan import names as plan_names
from tenantry_operator.plan.observed import Ref, version
from tenantry_operator.pods import LivePod, Pod, Pods, pod
from tenantry_operator.scaling.inflight import Scraper

log = logging.getLogger(__name__)

#: Seconds between two looks, so that what changes together is looked at together.
BREATH = 0.05
#: Seconds for which a figure of requests under way is good.
FRESH = 2.0
#: Seconds until a write that failed is tried again.
RETRY = 1.0
#: Seconds for a signal to be noted on its Node.
NOTED_WITHIN = 10.0
#: How the requests of a pod that was handed over can have ended.
ENDINGS = FINISHED, ENDED_EARLY, UNKNOWN = "finished", "ended_early", "unknown"
#: Signals of instances that are no node (yet) that are kept, and for how long: an instance may be told to go before its
#: kubelet has registered, and most messages of a shared account are about instances that never will.
UNKNOWN_KEPT, UNKNOWN_FOR = 1000, timedelta(minutes=5)


class Handovers:
    """Nodes that go away, and the pods on them. ``changed`` is called with tenants that wait for room, or no longer."""

    def __init__(
        self,
        client: Client,
        live: Live,
        pods: Pods,
        scraper: Scraper,
        changed: Callable[[str], None],
        evictions: Evictions,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client, self._live, self._pods, self._scraper = client, live, pods, scraper
        self._changed, self._evictions, self._now = changed, evictions, now
        self._nodes: dict[str, Node] = {}
        self._heard: dict[str, Mark] = {}
        self._unknown: dict[str, Mark] = {}
        self._in_flight: dict[str, tuple[float, int]] = {}
        self._held_back: dict[str, float] = {}
        self._unwritable: set[str] = set()
        self._plan: Plan | None = None
        self._wake = asyncio.Event()
        self.nodes = Reflector(client, NODES, self, labels="", into=LiveNode, keep=node)
        metrics.WATCH_AGE_SECONDS.labels(NODES.kind).set_function(self.nodes.age)
        for kind, ended in itertools.product(Kind, ENDINGS):
            metrics.HANDOVERS.labels(kind.value, ended)  # from 0 on, or an alert would not see the first of them
        pods.listeners.append(self._pod_changed)
        evictions.wake = self._wake.set

    # What is heard. A sink of ``Reflector`` for nodes, a listener for pods, and signals from elsewhere.

    def listed(self, found: list[Node], as_of: str) -> None:
        """All nodes."""
        self._nodes = {each.name: each for each in found}
        self._wake.set()

    def changed(self, item: Node, gone: bool) -> None:
        """A node was added, changed, or is gone."""
        known = self._nodes.get(item.name)
        if gone:
            self._nodes.pop(item.name, None)
            self._unwritable.discard(item.name)
        elif known is None or version(item.version) > version(known.version):
            self._nodes[item.name] = item
            if item.instance in self._unknown:
                self._hear(item.name, self._unknown.pop(item.instance))
        self._wake.set()

    def _pod_changed(self, item: Pod, gone: bool) -> None:
        if gone:
            self._in_flight.pop(item.uid, None)
            self._held_back.pop(item.uid, None)
        if (self._plan is not None and self._plan.busy) or not in_pool(item) or item.node in self.leaving:
            self._wake.set()

    def hear(self, signals: Iterable[Signal]) -> list[str]:
        """Take in signals; gives the nodes of this cluster that they are about."""
        found = [name for signal in signals if (name := self._place(signal)) is not None]
        self._wake.set()
        return found

    async def report(self, signals: Iterable[Signal]) -> bool:
        """Take in signals; whether all of those that are about nodes of this cluster are noted on them by now."""
        waiting = self.hear(signals)
        clock = asyncio.get_running_loop().time
        until = clock() + NOTED_WITHIN
        while any(name in self._heard for name in waiting):
            if clock() > until:
                return False
            await asyncio.sleep(BREATH)
        return True

    def _place(self, signal: Signal) -> str | None:
        """Take in one signal; the name of its node, if there is one."""
        mark = Mark.of(signal)
        found = [each.name for each in self._nodes.values() if _is_of(each, signal)]
        metrics.SIGNALS.labels(signal.source.value, signal.kind.value, "yes" if found else "no").inc()
        for name in found:
            self._hear(name, mark)
            return name
        self._forget_unknown()
        if signal.instance and len(self._unknown) < UNKNOWN_KEPT:
            known = self._unknown.get(signal.instance)
            self._unknown[signal.instance] = merged([mark, *([known] if known else [])]) or mark
        return None

    def _hear(self, name: str, mark: Mark) -> None:
        known = self._heard.get(name)
        self._heard[name] = merged([mark, *([known] if known else [])]) or mark

    def _forget_unknown(self) -> None:
        horizon = self._now() - UNKNOWN_FOR
        self._unknown = {instance: mark for instance, mark in self._unknown.items() if mark.since > horizon}

    @property
    def leaving(self) -> Mapping[str, Mark]:
        """Nodes that go away, and what is known of that."""
        return self._plan.leaving if self._plan is not None else {}

    # What is done.

    async def run(self) -> None:
        """Hand over until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.nodes.run())
            await self.nodes.synced.wait()
            group.create_task(self._count())
            while True:
                self._wake.clear()
                await self._look()
                timeout = TICK if self._plan is not None and self._plan.busy else None
                try:
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()
                except TimeoutError:
                    continue
                await asyncio.sleep(BREATH)

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time()
        fresh = {uid: count for uid, (at, count) in self._in_flight.items() if clock - at < FRESH}
        now = self._now()
        world = World(
            self._nodes,
            self._pods,
            self._heard,
            self._wanted,
            fresh,
            unwritable=frozenset(self._unwritable),
            evicted=self._evictions.wanted(now),
        )
        plan = decide(world, now)
        self._tell(plan)
        self._plan = plan
        self._forget_what_is_noted()
        await asyncio.gather(
            *(self._note(each) for each in plan.notes if self._may(each.node.uid, clock)),
            *(self._step(each) for each in plan.steps if self._may(each.pod.uid, clock)),
        )

    def _wanted(self, tenant: str) -> int | None:
        ref = Ref(DEPLOYMENTS.group_kind, namespace_of(tenant), plan_names.WORKLOAD)
        found = self._live.child(tenant, ref)
        return found.workload.wanted if found is not None and found.workload is not None else None

    def _tell(self, plan: Plan) -> None:
        """Metrics, and tenants whose replacements do not come up (or now have)."""
        metrics.NODES_LEAVING.set(len(plan.leaving))
        self._live.leaving = {name: Leaving(mark.kind, mark.deadline) for name, mark in plan.leaving.items()}
        metrics.STRANDED.set(sum(each.awaited is not None for each in plan.stand_ins.values()))
        before, self._live.stand_ins = self._live.stand_ins, plan.stand_ins
        for tenant in before.keys() | plan.stand_ins.keys():
            if before.get(tenant) != plan.stand_ins.get(tenant):
                self._changed(tenant)
        for name in plan.leaving.keys() - self.leaving.keys():
            mark = plan.leaving[name]
            log.info("node leaves", extra={"node": name, "kind": mark.kind, "deadline": str(mark.deadline or "")})

    def _forget_what_is_noted(self) -> None:
        for name, mark in list(self._heard.items()):
            known = self._nodes.get(name)
            if known is None or (known.mark is not None and merged([known.mark, mark]) == known.mark):
                del self._heard[name]

    def _may(self, uid: str, clock: float) -> bool:
        return self._held_back.get(uid, 0.0) <= clock

    async def _note(self, change: NodeNote) -> None:
        name = change.node.name
        try:
            fresh = await self._client.merge_patch(NODES, name, patches.note(change), into=LiveNode)
        except errors.KubeError as error:
            self._failed(change.node.uid, f"node {name}", error)
            if not isinstance(error, errors.Conflict):
                self._unwritable.add(name)
            return
        self._unwritable.discard(name)
        self.changed(node(fresh), False)

    async def _step(self, step: Step) -> None:
        item, now = step.pod, self._now()
        try:
            match step:
                case Surge(mark=mark, release=release):
                    record = self._live.tenants.get(item.tenant)
                    owner = record.meta.uid if record is not None else None
                    await self._patch(item, patches.surge(item, mark, now, owner=owner, release=release))
                case Amend(deadline=deadline):
                    await self._patch(item, patches.amend(item, deadline, now))
                case Release():
                    await self._patch(item, patches.release(item, now))
                    since = handover(item).since
                    if since is not None and item.ready:
                        metrics.REPLACEMENT_SECONDS.observe((now - since).total_seconds())
                case Remove(grace=grace):
                    await self._remove(item, grace)
        except errors.NotFound:
            return  # its own watch event tells so, too
        except errors.KubeError as error:
            self._failed(item.uid, f"pod {item.namespace}/{item.name}", error)

    async def _patch(self, item: Pod, body: patches.Body) -> None:
        fresh = await self._client.merge_patch(PODS, item.name, body, namespace=item.namespace, into=LivePod)
        self._pods.changed(pod(fresh), False)

    async def _remove(self, item: Pod, grace: int | None) -> None:
        await self._client.delete(PODS, item.name, namespace=item.namespace, uid=item.uid, grace=grace)
        seen = self._in_flight.get(item.uid)
        ended = UNKNOWN if seen is None else FINISHED if seen[1] == 0 else ENDED_EARLY
        metrics.HANDOVERS.labels(handover(item).reason.value, ended).inc()
        log.info("pod handed over", extra={"tenant": item.tenant, "pod": item.name, "ended": ended})
        # The watch tells in a moment; until then it is not to be deleted again.
        self._held_back[item.uid] = asyncio.get_running_loop().time() + RETRY

    def _failed(self, uid: str, what: str, error: errors.KubeError) -> None:
        clock = asyncio.get_running_loop().time()
        self._held_back = {each: until for each, until in self._held_back.items() if until > clock}
        if isinstance(error, errors.Conflict):
            self._held_back[uid] = clock + BREATH  # the event that was missed is on its way
            return
        self._held_back[uid] = clock + RETRY
        log.warning("%s: %s", what, error)

    async def _count(self) -> None:
        """Ask pods that leave how much they have under way, as long as there are any."""
        clock = asyncio.get_running_loop().time
        while True:
            asked = self._plan.asked if self._plan is not None else []
            answers = await asyncio.gather(*(self._scraper.read(each.ip) for each in asked))
            for each, answer in zip(asked, answers, strict=True):
                if answer is not None:
                    self._in_flight[each.uid] = clock(), answer.requests
                    if answer.requests == 0 and not in_pool(each):
                        self._wake.set()
            await asyncio.sleep(TICK)


def _is_of(node: Node, signal: Signal) -> bool:
    return node.instance == signal.instance if signal.instance else node.name == signal.node
