"""Interruptions, one after the other, under load: a notice, and the node killed at its deadline without grace."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.bench.spot.figures import Found
from tests.bench.spot.load import Load, Shape
from tests.bench.spot.stage import PLAIN, TENANTS, Stage

#: Seconds of load before the first interruption and after the last.
LULL = 3.0
#: The load that is asked for.
WHOLE = Shape()


@dataclass(frozen=True)
class Plan:
    """How much of it. ``down``: seconds until another node comes in the place of the killed one."""

    interruptions: int = 100
    notice: float = 120.0
    down: float = 2.0
    load: Shape = WHOLE
    drained_load: Shape = WHOLE


def run(stage: Stage, plan: Plan, say: Callable[[str], None]) -> Found:
    """Play the plan; the tenants are made and deleted."""
    stage.pin()
    with stage.workloads():
        endpoints = stage.expose()
        served, drained = Load(endpoints["tenant"], plan.load), Load(endpoints[PLAIN], plan.drained_load, seed=2)
        found = Found(served.outcomes, drained.outcomes, notice_s=plan.notice)
        told = 0
        with served, drained:
            time.sleep(LULL)
            for number in range(1, plan.interruptions + 1):
                node = stage.populated()
                waits = interrupt(stage, node, plan)
                found.interruptions += 1
                found.replacement_s += waits
                ours, theirs = found.served, found.drained
                for failure in ours.failures[told:]:
                    say(f"   ! {failure}")
                told = len(ours.failures)
                say(
                    f"{number}: {node} replaced after {', '.join(f'{wait:.1f}' for wait in waits)} s;"
                    f" failed {ours.failed_requests}, cut {ours.cut_streams}, ended early {ours.ended_early};"
                    f" drained: failed {theirs.failed_requests}, cut {theirs.cut_streams}"
                )
            time.sleep(LULL)
    return found


def interrupt(stage: Stage, node: str, plan: Plan) -> list[float]:
    """One interruption; the seconds until each tenant on the node had all its replacements."""
    affected = {
        name: replicas
        for name, replicas in TENANTS.items()
        if any(pod["spec"].get("nodeName") == node for pod in stage.pods(f"tenant-{name}"))
    }
    end = stage.notice(node, plan.notice)
    waits: list[float] = []

    def settle(name: str, replicas: int) -> None:
        with contextlib.suppress(AssertionError):  # not before the node's end: clients will tell
            waits.append(stage.settled(f"tenant-{name}", replicas, away_from=node, patience=plan.notice))

    watching = [threading.Thread(target=settle, args=each) for each in affected.items()]
    for thread in watching:
        thread.start()
    draining = stage.drain_plain(node)
    for thread in watching:
        thread.join()
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()))
    stage.kill(node)
    if draining.poll() is None:
        draining.terminate()
    draining.wait(30)
    time.sleep(plan.down)
    stage.return_as_new(node)
    for name, replicas in TENANTS.items():
        for prefix in ("tenant", PLAIN):
            stage.settled(f"{prefix}-{name}", replicas)
    return waits
