"""``make bench-limits``: a table and, as its last line, JSON.

What the service's limits cost in Redis instead of memory, and whether many replicas together are ever let through more
than the limits allow.
"""

import argparse
import json
import sys

from localcluster.datastores import Redis

from tests.bench.ledger.measure import measure as measure_writer
from tests.bench.limits import admission, cost
from tests.bench.proxy.wrk import LoadFailed

#: Goals, by the names of the figures.
GOALS = {
    "service_cpu_ratio": "<= 1.4",
    "added_p50_ms": "<= 0.3",
    "redis_cpu_us": "<= 40",
    "writer_events_per_s": ">= 20000",
    "over_admitted": "= 0",
    "utilisation": ">= 0.99",
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.limits", description=__doc__)
    parser.add_argument("--reserves", type=int, default=1_000_000, help="asked of one Redis (default: a million)")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--connections", type=int, default=8, help="of each process")
    parser.add_argument("--seed", type=int, default=1, help="of limits and request sizes")
    parser.add_argument("--rounds", type=int, default=3, help="of the cost (default: 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load (default: 4)")
    parser.add_argument("--events", type=int, default=200_000, help="that the ledger writer moves (default: 200,000)")
    parser.add_argument("--source", action="store_true", help="measure the service as it is written, not compiled")
    parser.add_argument("--let-cores-sleep", action="store_true", help="measure the machine's wake-ups as well")
    parser.add_argument("--only", choices=("cost", "admission", "writer"), help="one part of it")
    return parser.parse_args()


def main() -> int:
    """Measure; 1 if it could not be measured or too much was let through."""
    options = arguments()
    figures: dict[str, float] = {}
    try:
        if options.only in (None, "cost"):
            costs = cost.run(
                options.rounds,
                options.seconds,
                compiled=not options.source,
                let_cores_sleep=options.let_cores_sleep,
            )
            figures["service_cpu_ratio"] = round(costs.cpu_ratio, 3)
            figures["added_p50_ms"] = round(costs.added_p50_ms, 3)
            figures["redis_cpu_us"] = round(costs.redis.redis_shared_us, 1)
            print(f"\nservice, us of CPU per request: {costs.memory.cpu_us:.1f} memory, {costs.redis.cpu_us:.1f} Redis")
            shared, alone = costs.redis.redis_shared_us, costs.redis.redis_us
            print(f"Redis, us of CPU per request with its event: {shared:.1f} at 64 connections")
            print(f"{alone:.1f} at one, where nothing travels together and Redis wakes up for each")
    except LoadFailed as failure:
        print(f"bench-limits: {failure}", file=sys.stderr)
        return 1
    if options.only in (None, "writer"):
        figures["writer_events_per_s"] = round(measure_writer(options.events).events_per_s)
    if options.only in (None, "admission"):
        with Redis(appendonly=False) as redis:
            found = admission.run(redis.url, options.reserves, options.processes, options.connections, options.seed)
        figures["over_admitted"] = found.over
        figures["utilisation"] = round(found.utilisation, 4)
        print(f"{found.reserves:,} reserves in {found.seconds:.0f} s; slots used at most: {found.most_slots}")
    print()
    for name, value in figures.items():
        print(f"{name:<22}{value:>14,}   goal {GOALS[name]}")
    print(json.dumps(figures))
    return 1 if figures.get("over_admitted") else 0


if __name__ == "__main__":
    sys.exit(main())
