"""``tenantry activator``: the process."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tenantry_service import logs
from tenantry_service.activator.asking import Operator
from tenantry_service.activator.door import Door, House
from tenantry_service.activator.sleepers import Sleepers
from tenantry_service.activator.waiting import Waiting

log = logging.getLogger(__name__)

#: Seconds from when the operator knows that we end until no request comes any more.
REROUTED = 5.0
#: Seconds for requests that are under way then.
DRAIN = 100.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="tenantry activator",
        description="Take requests for tenants that sleep: check the key, wake the tenant, wait, pass on.",
        allow_abbrev=False,
    )
    add = parse.add_argument
    add("--operator", required=True, metavar="URL", help="the operator that leads, https://…")
    add("--trust", type=Path, required=True, metavar="DIR", help="its certificate (tls.crt), our activator-token")
    add("--instance", default=socket.gethostname(), help="our name (%(default)s)")
    add("--address", required=True, help="our own address, for tenants' Services")
    add("--host", default="0.0.0.0", help="address to listen on (%(default)s)")  # noqa: S104
    add("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    add("--held", type=int, default=2000, help="requests that wait at a time (%(default)s)")
    add("--held-per-tenant", type=int, default=500, help="those for one tenant (%(default)s)")
    add("--patience", type=float, default=60.0, help="seconds that a request waits for a pod (%(default)s)")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parse


class Figures(Collector):
    """What Prometheus reads."""

    def __init__(self, house: House) -> None:
        self._house = house

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        house, waiting = self._house, self._house.waiting
        for name, text, found in (
            ("cold_start", "From a tenant's first request until a pod took it.", waiting.cold_start),
            ("held", "For how long each request waited for a pod.", waiting.held),
        ):
            family = HistogramMetricFamily(f"tenantry_activator_{name}_seconds", text, labels=())
            family.add_metric([], found.cumulative(), found.total)
            yield family
        yield GaugeMetricFamily("tenantry_activator_waiting_requests", "Requests that wait for a pod.", waiting.total)
        yield GaugeMetricFamily("tenantry_activator_open_connections", "Connections of clients.", len(house.open))
        yield GaugeMetricFamily("tenantry_activator_sleepers", "Tenants that may be woken up.", len(house.sleepers))
        yield CounterMetricFamily("tenantry_activator_passed", "Requests that went on to a pod.", house.passed)
        refused = CounterMetricFamily("tenantry_activator_refused", "Requests refused.", labels=("error_type",))
        for error_type, count in house.refused.items():
            refused.add_metric([error_type], count)
        yield refused


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns 0; 1 if the port is taken."""
    options = parser().parse_args(argv)
    logs.configure(options.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(options))
    except OSError as error:
        log.error("%s", error)
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    sleepers = Sleepers(loop.time)
    operator = Operator(
        options.operator,
        options.trust,
        sleepers,
        instance=options.instance,
        address=options.address,
        port=options.port,
    )
    waiting = Waiting(options.held, options.held_per_tenant, operator.urgent)
    registry = CollectorRegistry(auto_describe=False)

    def control(path: bytes) -> tuple[int, bytes] | None:
        if path == b"/healthz":
            return 200, b"ok\n"
        if path == b"/readyz":
            return (200, b"ready\n") if sleepers.epoch else (503, b"the operator has not answered yet\n")
        return (200, generate_latest(registry)) if path == b"/metrics" else None

    house = House(sleepers, waiting, patience=options.patience, control=control)
    for collector in (Figures(house),):
        registry.register(collector)
    for standard in (ProcessCollector, PlatformCollector):
        standard(registry=registry)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Door(house), options.host, options.port, backlog=4096)
    log.info("activator listens", extra={"port": server.sockets[0].getsockname()[1], "pid": os.getpid()})
    asking = loop.create_task(operator.forever(waiting))
    gc.freeze()
    stopping = loop.create_task(stop.wait())
    await asyncio.wait([asking, stopping], return_when=asyncio.FIRST_COMPLETED)
    try:
        if stop.is_set():
            await _drain(server, operator, asking, house)
        else:
            asking.result()
    finally:
        asking.cancel()
        stopping.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)
        await operator.close()
        server.close()


async def _drain(server: asyncio.Server, operator: Operator, asking: asyncio.Task[None], house: House) -> None:
    """Leave the tenants' Services, then wait for what is under way."""
    log.info("leaving", extra={"connections": len(house.open)})
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await operator.leave()
    await asyncio.sleep(REROUTED)
    server.close()
    if house.open:
        house.empty.clear()
        try:
            async with asyncio.timeout(DRAIN):
                await house.empty.wait()
        except TimeoutError:
            log.warning("cut at the deadline", extra={"connections": len(house.open)})
