"""What a process does for as long as it holds the Lease: read everything, then watch and work."""

import argparse
import asyncio
import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from msgspec.structs import replace

from tenantry_operator import metrics, modes, options, probes, tenants
from tenantry_operator.children import ChildWatches
from tenantry_operator.interruption.eviction_api import EvictionApi
from tenantry_operator.interruption.evictions import Evictions
from tenantry_operator.interruption.watching import Settings as Hearing
from tenantry_operator.interruption.watching import hand_over
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.events import Recorder
from tenantry_operator.kube.lease import Lease, LeaseLost
from tenantry_operator.live import Live
from tenantry_operator.page.view import Board
from tenantry_operator.plan.desired import Platform
from tenantry_operator.pods import Pods, followed
from tenantry_operator.queue import Lane, WorkQueue
from tenantry_operator.reconcile import Reconciler
from tenantry_operator.redis.shared import Shared, reachable
from tenantry_operator.render import Renderer
from tenantry_operator.resync import Resync
from tenantry_operator.rollout import Rollouts
from tenantry_operator.scaling.capacity import Capacity
from tenantry_operator.tenant_metrics import TenantMetrics
from tenantry_operator.watch import Intake, watch

log = logging.getLogger(__name__)

#: Seconds that reconciles under way get to end after SIGTERM; one takes less than a second.
DRAIN = 15.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """What a process has before it leads."""

    arguments: argparse.Namespace
    access: Access
    client: Client
    lease: Lease
    renderer: Renderer
    vitals: probes.Vitals
    board: Board
    #: Set when the process was told to stop, by a signal that ``catch_signals`` catches.
    stop: asyncio.Event

    def catch_signals(self) -> None:
        """From now on a signal to end sets ``stop``."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)


async def lead(process: Process) -> int:
    """Until told to stop (0), or until the Lease is lost or a watch cannot be kept up (1). Raises KubeError."""
    arguments, client = process.arguments, process.client
    platform = options.platform(arguments)
    platform = replace(platform, cpu_metrics=await client.serves("metrics.k8s.io", "v1beta1"))
    if arguments.redis_file is not None:
        store = await reachable(client, arguments.redis_file, platform.namespace, tuple(arguments.redis_cidr))
        platform = replace(platform, store=store)
    return await Leader(process, platform).run()


class Leader:
    """All that works on tenants, around what is known of them (``Live``) and who is next (``WorkQueue``)."""

    def __init__(self, process: Process, platform: Platform) -> None:
        arguments, client, renderer = process.arguments, process.client, process.renderer
        self._process, self._platform = process, platform
        self._live, self._pods = Live(), Pods()
        recorder = Recorder(client, controller="tenantry.dev/operator", instance=process.lease.identity)
        self._shared: Shared | None = None
        if platform.store is not None:
            file, overlap = arguments.redis_file, arguments.redis_overlap
            self._shared = Shared(file, platform.store, self._live, self._moved_later, overlap=overlap)
        self._evictions = Evictions(timedelta(seconds=arguments.eviction_limit))
        routes = EvictionApi(self._evictions, self._pods).add_to
        self._capacity = Capacity(client, self._live, self._pods, options.scaling(arguments), routes=routes)
        reconciler = Reconciler(
            client=client,
            live=self._live,
            renderer=renderer,
            recorder=recorder,
            platform=platform,
            accounts=self._shared.accounts if self._shared else None,
            watcher=self._capacity,
            wake=self._moved,
        )
        self._queue = WorkQueue(reconciler.reconcile, workers=arguments.workers, unforeseen=reconciler.unforeseen)
        self._intake = Intake(self._live, self._queue)
        self._children = ChildWatches(client, self._live, self._queue)
        self._pod_watch = followed(client, self._pods)
        self._tenant_watch = tenants.followed(client, self._live, self._queue)
        self._resync = Resync(client, self._live, self._notify, platform_namespace=platform.namespace)
        self._rollouts = Rollouts(client, self._live, renderer, recorder, platform, self._moved)
        self._intake.relisted, self._intake.tier_changed = self._resync.soon, self._rollouts.soon
        self._show(recorder)

    def _show(self, recorder: Recorder) -> None:
        """To the probes, the status page and the metrics."""
        vitals, board = self._process.vitals, self._process.board
        vitals.leading, vitals.oldest_wait = True, self._queue.oldest_wait
        watches = (self._intake, self._children, self._pod_watch, self._tenant_watch)
        vitals.watch_age = lambda: max(each.age() for each in watches)
        board.live, board.told, board.in_flight = self._live, recorder.told, self._capacity.in_flight
        vitals.tenants = TenantMetrics(self._live).text
        metrics.LEADING.set(1)

    def _moved(self, tenant: str) -> None:
        self._queue.add(tenant, Lane.PROGRESS)

    def _moved_later(self, tenant: str, pause: float) -> None:
        self._queue.add_later(tenant, Lane.PROGRESS, pause)

    def _notify(self, tenant: str, lane: Lane, pause: float) -> None:
        if pause:
            self._queue.add_later(tenant, lane, pause)
        else:
            self._queue.add(tenant, lane)

    async def run(self) -> int:
        """See ``lead``."""
        stop = self._process.stop
        tasks = [asyncio.create_task(self._process.lease.keep()), asyncio.create_task(self._read_and_work())]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                log.info("stopping")
                await self._queue.drain(DRAIN)
                return 0
            return _verdict(tasks)
        finally:
            for task in [*tasks, stopping]:
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            metrics.LEADING.set(0)

    async def _read_and_work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._children.run())
            group.create_task(self._pod_watch.run())
            # Before anybody is judged: what is not read yet would look like drift.
            await asyncio.gather(self._children.synced(), self._resync.everything())
            group.create_task(self._tenant_watch.run())
            await self._tenant_watch.synced.wait()
            await self._rollouts.everything()
            self._process.vitals.synced = True
            log.info("synced", extra={"tenants": len(self._live.tenants)})
            group.create_task(self._queue.run())
            group.create_task(self._hand_over())
            group.create_task(self._resync.forever())
            group.create_task(self._capacity.run())
            group.create_task(self._rollouts.forever())
            if self._shared is not None:
                group.create_task(self._shared.run())
                group.create_task(modes.follow(self._live, self._pods, self._moved))
            group.create_task(self._watch())

    async def _hand_over(self) -> None:
        client, arguments = self._process.client, self._process.arguments
        hearing = Hearing(arguments.interruption_queue_url, arguments.pod_proxy)
        synced = self._pod_watch.synced
        await hand_over(client, self._live, self._pods, synced, self._moved, self._evictions, hearing)

    async def _watch(self) -> None:
        await watch(
            self._process.access,
            self._intake,
            platform_namespace=self._platform.namespace,
            lease=self._process.lease.name,
            started=self._process.catch_signals,  # Kopf has just taken them
        )


def _verdict(tasks: Sequence[asyncio.Task[None]]) -> int:
    for task in tasks:
        error = task.exception() if task.done() else None
        if isinstance(error, LeaseLost):
            log.error("%s; this process ends, another takes over", error)
        elif error is not None:
            log.error("cannot go on: %s", error, exc_info=error)
    return 1
