"""Run the benchmark of scaling: `python -m tests.bench.scale [--wakes N] [--tenants N]`; see `--help`."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.scale import sleeping, waking

#: Name, what it means, the most that it may be.
MEANING: tuple[tuple[str, str, float | None], ...] = (
    ("first_byte_p50_s", "asleep -> first byte, p50, s", None),
    ("first_byte_p95_s", "asleep -> first byte, p95, s", 5.0),
    ("crowd_answered", "of 200 at once, answered", None),
    ("crowd_s", "all of them answered after, s", None),
    ("five_times_s", "five times the load -> enough pods ready, s", 60.0),
    ("down_s", "back to one pod after, s", None),
    ("cut_streams", "streams cut on the way up and down", 0),
    ("tenants", "tenants that sleep", None),
    ("asleep_after_s", "until all of them do, s", None),
    ("pods", "their pods", 0),
    ("cpu", "operator, share of a core", 0.01),
    ("writes", "operator, writes meanwhile", 0),
    ("rss_mb", "operator, memory, MB", None),
)


def main() -> int:
    """Measure, print a table and, as the last line, the figures as JSON; 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--wakes", type=int, default=20, help="on kind; 0: no kind (%(default)s)")
    parser.add_argument("--keep-cluster", action="store_true")
    parser.add_argument("--tenants", type=int, default=1000, help="that sleep; 0: none (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="to look at them for (%(default)s)")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f}s  {text}", flush=True)

    found: dict[str, float] = {}
    if options.wakes:
        found |= waking.measured(options.wakes, keep=options.keep_cluster, say=say)
    if options.tenants:
        with tempfile.TemporaryDirectory() as directory:
            found |= sleeping.measured(Path(directory), options.tenants, options.seconds, say)
    broken = []
    for name, meaning, most in MEANING:
        if name in found:
            over = most is not None and found[name] > most
            broken += [name] if over else []
            bound = "" if most is None else f"  (at most {most:g}{', NOT HELD' if over else ''})"
            print(f"{meaning:<48} {found[name]:10.3f}{bound}")
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
