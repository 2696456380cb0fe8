"""Run the operator's benchmark: `python -m tests.bench.operator [--tenants N]`; see `--help`."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop
from tenantry_operator.render import HelmRenderer
from tenantry_operator.render.helper import Helper

from tests.bench.operator import bare, drift, figures, fleet, world
from tests.bench.operator.api import Api
from tests.cluster.kubectl import ROOT
from tests.cluster.operator_process import renderer as renderer_program

#: Creating Tenants is the user's part; with these in flight it takes a fraction of what the operator needs.
USERS = 8
#: Seconds without a write after which a restart counts as quiet.
SILENCE = 10.0
#: Seconds without a write after which everything is told: a tier's counts follow within five.
TOLD = 6.0
PATIENCE = 3600.0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.operator", description=__doc__)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--suspended", action="store_true", help="traffic suspended: no pods, no yardstick")
    parser.add_argument(
        "--in-flight", type=int, default=bare.TENANTS_IN_FLIGHT, help="of the bare client (%(default)s)"
    )
    parser.add_argument(
        "--samples", type=int, default=3, help="of each drift; 0 or too few tenants: none (%(default)s)"
    )
    parser.add_argument("--quiet", type=float, default=0.0, help="seconds to listen for writes after convergence")
    parser.add_argument("--no-delete", action="store_true", help="leave out the deletion")
    parser.add_argument("--no-bare", action="store_true", help="leave out the yardstick")
    parser.add_argument("--operator-option", action="append", default=[], help="for the operator's command line")
    return parser.parse_args()


@dataclass
class Stage:
    """Says what is going on."""

    began: float

    def say(self, text: str) -> None:
        """One line of progress, with the time since the start."""
        print(f"{time.monotonic() - self.began:7.1f}s  {text}", flush=True)


async def yardstick(directory: Path, options: argparse.Namespace, stage: Stage, found: figures.Measured) -> None:
    """The bare client on a control plane of its own."""
    chart = str(ROOT / "charts" / "tenant")
    renderer = HelmRenderer(Path(chart), helper=Helper([renderer_program(), chart]))
    await renderer.start()
    everything = [await fleet.bodies(renderer, number) for number in range(options.tenants)]
    await renderer.close()
    with world.control_plane(directory, options.tenants) as kubeconfig:
        await asyncio.to_thread(world.install, kubeconfig, directory)
        stage.say("control plane for the bare client is up")
        async with Api(world.administrator(kubeconfig)) as api:
            before, own = world.server_cpu(directory), time.process_time()
            found["bare_s"] = await bare.run(api, everything, options.in_flight)
            found["bare_client_cpu_ms"] = (time.process_time() - own) / options.tenants * 1e3
            _note_servers(found, "bare", directory, before, options.tenants)
    stage.say(f"bare client: {found['bare_s']:.1f} s")


async def operated(directory: Path, options: argparse.Namespace, stage: Stage, found: figures.Measured) -> None:
    """The operator on a control plane of its own: converge, be quiet, drift, restart, delete."""
    with world.control_plane(directory, options.tenants) as kubeconfig:
        account = await asyncio.to_thread(world.install, kubeconfig, directory)
        await asyncio.to_thread(world.until_tenants_are_collected, kubeconfig)
        stage.say("control plane for the operator is up")
        async with Api(world.administrator(kubeconfig)) as api:
            with world.operator(account, directory, *options.operator_option) as running:
                async with running.at_work():
                    await _from_nothing(api, directory, running, options, stage, found)
            with world.operator(account, directory, *options.operator_option) as running:
                async with running.at_work():
                    await _from_a_restart(api, running, options, stage, found)


async def _from_nothing(
    api: Api,
    directory: Path,
    running: world.OperatorProcess,
    options: argparse.Namespace,
    stage: Stage,
    found: figures.Measured,
) -> None:
    await running.says("synced")
    before = world.server_cpu(directory)
    found |= await _converge(api, running, options)
    _note_servers(found, "operator", directory, before, options.tenants)
    if "bare_s" in found:
        found["convergence_ratio"] = found["operator_s"] / found["bare_s"]
    stage.say(f"converged: {found['operator_s']:.1f} s, {found['rss_mb']:.0f} MB")
    if options.quiet:
        found["quiet_writes"] = await _silence(running, options.quiet)
        stage.say(f"{found['quiet_writes']:.0f} writes in {options.quiet:.0f} s of quiet")
    await _idle(running)


async def _from_a_restart(
    api: Api, running: world.OperatorProcess, options: argparse.Namespace, stage: Stage, found: figures.Measured
) -> None:
    found |= await _restart(running, options.tenants)
    stage.say(f"restarted: watching after {found['restart_watch_s']:.1f} s")
    if samples := drift.fitting(options.samples, options.tenants):
        found |= await drift.measure(api, samples)
        stage.say(f"drift put back: p99 {found['drift_p99_s']:.2f} s")
    found["rss_mb"] = max(found["rss_mb"], running.memory_mb())
    if not options.no_delete:
        found["delete_s"] = await _delete(api, options.tenants)
        stage.say(f"deleted: {found['delete_s']:.1f} s")
    found["rss_mb"] = max(found["rss_mb"], running.memory_mb())


def _note_servers(found: figures.Measured, run: str, directory: Path, before: dict[str, float], tenants: int) -> None:
    for name, used in world.server_cpu(directory).items():
        found[f"{run}_{name}_cpu_ms"] = (used - before.get(name, 0.0)) / tenants * 1e3


async def _converge(api: Api, running: world.OperatorProcess, options: argparse.Namespace) -> figures.Measured:
    sightings = fleet.Sightings()
    condition = "Suspended" if options.suspended else "Ready"
    watching = asyncio.create_task(sightings.watch_tenants(api, condition))
    calls, cpu = running.requests(reads=True), running.cpu_seconds()
    began, own = time.monotonic(), time.process_time()
    asked = await fleet.create(api, options.tenants, suspended=options.suspended, limit=USERS)
    await sightings.until(sightings.ready, options.tenants, PATIENCE)
    seconds = max(sightings.ready.values()) - began
    own = time.process_time() - own
    watching.cancel()
    used = {name: after - cpu[name] for name, after in running.cpu_seconds().items()}
    calls = running.requests(reads=True) - calls
    objects = await fleet.count_objects(api, f"bench-{options.tenants // 2:05}")
    return {
        "operator_s": seconds,
        "objects": objects,
        "calls_per_tenant_minus_objects": calls / options.tenants - objects,
        "ready_p50_s": figures.quantile([sightings.ready[name] - at for name, at in asked.items()], 0.5),
        "ready_p99_s": figures.quantile([sightings.ready[name] - at for name, at in asked.items()], 0.99),
        "rss_mb": running.memory_mb(),
        "operator_cpu_ms": used["operator"] / options.tenants * 1e3,
        "renderer_cpu_ms": used["renderer"] / options.tenants * 1e3,
        "feeder_cpu_ms": own / options.tenants * 1e3,
    }


async def _silence(running: world.OperatorProcess, seconds: float) -> float:
    await _idle(running)
    before = running.requests(reads=False)
    await asyncio.sleep(seconds)
    return running.requests(reads=False) - before


async def _idle(running: world.OperatorProcess) -> None:
    """Until nobody waits for a worker and nobody has been written to for some seconds."""
    writes, since = -1.0, time.monotonic()
    while time.monotonic() - since < TOLD or not running.idle():
        now = running.requests(reads=False)
        if now != writes:
            writes, since = now, time.monotonic()
        await asyncio.sleep(0.25)


async def _restart(running: world.OperatorProcess, tenants: int) -> figures.Measured:
    """A start with nothing to do: when it watches, when all tenants were looked at, and what it wrote."""
    watching = await running.says("synced", 120)
    served = await running.has_reconciled(tenants)
    await asyncio.sleep(SILENCE)
    return {
        "restart_watch_s": watching,
        "restart_served_s": served,
        "restart_writes": running.requests(reads=False),
        "restart_cpu_s": running.cpu_seconds()["operator"],
        "restart_rss_mb": running.memory_mb(),
    }


async def _delete(api: Api, tenants: int) -> float:
    """Seconds until all Tenants and their namespaces are gone."""
    seen, spaces = fleet.Sightings(), fleet.Sightings()
    watching = [asyncio.create_task(seen.watch_tenants(api)), asyncio.create_task(spaces.watch_namespaces(api))]
    await asyncio.gather(seen.listening.wait(), spaces.listening.wait())
    began = time.monotonic()
    await fleet.delete(api, [f"bench-{number:05}" for number in range(tenants)], USERS)
    await seen.until(seen.gone, tenants, PATIENCE)
    await spaces.until(spaces.gone, tenants, PATIENCE)
    for task in watching:
        task.cancel()
    return max(*seen.gone.values(), *spaces.gone.values()) - began


async def run(options: argparse.Namespace, found: figures.Measured) -> None:
    """All that was asked for; ``found`` fills as it goes, so that whoever stops it has what was measured until then."""
    stage = Stage(time.monotonic())
    found["tenants"] = options.tenants
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as temporary:
        if not (options.suspended or options.no_bare):
            await yardstick(Path(temporary) / "bare", options, stage, found)
        await operated(Path(temporary) / "operator", options, stage, found)


def main() -> int:
    """Measure and print; 130 when it was interrupted before the end."""
    found: figures.Measured = {}
    status = 0
    # The same event loop as the operator's.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run(arguments(), found))
        except KeyboardInterrupt:
            status = 130
    print(f"\n{figures.table(found)}\n")
    print(json.dumps(figures.summary(found)))
    return status


if __name__ == "__main__":
    sys.exit(main())
