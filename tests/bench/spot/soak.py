"""Interruptions under load, one after the other or several at a time: a notice, and the node killed at its deadline
without grace.

Or killed without any notice. And, as what everybody does to nodes, `kubectl drain`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.bench.spot.figures import Found
from tests.bench.spot.load import Load, Shape
from tests.bench.spot.stage import PATIENCE, PLAIN, TENANTS, Stage

#: Seconds of load before the first interruption and after the last.
LULL = 3.0
#: Seconds for pods to be replaced of which nobody was told in time: Kubernetes notices a silent node after 40 to 50.
UNNOTICED = 240.0
#: The load that is asked for.
WHOLE = Shape()


@dataclass(frozen=True)
class Plan:
    """How much of it. ``notice``: seconds, 0 for none. ``down``: until another node comes in the killed one's place.

    ``every``: seconds between two notices, so that several nodes are on their way at a time; 0: one after the other.
    ``sooner``: once all are replaced, the node's end is so many seconds ahead instead, if that is earlier; 0: it stays.
    ``drains``: nodes that are emptied by `kubectl drain` in the end, tenants and all.
    """

    interruptions: int = 100
    drains: int = 0
    notice: float = 120.0
    every: float = 0.0
    sooner: float = 0.0
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

        def tell(what: str, waits: list[float]) -> None:
            nonlocal told
            ours, theirs = found.served, found.drained
            for failure in ours.failures[told:]:
                say(f"   ! {failure}")
            told = len(ours.failures)
            say(
                f"{what}, replaced after {', '.join(f'{wait:.1f}' for wait in waits)} s;"
                f" failed {ours.failed_requests}, cut {ours.cut_streams}, ended early {ours.ended_early};"
                f" beside it: failed {theirs.failed_requests}, cut {theirs.cut_streams}"
            )

        with served, drained:
            time.sleep(LULL)
            for node, waits in rotation(stage, plan, found):
                found.interruptions += 1
                found.replacement_s += waits
                tell(f"{found.interruptions}: {node} interrupted", waits)
            for _ in range(plan.drains):
                node = stage.populated()
                tell(f"{node} drained", drain(stage, node))
            time.sleep(LULL)
    found.judge()
    return found


def rotation(stage: Stage, plan: Plan, found: Found) -> Iterator[tuple[str, list[float]]]:
    """The interruptions as they end: the node, and the seconds until each tenant on it had all its replacements.

    Each has a thread of its own from the notice until the node is back. One node at least is left to the others.
    """
    together = len(stage.kind.workers) - 1 if plan.every and plan.notice else 1
    under_way: dict[Future[list[float]], str] = {}

    def over(leave: int, until: float) -> Iterator[tuple[str, list[float]]]:
        while (full := len(under_way) > leave) or time.monotonic() < until:
            rest = max(0.0, until - time.monotonic())
            if not under_way:
                time.sleep(rest)
            for each in wait(under_way, None if full else rest, FIRST_COMPLETED).done:
                yield under_way.pop(each), each.result()

    with ThreadPoolExecutor(together) as threads:
        due = 0.0
        for _ in range(plan.interruptions):
            yield from over(together - 1, due)
            due = time.monotonic() + plan.every
            node = stage.populated(besides=frozenset(under_way.values()))
            one = interrupt if plan.notice else strike
            under_way[threads.submit(one, stage, node, plan, found)] = node
        yield from over(0, 0.0)


def interrupt(stage: Stage, node: str, plan: Plan, found: Found) -> list[float]:
    """One interruption; the seconds until each tenant on the node had all its replacements."""
    affected = on_node(stage, node)
    end = stage.notice(node, plan.notice)
    with contextlib.ExitStack() as held:
        waits = held.enter_context(replaced(stage, affected, node, plan.notice))
        draining = stage.drain_plain(node)
    if plan.sooner and (end - datetime.now(UTC)).total_seconds() > plan.sooner:
        end = stage.notice(node, plan.sooner)
    found.ends.append(end)
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()))
    stage.kill(node)
    if draining.poll() is None:
        draining.terminate()
    draining.wait(30)
    time.sleep(plan.down)
    come_back(stage, node)
    return waits


def strike(stage: Stage, node: str, plan: Plan, found: Found) -> list[float]:
    """A node dies and nobody knew. The seconds until each tenant on it had all its replacements."""
    affected, began = on_node(stage, node), time.monotonic()
    stage.kill(node)
    with replaced(stage, affected, node, UNNOTICED) as waits:
        pass
    time.sleep(max(plan.down, LULL))
    found.outage_s.append(max(0.0, found.served.failed_at - began))
    come_back(stage, node)
    return waits


def drain(stage: Stage, node: str) -> list[float]:
    """`kubectl drain` of a node with tenants' pods on it. Fails unless it comes to its end."""
    affected = on_node(stage, node)
    with replaced(stage, affected, node, UNNOTICED) as waits:
        draining = stage.drain_tenants(node)
    assert draining.wait(PATIENCE) == 0, "kubectl drain did not come to its end"
    come_back(stage, node)
    return waits


def on_node(stage: Stage, node: str) -> dict[str, int]:
    """Tenants with pods there, and how many pods each has in all."""
    return {
        name: replicas
        for name, replicas in TENANTS.items()
        if any(pod["spec"].get("nodeName") == node for pod in stage.pods(f"tenant-{name}"))
    }


@contextlib.contextmanager
def replaced(stage: Stage, affected: Mapping[str, int], node: str, patience: float) -> Iterator[list[float]]:
    """What happens in the block makes pods leave; after it, the seconds until each tenant had its replacements."""
    waits: list[float] = []

    def settle(name: str, replicas: int) -> None:
        with contextlib.suppress(AssertionError):  # not in time: clients will tell
            waits.append(stage.settled(f"tenant-{name}", replicas, away_from=node, patience=patience))

    watching = [threading.Thread(target=settle, args=each) for each in affected.items()]
    for thread in watching:
        thread.start()
    yield waits
    for thread in watching:
        thread.join()


def come_back(stage: Stage, node: str) -> None:
    """A new node in its place, and everybody Ready."""
    stage.return_as_new(node)
    for name, replicas in TENANTS.items():
        for prefix in ("tenant", PLAIN):
            stage.settled(f"{prefix}-{name}", replicas)
