"""`make soak-spot`: 100 interruptions of Spot nodes under load, on a kind cluster of this checkout (made if need be).

Environment: INTERRUPTIONS (100), NOTICE (120 seconds; 0: nodes die without notice, one after the other), EVERY (36
seconds between two notices; 0: a node is back before the next one goes), NODES (6 Spot nodes that take turns), DRAINS
(0: nodes that are emptied by `kubectl drain` in the end), LONGEST (90 seconds: the longest stream), RATE (50 requests a
second), STREAMS (40 open ones), each of these for the tenants and once more for the workload without hand-over.
"""

import os
import sys

from localcluster import images
from localcluster.paths import Checkout
from localcluster.stand import Stand
from localcluster.steps import run_steps

from tests.bench.spot.load import Shape
from tests.bench.spot.soak import Plan, run
from tests.bench.spot.stage import Stage

CLUSTER = "soak"


def main() -> int:
    """Bring the cluster up, interrupt, print. 1 when anything was lost."""
    checkout = Checkout.here()
    stand = Stand(checkout, CLUSTER, (images.TENANTRY, images.SIMULATOR), workers=int(_given("NODES", 6)))
    run_steps(stand.steps(), checkout.log_dir)
    shape = Shape(
        requests_per_second=_given("RATE", 50), streams=int(_given("STREAMS", 40)), longest=_given("LONGEST", 90)
    )
    plan = Plan(
        interruptions=int(_given("INTERRUPTIONS", 100)),
        notice=_given("NOTICE", 120),
        every=_given("EVERY", 36),
        drains=int(_given("DRAINS", 0)),
        load=shape,
        drained_load=shape,
    )
    found = run(Stage.of(stand.cluster, stand.target.kubectl), plan, lambda text: print(text, flush=True))
    found.print()
    lost = found.served.failed_requests or found.served.cut_streams
    return 1 if lost and plan.notice else 0


def _given(name: str, default: float) -> float:
    return float(os.environ.get(name, default))


if __name__ == "__main__":
    sys.exit(main())
