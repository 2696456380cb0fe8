"""``tenantry operator``: the process. Stand by for the Lease, then read, watch and work until told to stop.

Whatever goes wrong for good (the Lease lost, a watch that cannot be kept up) ends the process with status 1. It starts
anew with nothing in memory that could be stale, which is the same path as every other start.
"""

import argparse
import asyncio
import contextlib
import logging
import secrets
import signal
import socket
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import uvloop
from msgspec.structs import replace

from tenantry_operator import logs, maintenance, metrics, modes, probes
from tenantry_operator.children import ChildWatches
from tenantry_operator.interruption.eviction_api import EvictionApi
from tenantry_operator.interruption.evictions import Evictions
from tenantry_operator.interruption.watching import Settings as Hearing
from tenantry_operator.interruption.watching import hand_over
from tenantry_operator.kube import config, errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder
from tenantry_operator.kube.lease import Lease, LeaseLost
from tenantry_operator.kube.transport import WRITES_IN_FLIGHT
from tenantry_operator.live import Live
from tenantry_operator.page import server as page_server
from tenantry_operator.page.view import Board
from tenantry_operator.plan import names
from tenantry_operator.plan.desired import MetricsSource, Platform, split_image
from tenantry_operator.plan.exposure import Exposure, Gateway, Way
from tenantry_operator.pods import Pods, followed
from tenantry_operator.queue import Lane, WorkQueue
from tenantry_operator.reconcile import Reconciler
from tenantry_operator.redis.shared import Shared, reachable
from tenantry_operator.render import HelmRenderer, RenderError
from tenantry_operator.resync import Resync
from tenantry_operator.rollout import Rollouts
from tenantry_operator.scaling.capacity import Capacity, Settings
from tenantry_operator.tenant_metrics import TenantMetrics
from tenantry_operator.watch import Intake, watch

log = logging.getLogger(__name__)

#: Seconds that reconciles under way get to end after SIGTERM; one takes less than a second.
DRAIN = 15.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="tenantry operator", description="Reconcile Tenants into namespaces, keys and endpoints."
    )
    add = options.add_argument
    add("--namespace", default="tenantry-system", help="the platform's own namespace: Lease, credentials (%(default)s)")
    add("--kubeconfig", type=Path, help="default: $KUBECONFIG, the pod's service account, ~/.kube/config")
    add("--chart", type=Path, default=Path("/usr/share/tenantry/charts/tenant"), help="the tenant chart (%(default)s)")
    add("--tenant-image", help="image of the tenants' pods, with tag or digest")
    add("--tenant-image-pull-policy", default="IfNotPresent", choices=["Always", "IfNotPresent", "Never"])
    add(
        "--public-url-template",
        default="http://127.0.0.1:{nodePort}/v1",
        help="endpoint of tenants with a node port; {nodePort}, {tenant} and {namespace} are filled in (%(default)s)",
    )
    add("--expose", type=Way, default=Way.NONE, choices=list(Way), help="how tenants are reached from outside")
    add("--gateway", type=_gateway, metavar="NAMESPACE/NAME[/LISTENER]", help="the Gateway of all tenants")
    add("--gateway-url", default="", help="endpoint of tenants behind it; {tenant} is filled in")
    add("--forwarding-namespace", action="append", default=[], help="of pods that forward requests to tenants")
    add("--ingress-class", default="", help="ingressClassName of the tenants' Ingresses")
    add("--ingress-annotation", type=_annotation, action="append", default=[], metavar="NAME=VALUE")
    add("--ingress-tls-secret", default="", help="Secret in a tenant's namespace with its Ingress' certificate")
    add("--tenant-role", default="tenantry-operator-tenant", help="ClusterRole for our work in tenant namespaces")
    add("--service-account", default="tenantry-operator", help="our own ServiceAccount, in --namespace")
    add(
        "--interruption-queue-url",
        default="",
        help="SQS queue with EventBridge's events about instances; without one, what Nodes and Karpenter say must do",
    )
    add(
        "--eviction-limit",
        type=float,
        default=300.0,
        help="seconds for which evictions of a tenant's pod are put off at most, if the webhook is there (%(default)s)",
    )
    add("--lease-name", default="tenantry-operator")
    add(
        "--redis-file",
        type=Path,
        help="file with the URL of Redis, as a user that may manage users; default: none, each pod counts for itself",
    )
    add("--redis-cidr", action="append", default=[], help="address range that Redis is in, if not in this cluster")
    add(
        "--redis-overlap",
        type=float,
        default=600.0,
        help="seconds that a tenant's former password in Redis stays good after its pods have the new (%(default)s)",
    )
    add("--listen", default="0.0.0.0", help="address of /healthz, /readyz and /metrics (%(default)s)")  # noqa: S104
    add("--port", type=int, default=8081, help="port of the same; 0 takes a free one and logs it (%(default)s)")
    add("--monitoring-namespace", default="", help="of Prometheus, which is let in to tenants' pods (default: nobody)")
    add("--page-port", type=int, default=0, help="port of the status page on 127.0.0.1; 0 takes a free one and logs it")
    add(
        "--advertise-address",
        default="",
        help="this process's own address for the API server and the activator; without it no metrics are served and"
        " nobody is put to sleep",
    )
    add("--secure-port", type=int, default=8443, help="port for those, HTTPS; 0 takes a free one (%(default)s)")
    add(
        "--metrics-source",
        default=MetricsSource.BUILTIN.value,
        choices=[each.value for each in MetricsSource],
        help="where HPAs read requests in flight (%(default)s)",
    )
    add("--scale-down-window", type=int, default=300, help="seconds of less load before a pod goes (%(default)s)")
    add("--pod-proxy", help="an HTTP proxy to reach pods through, for an operator outside of the cluster")
    add("--workers", type=int, default=16, help="tenants worked on at a time (%(default)s)")
    add("--writes-in-flight", type=int, default=WRITES_IN_FLIGHT, help="to the API server at a time (%(default)s)")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    mode = options.add_mutually_exclusive_group()
    mode.add_argument(
        "--release-all",
        action="store_true",
        help="before an uninstall: stop the running operator, take our finalizer from every Tenant, and end",
    )
    mode.add_argument("--apply-crds", action="store_true", help="before an upgrade: apply our CRDs, and end")
    return options


def _gateway(text: str) -> Gateway:
    namespace, _, rest = text.partition("/")
    name, _, section = rest.partition("/")
    if not (namespace and name):
        raise argparse.ArgumentTypeError("must be NAMESPACE/NAME, for example tenantry-system/tenantry")
    return Gateway(namespace=namespace, name=name, section=section)


def _annotation(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def exposure(arguments: argparse.Namespace) -> Exposure:
    """How tenants are reached from outside, as the command line says."""
    return Exposure(
        way=arguments.expose,
        gateway=arguments.gateway,
        url=arguments.gateway_url,
        ingress_class=arguments.ingress_class,
        ingress_annotations=dict(arguments.ingress_annotation),
        ingress_tls_secret=arguments.ingress_tls_secret,
        namespaces=tuple(arguments.forwarding_namespace),
        node_port_url=arguments.public_url_template,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator; returns its exit status: 0 stopped as told, 1 failed, 2 wrong usage."""
    options = parser()
    arguments = options.parse_args(argv)
    if not (arguments.release_all or arguments.apply_crds or arguments.tenant_image):
        options.error("--tenant-image is required: the image that tenants' pods run, for example tenantry:1.0")
    if arguments.expose is Way.GATEWAY and not (arguments.gateway and "{tenant}" in arguments.gateway_url):
        options.error("--expose Gateway needs --gateway, and --gateway-url with {tenant} in it")
    logs.configure(arguments.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(arguments))
    except (errors.KubeError, RenderError, OSError, ValueError) as error:
        log.error("%s", error)
        return 1


async def _run(arguments: argparse.Namespace) -> int:
    access = config.load(arguments.kubeconfig)
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    # The Lease has a client of its own: its renewals must not wait behind the writes that it guards.
    async with Client(access, manager=names.FIELD_MANAGER, request_timeout=4.0) as plain:
        if arguments.apply_crds:
            await maintenance.apply_crds(plain)
            return 0
        if arguments.release_all:
            await maintenance.release_all(
                plain, arguments.namespace, arguments.lease_name, identity, arguments.service_account
            )
            return 0
        lease = Lease(plain, namespace=arguments.namespace, name=arguments.lease_name, identity=identity)
        client = Client(
            access,
            manager=names.FIELD_MANAGER,
            observe=metrics.observe_call,
            may_write=lease.holds,
            writes_in_flight=arguments.writes_in_flight,
        )
        async with client:
            return await _operate(arguments, access, client, lease)


async def _operate(arguments: argparse.Namespace, access: config.Access, client: Client, lease: Lease) -> int:
    repository, tag = split_image(arguments.tenant_image)
    platform = Platform(
        namespace=arguments.namespace,
        image_repository=repository,
        image_tag=tag,
        image_pull_policy=arguments.tenant_image_pull_policy,
        exposure=exposure(arguments),
        tenant_role=arguments.tenant_role,
        service_account=arguments.service_account,
        monitoring_namespace=arguments.monitoring_namespace,
        metrics_source=MetricsSource(arguments.metrics_source),
        scale_down_window_seconds=arguments.scale_down_window,
    )
    stop = asyncio.Event()
    _stop_on_signals(stop)
    vitals, board = probes.Vitals(), Board()
    runner = await probes.serve(vitals, host=arguments.listen, port=arguments.port)
    page = await page_server.serve(lambda: board.show(datetime.now(UTC)), port=arguments.page_port)
    renderer = HelmRenderer(arguments.chart)
    try:
        await renderer.start()
        vitals.started = True
        ports = {"port": runner.addresses[0][1], "page_port": page.addresses[0][1]}
        log.info("standing by", extra={"identity": lease.identity, **ports})
        if not await _unless(stop, lease.acquire()):
            return 0
        log.info("leading", extra={"identity": lease.identity})
        return await _lead(arguments, access, client, lease, renderer, platform, vitals, board, stop)
    finally:
        await lease.release()
        await renderer.close()
        await page.cleanup()
        await runner.cleanup()


async def _lead(
    arguments: argparse.Namespace,
    access: config.Access,
    client: Client,
    lease: Lease,
    renderer: HelmRenderer,
    platform: Platform,
    vitals: probes.Vitals,
    board: Board,
    stop: asyncio.Event,
) -> int:
    platform = replace(platform, cpu_metrics=await client.serves("metrics.k8s.io", "v1beta1"))
    live = Live()

    def notify_later(tenant: str, pause: float) -> None:
        queue.add_later(tenant, Lane.PROGRESS, pause)

    shared: Shared | None = None
    if arguments.redis_file is not None:
        store = await reachable(client, arguments.redis_file, platform.namespace, tuple(arguments.redis_cidr))
        platform = replace(platform, store=store)
        shared = Shared(arguments.redis_file, store, live, notify_later, overlap=arguments.redis_overlap)
    recorder = Recorder(client, controller="tenantry.dev/operator", instance=lease.identity)
    pods, evictions = Pods(), Evictions(timedelta(seconds=arguments.eviction_limit))
    capacity = Capacity(
        client,
        live,
        pods,
        Settings(
            namespace=platform.namespace,
            service_account=platform.service_account,
            address=arguments.advertise_address,
            listen=arguments.listen,
            port=arguments.secure_port,
            pod_proxy=arguments.pod_proxy,
        ),
        routes=EvictionApi(evictions, pods).add_to,
    )
    reconciler = Reconciler(
        client=client,
        live=live,
        renderer=renderer,
        recorder=recorder,
        platform=platform,
        accounts=shared.accounts if shared else None,
        watcher=capacity,
        wake=lambda tenant: queue.add(tenant, Lane.PROGRESS),
    )
    queue = WorkQueue(reconciler.reconcile, workers=arguments.workers, unforeseen=reconciler.unforeseen)
    intake, children = Intake(live, queue), ChildWatches(client, live, queue)
    pod_watch = followed(client, pods)
    vitals.leading, vitals.oldest_wait = True, queue.oldest_wait
    vitals.watch_age = lambda: max(intake.age(), children.age(), pod_watch.age())
    board.live, board.told, board.in_flight = live, recorder.told, capacity.in_flight
    metrics.REGISTRY.register(TenantMetrics(live))
    metrics.LEADING.set(1)

    def notify(tenant: str, lane: Lane, pause: float) -> None:
        if pause:
            queue.add_later(tenant, lane, pause)
        else:
            queue.add(tenant, lane)

    resync = Resync(client, live, notify, platform_namespace=platform.namespace)
    rollouts = Rollouts(client, live, renderer, recorder, platform, lambda tenant: queue.add(tenant, Lane.PROGRESS))
    intake.relisted, intake.tier_changed = resync.soon, rollouts.soon

    async def read_and_work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(children.run())
            group.create_task(pod_watch.run())
            # Before anybody is judged: what is not read yet would look like drift.
            await asyncio.gather(children.synced(), resync.everything())
            await rollouts.everything()
            vitals.synced = True
            log.info("synced", extra={"tenants": len(live.tenants)})
            group.create_task(queue.run())
            moved = partial(queue.add, lane=Lane.PROGRESS)
            hearing = Hearing(arguments.interruption_queue_url, arguments.pod_proxy)
            group.create_task(hand_over(client, live, pods, pod_watch.synced, moved, evictions, hearing))
            group.create_task(resync.forever())
            group.create_task(capacity.run())
            group.create_task(rollouts.forever())
            if shared is not None:
                group.create_task(shared.run())
                group.create_task(modes.follow(live, pods, lambda tenant: queue.add(tenant, Lane.PROGRESS)))
            group.create_task(
                watch(
                    access,
                    intake,
                    platform_namespace=platform.namespace,
                    lease=lease.name,
                    started=lambda: _stop_on_signals(stop),
                )
            )

    tasks = [asyncio.create_task(lease.keep()), asyncio.create_task(read_and_work())]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            log.info("stopping")
            await queue.drain(DRAIN)
            return 0
        return _verdict(tasks)
    finally:
        for task in [*tasks, stopping]:
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)
        metrics.LEADING.set(0)


def _verdict(tasks: Sequence[asyncio.Task[None]]) -> int:
    for task in tasks:
        error = task.exception() if task.done() else None
        if isinstance(error, LeaseLost):
            log.error("%s; this process ends, another takes over", error)
        elif error is not None:
            log.error("cannot go on: %s", error, exc_info=error)
    return 1


def _stop_on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _unless(stop: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Run ``work`` to its end, or until ``stop``; whether it came to its end."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        return False
    finally:
        for task in (working, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
