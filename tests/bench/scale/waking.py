"""Real pods: asleep to first byte, two hundred at once, and five times the load, on a kind cluster of its own."""

import asyncio
import time
from collections.abc import Callable

from localcluster import cluster, images
from localcluster.paths import Checkout
from localcluster.stand import Stand
from localcluster.steps import run_steps

from tests.e2e import load
from tests.e2e.world import World

CLUSTER = "scale"
TARGET = 4
#: Seconds until the HPA has taken all but one pod away again: one a minute.
DOWN_WITHIN = 480.0


def measured(wakes: int, *, keep: bool, say: Callable[[str], None]) -> dict[str, float]:
    """The figures."""
    checkout = Checkout.here()
    stand = Stand(checkout, CLUSTER, images.ALL, {"metrics.scaleDownWindowSeconds": "30"})
    try:
        run_steps(stand.steps(), checkout.log_dir)
        world = World(stand.target, stand.cluster.node_ports)
        return {**asleep(world, wakes, say), **grown(world, say)}
    finally:
        if not keep:
            cluster.down(checkout, CLUSTER)


def asleep(world: World, wakes: int, say: Callable[[str], None]) -> dict[str, float]:
    """From asleep to the first byte, and a crowd at once."""
    with world.tenant("sleeper", **load.SLEEPER):
        world.wait_ready("sleeper")
        access, took = world.access("sleeper"), []
        for _ in range(wakes):
            load.fall_asleep(world, "sleeper")
            took.append(load.first_byte(access))
            say(f"asleep -> first byte {took[-1]:.2f} s")
        load.fall_asleep(world, "sleeper")
        began = time.monotonic()
        answered = len(load.crowd(access, 200))
        say(f"{answered} at once: {time.monotonic() - began:.1f} s")
        return {
            "first_byte_p50_s": load.percentile(took, 0.5),
            "first_byte_p95_s": load.percentile(took, 0.95),
            "crowd_answered": float(answered),
            "crowd_s": time.monotonic() - began,
        }


def grown(world: World, say: Callable[[str], None]) -> dict[str, float]:
    """Five times the load, and back down to one pod."""
    scaling = {"minReplicas": 1, "maxReplicas": 6, "targetInFlight": TARGET}
    with world.tenant("scaled", autoscaling=scaling, limits=load.ROOM, resources=load.SMALL):
        world.wait_ready("scaled")
        access = world.access("scaled")
        took, cut = asyncio.run(load.grow(world, access, "scaled", TARGET, 90, 60.0))
        say(f"five times the load -> five pods {took:.1f} s, {cut} streams cut")
        # One pod after the other goes, and none may take a stream with it.
        more, down = asyncio.run(load.shrink(access, lambda: load.ready(world, "scaled") == 1, DOWN_WITHIN))
        say(f"back to one pod after {down:.0f} s, {more} streams cut")
        return {"five_times_s": took, "cut_streams": float(cut + more), "down_s": down}
