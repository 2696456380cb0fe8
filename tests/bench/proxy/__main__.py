"""`python -m tests.bench.proxy`: ours beside Envoy, TensorZero and LiteLLM, on one core each."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from localcluster.steps import Refusal, StepFailed

from tests.bench import awake
from tests.bench.proxy import figures
from tests.bench.proxy.chat import ANSWER
from tests.bench.proxy.gateways import DIRECT, GATEWAYS, Upstreams, configuration
from tests.bench.proxy.measure import ROOT, Bench, measure
from tests.bench.proxy.process import Process, free_ports, wait_for_port
from tests.bench.proxy.programs import Programs, ensure
from tests.bench.proxy.wrk import LoadFailed

#: Files that a process of the run may have open: 2,000 streams are 4,000 sockets in a gateway.
OPEN_FILES = 10_000


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `gateways` are the names that take part."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.proxy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 21), metavar="N", help="1 to 20 (default 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load of plain requests (default 4)")
    names = ", ".join(GATEWAYS)
    parser.add_argument("--only", default="", metavar="A,B", help=f"only these of: {names} (direct always runs)")
    parser.add_argument("--skip", default="", metavar="A,B", help="all but these")
    parser.add_argument("--let-cores-sleep", action="store_true", help="measure the machine's wake-ups as well")
    options = parser.parse_args(argv)
    if not 1 <= options.seconds <= 60:
        parser.error("--seconds must be from 1 to 60")
    only, skip = (set(filter(None, text.split(","))) for text in (options.only, options.skip))
    unknown = (only | skip) - GATEWAYS.keys()
    if unknown:
        parser.error(f"no gateway {', '.join(sorted(unknown))}; there are: {names}")
    options.gateways = [name for name in GATEWAYS if (not only or name in only) and name not in skip]
    return options


def cores() -> tuple[int, int]:
    """Return the core of the gateway and the core of upstreams and load."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise Refusal("this machine lets us use one core only", "run the benchmark where there are two")
    return usable[0], usable[1]


@contextmanager
def upstreams(programs: Programs, core: int, directory: Path) -> Iterator[tuple[Upstreams, list[Process]]]:
    """Run nginx for plain answers and our own upstream for streams."""
    with free_ports(2) as (plain, streams):
        pass
    config = configuration("nginx.conf", directory, directory=directory, port=plain, answer=ANSWER)
    nginx: Sequence[str | Path] = [programs.debian("nginx"), "-p", directory, "-e", "stderr", "-c", config]
    streamer: Sequence[str | Path] = [sys.executable, "-m", "tests.bench.proxy.sse_upstream", str(streams)]
    processes = []
    with ExitStack() as running:
        for name, port, argv in (("nginx", plain, nginx), ("sse_upstream", streams, streamer)):
            log = directory / f"{name}.log"
            process = running.enter_context(Process(argv, core, log, {**programs.environment, "PYTHONPATH": str(ROOT)}))
            if not wait_for_port(port, process):
                raise LoadFailed(f"{name} did not start\n{process.log_tail()}")
            processes.append(process)
        yield Upstreams(plain, streams), processes


def run(options: argparse.Namespace) -> list[figures.Round]:
    """Measure all rounds, interleaved, with a line of progress for each gateway."""
    gateway_core, load_core = cores()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < OPEN_FILES:
        raise Refusal(f"a process may open only {most} files", f"raise the hard limit: ulimit -Hn {OPEN_FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, most))
    programs = ensure(options.gateways)
    os.sched_setaffinity(0, {load_core})  # whatever we do ourselves stays off the gateway's core
    contenders = [DIRECT, *(GATEWAYS[name] for name in options.gateways)]
    began = time.monotonic()
    rounds: list[figures.Round] = []
    with (
        awake.cores(awake=not options.let_cores_sleep),
        tempfile.TemporaryDirectory(prefix="tenantry-bench-") as temporary,
    ):
        directory = Path(temporary)
        with upstreams(programs, load_core, directory) as (ports, processes):
            bench = Bench(programs, ports, processes, gateway_core, load_core, directory, options.seconds)
            for number in range(1, options.rounds + 1):
                samples: dict[str, figures.Sample] = {}
                for contender in contenders:
                    samples[contender.name] = measure(bench, contender)
                    rps = figures.shown(samples[contender.name][figures.Figure.RPS])
                    elapsed = time.monotonic() - began
                    others = samples[contender.name][figures.Figure.OTHER_LOAD_PERCENT]
                    print(
                        f"{elapsed:7.1f}s  round {number}/{options.rounds}  {contender.name:<11}{rps:>8} requests/s"
                        f"   (other programs: {others:.0f} % of a core)",
                        flush=True,
                    )
                rounds.append(samples)
    return rounds


def main() -> int:
    """Run the benchmark; 1 when it could not be run or a chunk was lost, 0 otherwise, goals met or not."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what runs, like Ctrl-C
    try:
        rounds = run(options)
    except Refusal as refusal:
        print(f"bench-proxy: {refusal.message}\n  {refusal.remedy}", file=sys.stderr)
        return 1
    except StepFailed as failure:
        print(f"bench-proxy: {failure}\n{failure.tail}\n  {failure.remedy} (log: {failure.log})", file=sys.stderr)
        return 1
    except LoadFailed as failure:
        print(f"bench-proxy: {failure}", file=sys.stderr)
        return 1
    told = figures.results(rounds)
    print(f"\nMedians of {len(rounds)} rounds; one core each\n\n{figures.table(rounds)}\n")
    if told:
        print(f"Ours / theirs: median (lowest .. highest round)\n\n{figures.verdicts(told)}\n")
    disturbed = sum(not figures.quiet(sample) for samples in rounds for sample in samples.values())
    if disturbed:
        print(f"{disturbed} measurements were disturbed by other programs; a ratio leaves them out if it can.\n")
    figures_of_ours = {name: round(result.value, 4) for name, result in told.items()}
    print(json.dumps({**figures_of_ours, "rounds": len(rounds), "disturbed_measurements": disturbed}))
    return 1 if "lost_chunks" in told and told["lost_chunks"].value else 0


if __name__ == "__main__":
    sys.exit(main())
