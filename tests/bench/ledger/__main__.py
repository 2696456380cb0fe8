"""``python -m tests.bench.ledger``: prints a table and, as its last line, JSON."""

import argparse
import json

from tests.bench.ledger.measure import measure

parse = argparse.ArgumentParser(prog="python -m tests.bench.ledger", description=__doc__)
parse.add_argument("--events", type=int, default=200_000)
parse.add_argument("--tenants", type=int, default=50, help="whose streams the events are in")
parse.add_argument("--idle-streams", type=int, default=5_000)
options = parse.parse_args()
found = measure(options.events, options.tenants, options.idle_streams)
for name, value in found._asdict().items():
    print(f"{name:<22}{value:>14,.3f}" if isinstance(value, float) else f"{name:<22}{value:>14,}")
print(
    json.dumps({"writer_events_per_s": round(found.events_per_s), "idle_redis_share": round(found.idle_redis_share, 4)})
)
