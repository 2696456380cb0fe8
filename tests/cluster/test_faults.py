"""What an API server and a network can do to the operator: nothing is lost, nothing runs in circles, and it recovers.

Each fault lasts for some seconds, in which a tenant is created, one changed and one deleted. Once it is over, all three
must have come to their end within 30 s, and the keys that existed must be the keys that exist.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from localcluster.controlplane import ControlPlane

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operator, Operators
from tests.cluster.recording_proxy import Asked, Fault, Harm, Proxies, Proxy, proxies

#: Seconds that a fault lasts; one that renewals of the Lease meet, too, long enough for its loss after 5.
LENGTH, LONG = 3.0, 6.0
#: Seconds after its end within which everything is as declared.
RECOVERY = 30.0
#: As many of them count at most between two looks: while the whole machine stands still, nobody recovers.
GLANCE = 1.0

#: Requests for each of the three tenants while the fault lasts. Attempts come after 0.25, 0.5, 1, 2, 4 s (± 50 %), some
#: ten requests each; an operator that tries again at once makes thousands.
CALLS = 100
#: New watches while the fault lasts: there are some 16 streams.
WATCHES = 400


def refuse_writes(status: int, retry_after: int | None = None) -> Callable[[Asked], Fault | None]:
    return lambda asked: Fault(Harm.REFUSE, status, retry_after) if asked.is_write else None


def every_other_write(harm: Harm) -> Callable[[Asked], Fault | None]:
    count = itertools.count()
    return lambda asked: Fault(harm) if asked.is_write and next(count) % 2 else None


def everything(harm: Harm) -> Callable[[Asked], Fault | None]:
    return lambda _: Fault(harm)


def old_news(asked: Asked) -> Fault | None:
    """Reads are answered by a server that is behind, and watches tell nothing."""
    if "/leases" in asked.path or asked.is_write:
        return None
    return Fault(Harm.CUT) if asked.verb == "watch" else Fault(Harm.STALE)


FAULTS = {
    "every write is a conflict": refuse_writes(409),
    "too many requests": refuse_writes(429, retry_after=1),
    "every write is an internal error": refuse_writes(500),
    "every other answer to a write is lost": every_other_write(Harm.LOSE_ANSWER),
    "every other write breaks off": every_other_write(Harm.CUT),
    "the network is gone": everything(Harm.CUT),
    "the server is unavailable": lambda _: Fault(Harm.REFUSE, 503),
    "reads are stale and watches silent": old_news,
}


@dataclass
class Scene:
    """An operator behind a proxy, and a cluster on which things happen."""

    cluster: Cluster
    ways: Proxies
    way: Proxy
    operators: Operators
    operator: Operator

    def revive(self) -> None:
        """What the kubelet does."""
        if self.operator.process.poll() is not None:
            self.operator = self.operators.start(lease=f"faults-{len(self.operators.started)}", revived=False)

    def leads(self) -> bool:
        """Whether the operator does, or did before it was lost again."""
        self.revive()
        return any(line["message"] == "leading" for line in self.operator.lines())

    def is_ready(self, name: str) -> bool:
        """Whether the tenant is; the operator is alive when somebody asks."""
        self.revive()
        found = self.cluster.condition(name, "Ready")
        return found is not None and found["status"] == "True"

    def happen(self, name: str) -> Callable[[], bool]:
        """One tenant is created, one changed, one deleted; says whether all of that has come to its end."""
        self.cluster.tenant(f"{name}-new")
        self.cluster.tenant(f"{name}-changed", limits={"requestsPerMinute": 77})
        self.cluster.delete(f"{TENANTS}/{name}-deleted")

        def has_ended() -> bool:
            if self.cluster.find(f"{TENANTS}/{name}-deleted") or self.cluster.find(f"{SPACES}-{name}-deleted"):
                return False
            states = [self.cluster.condition(f"{name}-{each}", "Ready") for each in ("new", "changed")]
            if not all(state and state["status"] == "True" for state in states):
                return False
            return bool(self.cluster.policy(f"{name}-changed")["limits"].get("requestsPerMinute") == 77)

        return has_ended

    def key(self, name: str) -> str:
        found = self.cluster.key(name)
        assert found is not None
        return f"{found['metadata']['uid']} {found['data']}"


SPACES = "/api/v1/namespaces/tenant"


@pytest.fixture(scope="module")
def scene(cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An operator, and for each fault two tenants to change and to delete."""
    directory = tmp_path_factory.mktemp("faults")
    cluster.tier()
    with ExitStack() as ending:
        ways = ending.enter_context(proxies(installation.operator, directory))
        way = ways.open()
        operators = Operators(way.kubeconfig, directory)
        ending.callback(operators.end)
        operator = operators.start(lease="faults-0", revived=False)
        running = Scene(cluster, ways, way, operators, operator)
        made = [f"{slug(name)}-{what}" for name in (*FAULTS, RESTART, DROPPED) for what in ("changed", "deleted")]
        for name in made:
            cluster.tenant(name)
        for name in made:
            eventually(f"{name} is ready", lambda: running.is_ready(name))  # noqa: B023
        yield running
        way.fault = lambda _: None
        operators.end()
        operators.start(lease="faults-cleaner")
        cluster.empty()


def slug(name: str) -> str:
    return "f-" + name.replace(" ", "-")[:28].rstrip("-")


RESTART = "restarted"
DROPPED = "watches dropped"


def recovers(scene: Scene, name: str, has_ended: Callable[[], bool], key: str) -> float:
    """Wait until all is well; gives the seconds that it took."""
    # In a cluster, the kubelet has started it anew long before the fault is over.
    eventually("an operator leads", scene.leads)
    took, looked = 0.0, time.monotonic()
    while not has_ended():
        assert took <= RECOVERY, f"not within {RECOVERY:.0f} s: all is as declared after: {name}"
        time.sleep(0.05)
        scene.revive()
        now = time.monotonic()
        took, looked = took + min(now - looked, GLANCE), now
    assert scene.key(f"{slug(name)}-changed") == key
    print(f"{name}: recovered in {took:.1f} s")
    return took


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_passes_without_a_trace(scene: Scene, name: str) -> None:
    key = scene.key(f"{slug(name)}-changed")
    before = len(scene.way.asked)
    scene.way.fault = FAULTS[name]
    try:
        has_ended = scene.happen(slug(name))
        if scene.way.fault(Asked("watch", "/")) is not None:
            scene.ways.cut_streams(scene.way)
        time.sleep(LONG if scene.way.fault(Asked("update", "/leases")) else LENGTH)
    finally:
        scene.way.fault = lambda _: None
    asked = scene.way.asked[before:]
    watches = [each for each in asked if each.verb == "watch" and "/leases" not in each.path]
    others = [each for each in asked if slug(name) in each.path]
    print(f"{name}: {len(watches)} watches, {len(others)} other requests")
    assert len(watches) < WATCHES
    assert len(others) < 3 * CALLS, Counter(others).most_common(8)
    recovers(scene, name, has_ended, key)


def test_watches_that_break_again_and_again_lose_nothing(scene: Scene) -> None:
    key = scene.key(f"{slug(DROPPED)}-changed")
    has_ended = scene.happen(slug(DROPPED))
    for _ in range(12):
        scene.ways.cut_streams(scene.way)
        time.sleep(0.5)
    recovers(scene, DROPPED, has_ended, key)


def test_the_api_server_is_restarted(scene: Scene, control_plane: ControlPlane) -> None:
    key = scene.key(f"{slug(RESTART)}-changed")
    has_ended = scene.happen(slug(RESTART))
    control_plane.restart_apiserver()
    recovers(scene, RESTART, has_ended, key)
