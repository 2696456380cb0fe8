"""`python -m tests.bench.soak`: mixed load with faults on a service of its own, and what is left of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import secrets
import signal
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from localcluster import compiled
from localcluster.paths import Checkout
from localcluster.steps import Step, run_steps

from tests.bench.proxy.process import Process, free_ports, wait_for_port
from tests.bench.soak import verdict
from tests.bench.soak.scenarios import BAD_MODEL, GOOD_MODELS, SCENARIOS, Missing, Site
from tests.bench.soak.verdict import Books, Look

ROOT = Path(__file__).resolve().parents[3]
#: Seconds for a program to listen; the machine may be busy with other things.
START_S = 60.0
#: Seconds until all that a service keeps for a client that has left is gone.
QUIET_S = 20.0
#: How often the service is looked at.
LOOK_S = 1.0
#: How often the upstream is killed and started again, and how long it stays away.
AWAY_EVERY_S = 60.0
AWAY_S = 1.0
#: A run of this length must also show that it met everything that there is to meet.
WHOLE_S = 300.0


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=900, help="length of the load (default 900)")
    parser.add_argument("--clients", type=int, default=32, help="clients at a time (default 32)")
    parser.add_argument("--seed", type=int, default=1, help="of what the clients do (default 1)")
    parser.add_argument("--source", action="store_true", help="run the service as it is, not compiled")
    return parser.parse_args(argv)


class Service:
    """The service, and the simulator behind it, in processes of their own."""

    def __init__(self, directory: Path, *, source: bool) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._upstream: Process
        with free_ports(2) as (self.port, self._upstream_port):
            pass
        self.key = f"tn_soak234_{secrets.token_hex(20)}"
        policy = {
            "apiVersion": "policy.tenantry.dev/v1",
            "tenant": "soak",
            "generation": 1,
            "revision": "soak",
            "keys": [{"id": "soak234", "name": "soak", "sha256": hashlib.sha256(self.key.encode()).hexdigest()}],
            "limits": {"requestsPerMinute": 1_000_000, "tokensPerMinute": 10**10, "concurrentRequests": 10_000},
            "budget": {"amountNanoUsd": 10**15, "window": "Month"},
            "models": {"allow": ["gpt-*", "text-embedding-*", "whisper-1"]},
            # The same simulator by two addresses, each with a breaker of its own.
            "upstreams": [
                {"name": "bad", "baseUrl": f"http://localhost:{self._upstream_port}/v1", "models": [BAD_MODEL]},
                {"name": "good", "baseUrl": f"http://127.0.0.1:{self._upstream_port}/v1", "models": GOOD_MODELS},
            ],
        }
        (directory / "policy.json").write_text(json.dumps(policy))
        self._source = source

    def __enter__(self) -> Self:
        """Start both."""
        # First, because it may fail, and then nothing has been started.
        service = "" if self._source else str(_compiled())
        self.start_upstream()
        argv: list[str | Path] = [Path(sys.executable).with_name("tenantry"), "serve", "--host", "127.0.0.1"]
        argv += ["--port", str(self.port), "--policy", self._directory / "policy.json", "--state-dir", self._directory]
        self.process = self._stack.enter_context(
            Process(argv, 0, self._directory / "service.log", {"PYTHONPATH": service})
        )
        if not wait_for_port(self.port, self.process, START_S):
            self.__exit__()
            raise SystemExit(f"the service did not start\n{self.process.log_tail()}")
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._stack.close()
        self._upstream.stop()

    def start_upstream(self) -> None:
        """Start the simulator."""
        argv: list[str | Path] = [sys.executable, "-m", "tenantry_simulator", "--host", "127.0.0.1"]
        argv += ["--port", str(self._upstream_port)]
        env = {"PYTHONPATH": str(ROOT / "tests" / "simulator")}
        self._upstream = Process(argv, 1, self._directory / "simulator.log", env)
        wait_for_port(self._upstream_port, self._upstream, START_S)

    def kill_upstream(self) -> None:
        """End the simulator, with whatever it is about to answer."""
        self._upstream.stop()

    def metrics(self) -> str:
        """What Prometheus reads."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    def look(self, seconds: float) -> Look:
        """The service as it is. The scrape itself is one connection and one task."""
        metrics = self.metrics()
        connections = verdict.gauge(metrics, "tenantry_open_connections")
        known = connections + verdict.gauge(metrics, "tenantry_upstream_connections")
        return Look(
            seconds,
            self.process.rss_mb(),
            self.process.open_files() - known,
            verdict.gauge(metrics, "tenantry_tasks"),
            verdict.gauge(metrics, "tenantry_in_flight_requests"),
            connections,
        )

    def wait_for_ledger(self) -> None:
        """Return when the last batch is in the file (the writer takes one every quarter of a second); what is missing
        after ``QUIET_S`` is found by whoever compares the books."""
        deadline = time.monotonic() + QUIET_S
        while verdict.gauge(self.metrics(), "tenantry_ledger_queued_events") and time.monotonic() < deadline:
            time.sleep(0.05)

    def books(self) -> Books:
        """Metrics and ledger, side by side."""
        metrics = self.metrics()
        with contextlib.closing(sqlite3.connect(self._directory / "ledger.sqlite")) as ledger:
            sql = "SELECT error_type, count(*) FROM usage_events WHERE route != '/v1/realtime' GROUP BY error_type"
            rows = dict(ledger.execute(sql).fetchall())
        return Books(verdict.counted(metrics), rows, verdict.gauge(metrics, "tenantry_internal_errors_total"))


def _compiled() -> Path:
    checkout = Checkout.here()
    found: list[Path] = []
    run_steps([Step("compiled service", lambda log: found.append(compiled.ensure(checkout, log)))], checkout.log_dir)
    return found[0]


class Load:
    """Clients that play scenarios, one after the other, until it is time to stop."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._dice = random.Random(seed)
        self.played: Counter[str] = Counter()
        self.missing: list[str] = []

    async def run(self, clients: int, seconds: float) -> None:
        """Play for so long; the last scenarios are played to their end."""
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(until))

    async def _client(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until and len(self.missing) < 20:
            ((name, _, scenario),) = self._dice.choices(SCENARIOS, [weight for _, weight, _ in SCENARIOS])
            self.played[name] += 1
            try:
                await scenario(self._site, random.Random(self._dice.random()))
            except Missing as error:
                self.missing.append(f"{name}: {error}")
            # Half of the service's core is enough: what matters is how long, and what.
            await asyncio.sleep(self._dice.uniform(0, 0.1))


async def soak(service: Service, site: Site, options: argparse.Namespace) -> tuple[Load, list[Look], Look, Look]:
    """Warm up, let it rest, then load and look."""
    site.upstream.set()
    await Load(site, options.seed + 1).run(options.clients, min(10.0, options.seconds))
    idle = await _rested(service, None)
    load = Load(site, options.seed)
    looks: list[Look] = []
    began = time.monotonic()
    running = asyncio.create_task(load.run(options.clients, options.seconds))
    # At least once, also in a short run.
    away_at = began + min(AWAY_EVERY_S, options.seconds) / 2
    while not running.done():
        await asyncio.wait([running], timeout=LOOK_S)
        looks.append(await asyncio.to_thread(service.look, time.monotonic() - began))
        if time.monotonic() > away_at and not running.done():
            away_at += AWAY_EVERY_S
            site.upstream.clear()
            await asyncio.to_thread(service.kill_upstream)
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(service.start_upstream)
            site.upstream.set()
    await running
    return load, looks, idle, await _rested(service, idle)


async def _rested(service: Service, like: Look | None) -> Look:
    """The service when it has nothing to do: as soon as it is ``like`` this again, at the latest after a while."""
    deadline = time.monotonic() + QUIET_S
    while True:
        await asyncio.sleep(LOOK_S)
        look = await asyncio.to_thread(service.look, 0.0)
        at_rest = look.in_flight == 0 and look.connections <= 1
        as_before = like is None or (look.files <= like.files and look.tasks <= like.tasks)
        if (at_rest and as_before) or time.monotonic() > deadline:
            return look


def main() -> int:
    """Run it; 1 when something is left, or an answer was missing."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="tenantry-soak-") as temporary:
        directory = Path(temporary)
        with Service(directory, source=options.source) as service:
            site = Site(service.port, service.key)
            load, looks, idle, last = asyncio.run(soak(service, site, options))
            service.wait_for_ledger()
            books = service.books()
            found = [*load.missing, *verdict.problems(idle, looks, last, books, site.seen)]
            if options.seconds >= WHOLE_S:
                found += verdict.thin(books, site.seen, load.played, [name for name, _, _ in SCENARIOS])
            if found:
                print(service.process.log_tail(40), file=sys.stderr)
    print("\n".join(f"{count:>8}  {name}" for name, count in sorted(load.played.items())))
    print(f"\nclients: {dict(site.seen)}")
    print(f"by their end: {dict(sorted(books.counted.items()))}\nin the ledger: {dict(sorted(books.rows.items()))}")
    for name, look in (("idle", idle), ("under load", looks[-1]), ("at the end", last)):
        print(f"{name:<11} {asdict(look)}")
    print("\n".join(f"PROBLEM: {problem}" for problem in found) or "nothing is left of it")
    grown, _ = verdict.growth(looks)
    figures = {
        "seconds": round(options.seconds),
        "connections": sum(load.played.values()),
        "requests": sum(books.counted.values()),
        "rows": sum(books.rows.values()),
        "served_share": round(books.served, 3),
        "suspended": site.seen["suspended"],
        "rss_growth_mb": round(grown, 2),
        "files_left": last.files - idle.files,
        "tasks_left": last.tasks - idle.tasks,
        "in_flight": last.in_flight,
        "problems": len(found),
    }
    print(json.dumps(figures))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
