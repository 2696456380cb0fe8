"""The service in front of nginx, with its limits in memory and in Redis, by turns: CPU time, latency, Redis' share."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from localcluster.datastores import Redis

from tests.bench import awake
from tests.bench.proxy import wrk
from tests.bench.proxy.__main__ import cores, upstreams
from tests.bench.proxy.chat import plain_request
from tests.bench.proxy.gateways import KEY, Launch, Upstreams, ours
from tests.bench.proxy.measure import _answering as answering
from tests.bench.proxy.process import Process
from tests.bench.proxy.programs import OURS, Programs, ensure

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """CPU microseconds per request at 64 connections, p50 at one, and Redis' CPU microseconds per request at one
    connection (nothing travels together there) and at 64."""

    cpu_us: float
    p50_us: float
    redis_us: float = 0.0
    redis_shared_us: float = 0.0


@dataclass(frozen=True)
class Costs:
    """Medians over the rounds."""

    memory: Cost
    redis: Cost
    cpu_ratio: float
    added_p50_ms: float


def run(rounds: int, seconds: float, *, compiled: bool = True, let_cores_sleep: bool = False) -> Costs:
    """Measure both ways in each round; the service ``compiled``, as in the image, or as it is written."""
    where = cores()
    programs = ensure([OURS] if compiled else [])
    os.sched_setaffinity(0, {where[1]})
    pairs: list[tuple[Cost, Cost]] = []
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as temporary, ExitStack() as running:
        running.enter_context(awake.cores(awake=not let_cores_sleep))
        directory = Path(temporary)
        ports, _ = running.enter_context(upstreams(programs, where[1], directory))
        redis = running.enter_context(Redis(appendfsync="everysec"))
        address = directory / "redis"
        address.write_text(redis.url)
        for number in range(rounds):
            memory = _measure(programs, ports, where, directory / f"memory-{number}", None, seconds)
            shared = _measure(programs, ports, where, directory / f"redis-{number}", (address, redis.pid), seconds)
            pairs.append((memory, shared))
            print(f"round {number + 1}/{rounds}: memory {memory}, Redis {shared}", flush=True)
    return Costs(
        _median([memory for memory, _ in pairs]),
        _median([shared for _, shared in pairs]),
        statistics.median(shared.cpu_us / memory.cpu_us for memory, shared in pairs),
        statistics.median((shared.p50_us - memory.p50_us) / 1000 for memory, shared in pairs),
    )


def _median(costs: Sequence[Cost]) -> Cost:
    names = ("cpu_us", "p50_us", "redis_us", "redis_shared_us")
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in names))


def _measure(
    programs: Programs,
    ports: Upstreams,
    where: tuple[int, int],
    directory: Path,
    shared: tuple[Path, int] | None,
    seconds: float,
) -> Cost:
    """One service, started afresh; ``shared``: the file with Redis' address, and its process."""
    gateway_core, load_core = where
    redis = None if shared is None else shared[1]
    directory.mkdir()
    launch: Launch = ours(directory, ports, programs)
    if shared is not None:
        launch = replace(launch, argv=[*launch.argv, "--redis-file", shared[0]])
    with Process(launch.argv, gateway_core, directory / "output.log", launch.env) as process:
        target = answering(launch, process, time.monotonic() + 20)

        def load(connections: int, length: float) -> wrk.Load:
            return wrk.run(
                programs.debian("wrk"),
                f"http://127.0.0.1:{target.port}{target.path}",
                plain_request(target.model),
                KEY,
                connections,
                length,
                load_core,
                {**os.environ, **programs.environment},
            )

        load(64, 1)
        before = _cpu_s(redis)
        alone = load(1, seconds)
        redis_us = (_cpu_s(redis) - before) / alone.requests * 1e6
        used, before = process.cpu_s(), _cpu_s(redis)
        many = load(64, seconds)
        cpu_us = (process.cpu_s() - used) / many.requests * 1e6
        return Cost(cpu_us, alone.p50_us, redis_us, (_cpu_s(redis) - before) / many.requests * 1e6)


def _cpu_s(pid: int | None) -> float:
    """CPU seconds of a process, with all its threads."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
