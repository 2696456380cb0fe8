"""One gateway in one round: started afresh, loaded in every way, ended."""

from __future__ import annotations

import http.client
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.bench.proxy import wrk
from tests.bench.proxy.chat import plain_request
from tests.bench.proxy.figures import Figure, Sample
from tests.bench.proxy.gateways import KEY, Gateway, Launch, Target, Upstreams
from tests.bench.proxy.process import Process, machine_s
from tests.bench.proxy.programs import Programs
from tests.bench.proxy.stream_load import StreamReport

ROOT = Path(__file__).resolve().parents[3]

#: Streams that are measured for CPU: a chunk every 5 ms each, a fast model's pace.
GAP_MS = 5
#: Open streams of the crowd: 12 chunks, a quarter of a second apart, all of them open at the same time.
CROWD_GAP_MS = 250
CROWD_CHUNKS = 12
CROWD_RAMP_S = 1.0
#: Streams of one chunk, one after the other, for the delay of the first chunk.
FIRSTS = 1000
#: Seconds that a load of streams may take beyond its own length before what is missing counts as lost.
STREAM_PATIENCE_S = 10


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share. `seconds` is the length of each run of wrk."""

    programs: Programs
    upstreams: Upstreams
    upstream_processes: Sequence[Process]
    gateway_core: int
    load_core: int
    directory: Path
    seconds: float


def measure(bench: Bench, gateway: Gateway) -> Sample:
    """Start a gateway, measure everything, end it.

    Raises:
        LoadFailed: it did not start or did not answer every request well; the message ends with what it printed.
    """
    directory = bench.directory / gateway.name
    directory.mkdir(exist_ok=True)
    launch = gateway.prepare(directory, bench.upstreams, bench.programs)
    sample: dict[Figure, float] = {}
    if not launch.argv:
        _plain(bench, gateway, launch.target, None, sample)
        _streams(bench, gateway, launch.target, None, sample)
        return sample
    log = directory / "output.log"
    log.unlink(missing_ok=True)
    began = time.monotonic()
    with Process(launch.argv, bench.gateway_core, log, launch.env) as process, _blame(gateway, process):
        target = _answering(launch, process, began + gateway.ready_within_s)
        sample[Figure.READY_S] = time.monotonic() - began
        sample[Figure.IDLE_RSS_MB] = process.rss_mb()
        _plain(bench, gateway, target, process, sample)
        _streams(bench, gateway, target, process, sample)
    return sample


@contextmanager
def _blame(gateway: Gateway, process: Process) -> Iterator[None]:
    try:
        yield
    except wrk.LoadFailed as error:
        raise wrk.LoadFailed(f"{gateway.name}: {error}\n{process.log_tail()}".rstrip()) from error


def _answering(launch: Launch, process: Process, deadline: float) -> Target:
    """Wait for the first good answer and return where it came from."""
    target = launch.target
    while time.monotonic() < deadline:
        if not process.running:
            raise wrk.LoadFailed("ended before it answered")
        if launch.port_pattern and not target.port:
            found = launch.port_pattern.search(process.log.read_text(errors="replace"))
            if found:
                port = int(found[1])
                target = Target(port, port, target.path, target.model, target.stream_model)
        if target.port and _answers(target):
            return target
        time.sleep(0.01)
    raise wrk.LoadFailed("no good answer within the time it has for its start")


def _answers(target: Target) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=10)
    try:
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        connection.request("POST", target.path, plain_request(target.model), headers)
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK and b"dull benchmark" in response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _plain(
    bench: Bench, gateway: Gateway, target: Target, process: Process | None, sample: dict[Figure, float]
) -> None:
    """Plain answers: one connection, then 64 of them."""

    def load(connections: int, seconds: float) -> wrk.Load:
        return wrk.run(
            bench.programs.debian("wrk"),
            f"http://127.0.0.1:{target.port}{target.path}",
            plain_request(target.model),
            KEY,
            connections,
            max(seconds, gateway.least_s),
            bench.load_core,
            {**os.environ, **bench.programs.environment},
        )

    load(64, 1)  # warm
    alone = load(1, bench.seconds)
    sample[Figure.P50_US], sample[Figure.P99_US] = alone.p50_us, alone.p99_us
    began, busy, known = time.monotonic(), machine_s(), _known_s(bench, process)
    used = process.cpu_s() if process else 0.0
    many = load(64, bench.seconds)
    sample[Figure.RPS] = many.requests_per_s
    sample[Figure.P50_AT_64_US], sample[Figure.P99_AT_64_US] = many.p50_us, many.p99_us
    if process:
        sample[Figure.CPU_PER_REQUEST_US] = (process.cpu_s() - used) * 1e6 / many.requests
    others = (machine_s() - busy) - (_known_s(bench, process) - known)
    sample[Figure.OTHER_LOAD_PERCENT] = max(0.0, 100 * others / (time.monotonic() - began))


def _known_s(bench: Bench, process: Process | None) -> float:
    """CPU time of all that belongs to the measurement: gateway, upstreams, the loads that have ended, and us."""
    processes = [*bench.upstream_processes, *([process] if process else [])]
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return sum(one.cpu_s() for one in processes) + sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _streams(
    bench: Bench, gateway: Gateway, target: Target, process: Process | None, sample: dict[Figure, float]
) -> None:
    """Streams: the first chunk of one at a time, CPU per chunk of some, memory and losses of a crowd."""
    firsts = FIRSTS if gateway.crowd else FIRSTS // 10
    # Without a look at the gateway's memory: from the load's core, each would keep some streams waiting.
    first, _ = _open(bench, target, None, streams=firsts, concurrency=1, chunks=1, gap_ms=0)
    sample[Figure.FIRST_CHUNK_P50_US], sample[Figure.FIRST_CHUNK_P99_US] = first.first_p50_us, first.first_p99_us

    used = process.cpu_s() if process else 0.0
    some, _ = _open(
        bench,
        target,
        process,
        streams=gateway.streams,
        concurrency=gateway.streams,
        chunks=gateway.chunks,
        gap_ms=GAP_MS,
        ramp_s=gateway.chunks * GAP_MS / 1000 / 4,
    )
    sample[Figure.CHUNK_P99_US] = some.delay_p99_us
    if process and some.chunks:
        sample[Figure.CPU_PER_CHUNK_US] = (process.cpu_s() - used) * 1e6 / some.chunks

    lost = first.lost + first.misplaced + some.lost + some.misplaced
    if gateway.crowd:
        crowd, memory = _open(
            bench,
            target,
            process,
            streams=gateway.crowd,
            concurrency=gateway.crowd,
            chunks=CROWD_CHUNKS,
            gap_ms=CROWD_GAP_MS,
            ramp_s=CROWD_RAMP_S,
        )
        lost += crowd.lost + crowd.misplaced
        if process:
            sample[Figure.CROWD_RSS_MB] = memory
    sample[Figure.LOST_CHUNKS] = lost


def _open(
    bench: Bench,
    target: Target,
    process: Process | None,
    *,
    streams: int,
    concurrency: int,
    chunks: int,
    gap_ms: int,
    ramp_s: float = 0.0,
) -> tuple[StreamReport, float]:
    """Run the load of streams; return its report and the gateway's largest RSS meanwhile, in MB."""
    length = ramp_s + chunks * gap_ms / 1000
    options = {
        "port": target.stream_port,
        "path": target.path,
        "model": target.stream_model,
        "key": KEY,
        "streams": streams,
        "concurrency": concurrency,
        "chunks": chunks,
        "gap-ms": gap_ms,
        "ramp": ramp_s,
        "timeout": length + STREAM_PATIENCE_S,
    }
    argv = ["taskset", "--cpu-list", str(bench.load_core), sys.executable, "-m", "tests.bench.proxy.stream_load"]
    argv += [f"--{name}={value}" for name, value in options.items()]
    largest = 0.0
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as load:
        while load.poll() is None:
            largest = max(largest, process.rss_mb()) if process else 0.0
            time.sleep(0.1)
        output = load.stdout.read() if load.stdout else b""
    if load.returncode != 0:
        raise wrk.LoadFailed(f"the load of streams ended with status {load.returncode}")
    report = msgspec.json.decode(output, type=StreamReport)
    if not report.chunks:
        raise wrk.LoadFailed(f"none of {streams} streams gave a chunk")
    return report, largest
