"""The operator is killed after each single write of a tenant's life; the next one ends where an undisturbed one does.

Lives in phases: created, changed, given other credentials, given another tier, deleted. In each phase two tenants go
through undisturbed, each with an operator of its own; they tell how many writes it takes (n), where it ends, and which
fields differ between any two tenants. Then operators, each of which sees one tenant only, are killed after their first,
second, … n-th write (``kill -9``, before the answer arrives). One more finishes what they left. Compared are whole
objects, and how often each was created and deleted.

A sample of the writes with a fixed seed; ``--exhaustive`` (``make proofs``) takes all of them.
"""

import base64
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
import yaml

from tests.cluster.cluster import TENANTS, TIERS, Cluster, eventually
from tests.cluster.installation import SYSTEM, Installation
from tests.cluster.kubectl import ROOT
from tests.cluster.operator_process import Operator, Operators
from tests.cluster.recording_proxy import Proxies, Proxy, Write, proxies
from tests.cluster.snapshots import Leaves, differences, snapshot, told

REFERENCES = ("life-ref-a", "life-ref-b")

SEED = 20260101
#: So many writes of a phase are crash points, unless all are.
SAMPLE = 8
#: Tenants beyond the writes of the first phase, for a later one that has more.
SPARE = 8

#: Operators that run side by side; each of them starts up, which costs a second of CPU.
AT_ONCE = 6
#: Seconds without a write after which an operator whose tenant is at rest counts as done.
QUIET = 3.0

#: Where a change of a tier reaches its tenants in waves, there is one wave here.
_TIER = yaml.safe_load((ROOT / "crds/tenanttiers.yaml").read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
IN_WAVES = "rollout" in _TIER["properties"]["spec"]["properties"]
AT_ONCE_FOR_ALL: dict[str, object] = {"rollout": {"waves": [100], "pause": "0s"}} if IN_WAVES else {}
OWNERS = [{"kind": "User", "name": "ada"}]


@dataclass
class Phase:
    """What happens to a tenant, and what came of it."""

    name: str
    happen: Callable[[Cluster, str], None]
    writes: int = 0
    before: dict[str, object] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)
    at_rest: dict[str, int] = field(default_factory=dict)
    masked: set[tuple[str, ...]] = field(default_factory=set)
    expected: Leaves = field(default_factory=dict)
    ended: dict[str, Leaves] = field(default_factory=dict)
    done: dict[str, Counter[str]] = field(default_factory=dict)


def create(cluster: Cluster, name: str) -> None:
    secret(cluster, name, "first")
    cluster.tier(tier(name), **AT_ONCE_FOR_ALL)
    keys = [{"name": "default"}, {"name": "old"}]
    spec = {"keys": keys, "owners": OWNERS, "autoscaling": {"maxReplicas": 3}, "upstreams": upstreams(name)}
    cluster.tenant(name, tier=tier(name), **spec)


def change(cluster: Cluster, name: str) -> None:
    keys = [{"name": "default", "rotation": 1}, {"name": "ci"}]
    limits = {"requestsPerMinute": 7}
    cluster.tenant(name, tier=tier(name), keys=keys, limits=limits, upstreams=upstreams(name))


def renew_credentials(cluster: Cluster, name: str) -> None:
    secret(cluster, name, "second")


def change_tier(cluster: Cluster, name: str) -> None:
    spec = {"resources": {"requests": {"cpu": "200m"}}, "models": {"allow": ["gpt-*"]}}
    cluster.tier(tier(name), **AT_ONCE_FOR_ALL, **spec)


def delete(cluster: Cluster, name: str) -> None:
    cluster.delete(f"{TENANTS}/{name}")


def tier(name: str) -> str:
    """Each tenant has a tier of its own: what is written about the tier is part of its life, too."""
    return f"tier-of-{name}"


def secret(cluster: Cluster, name: str, value: str) -> None:
    labels = {"tenantry.dev/upstream-credentials": "true"}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"upstream-of-{name}", "labels": labels}}
    data = {"api-key": base64.b64encode(value.encode()).decode()}
    cluster.apply(f"/api/v1/namespaces/{SYSTEM}/secrets/upstream-of-{name}", {**body, "data": data})


def upstreams(name: str) -> list[dict[str, str]]:
    return [{"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": f"upstream-of-{name}"}]


PHASES = {
    "created": create,
    "changed": change,
    "given other credentials": renew_credentials,
    "given another tier": change_tier,
    "deleted": delete,
}


@dataclass
class Stage:
    """Where it is played."""

    cluster: Cluster
    operators: Operators
    ways: Proxies
    exhaustive: bool
    lives: tuple[str, ...] = ()
    phases: dict[str, Phase] = field(default_factory=dict)

    def operator(self, way: Proxy, lease: str, *, revived: bool = True) -> Operator:
        """An operator behind this proxy, with a Lease of its own: nobody waits for a dead holder's to run out."""
        self.operators.kubeconfig = way.kubeconfig
        return self.operators.start(lease=lease, revived=revived)

    def play(self, phase: Phase) -> None:
        """Let it happen to all tenants while no operator runs; then let operators come, be killed, and come again."""
        phase.before = {name: self.applied(name) for name in (*REFERENCES, *self.lives)}
        for name in (*REFERENCES, *self.lives):
            phase.happen(self.cluster, name)
        journal: list[Write] = []
        references = [(name, self.ways.open(only=name, tier=tier(name))) for name in REFERENCES]
        running = [(way, self.operator(way, f"{name}-{len(self.phases)}")) for name, way in references]
        for way, operator in running:
            self.settled(way, phase)
            operator.stop()
        phase.writes = max(len(way.writes) for _, way in references)
        points = crash_points(phase.writes, exhaustive=self.exhaustive)
        if not self.lives:  # nobody knows before the first phase how many there are
            self.lives = tuple(f"life-{number:02}" for number in range(1, len(points) + SPARE * self.exhaustive + 1))
            for name in self.lives:
                phase.happen(self.cluster, name)
        assert len(points) <= len(self.lives), "more writes than in the first phase: more tenants to spare are needed"
        self.kill_after_writes(phase, dict(zip(self.lives, points, strict=False)), journal)
        heir = self.ways.open()
        last = self.operator(heir, f"heir-{len(self.phases)}")
        self.converged(phase)
        last.stop()
        for name, way in references:
            phase.done[name] = made_and_deleted(name, way.writes)
        journal += heir.writes
        phase.done |= {name: made_and_deleted(name, journal) for name in phase.killed}

    def settled(self, way: Proxy, phase: Phase) -> None:
        """Wait until an operator that nobody kills has nothing left to write."""
        eventually("it is done", lambda: quiet_for(way) > QUIET and self.is_at_rest(way, phase), patience=180)

    def applied(self, name: str) -> object:
        """What a Tenant says of what was applied last; None when there is no such Tenant, or nothing was."""
        found = self.cluster.find(f"{TENANTS}/{name}") or {}
        return found.get("status", {}).get("applied")

    def is_at_rest(self, way: Proxy, phase: Phase) -> bool:
        """Whether the operator's tenant says that it has come to the phase's end: a pause alone would not tell."""
        assert way.only is not None
        if phase.happen is delete:
            return self.cluster.find(f"{TENANTS}/{way.only}") is None
        ready = self.cluster.condition(way.only, "Ready")
        was = phase.before.get(way.only)
        return ready is not None and ready["status"] == "True" and self.applied(way.only) != was

    def kill_after_writes(self, phase: Phase, points: dict[str, int], journal: list[Write]) -> None:
        """An operator for each tenant, killed after so many writes, some at a time."""
        waiting = list(points.items())
        running: list[tuple[Proxy, Operator, str, int]] = []
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                name, number = waiting.pop(0)
                way = self.ways.open(only=name, tier=tier(name))
                operator = self.operator(way, f"{name}-{len(self.phases)}", revived=False)
                way.kill_after(number, operator.process.pid)
                running.append((way, operator, name, number))
            for one in list(running):
                way, operator, name, number = one
                is_quiet = quiet_for(way) > 3 * QUIET and self.is_at_rest(way, phase)
                if operator.process.poll() == 1 and not way.has_killed:  # its Lease was lost: the machine is too busy
                    running.remove(one)
                    again = self.operator(way, f"{name}-{len(self.phases)}-again", revived=False)
                    way.aim_at(again.process.pid)
                    running.append((way, again, name, number))
                elif operator.process.poll() is not None or is_quiet:
                    running.remove(one)
                    operator.kill()
                    journal += way.writes
                    (phase.killed if way.has_killed else phase.at_rest)[name] = number
            time.sleep(0.02)

    def converged(self, phase: Phase) -> None:
        """Wait until all are as the references are; else remember how they differ."""
        everybody = [*REFERENCES, *self.lives]
        deadline = time.monotonic() + 180
        while True:
            found = snapshot(self.cluster, everybody)
            one, other = (found[name] for name in REFERENCES)
            phase.masked, phase.expected = differences(one, other), one
            phase.ended = {name: found[name] for name in self.lives}
            if not any(differences(one, each) - phase.masked for each in phase.ended.values()):
                return
            if time.monotonic() > deadline:
                return
            time.sleep(0.5)


def quiet_for(way: Proxy) -> float:
    """Seconds since the last write; 0 as long as there was none."""
    return time.monotonic() - way.writes[-1].at if way.writes else 0.0


def crash_points(writes: int, *, exhaustive: bool) -> list[int]:
    """After which writes of a phase operators are killed: always the first and the last."""
    every = range(1, writes + 1)
    if exhaustive or writes <= SAMPLE:
        return list(every)
    chosen = random.Random(SEED + writes).sample(every[1:-1], SAMPLE - 2)
    return sorted([1, writes, *chosen])


def made_and_deleted(name: str, writes: list[Write]) -> Counter[str]:
    """How often each object of the tenant was made and deleted; asking twice for the same deletion is once.

    Events are left out: one may be lost or told twice, they are for people.
    """
    counted: Counter[str] = Counter()
    deleted: set[tuple[str, str]] = set()
    for write in writes:
        path = write.path.replace(f"tenant-{name}", "SPACE").replace(f"{TENANTS}/{name}", "TENANT")
        if path == write.path or write.status >= 300 or "/events" in path:
            continue
        if write.status == 201:
            counted[f"made {path}"] += 1
        if write.method == "DELETE" and (path, write.uid) not in deleted:
            deleted.add((path, write.uid))
            counted[f"deleted {path}"] += 1
    return counted


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    installation: Installation,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """All phases, played in their order by the tests below."""
    directory = tmp_path_factory.mktemp("lives")
    with ExitStack() as ending:
        ways = ending.enter_context(proxies(installation.operator, directory))
        operators = Operators(installation.operator, directory)
        ending.callback(operators.end)
        stage = Stage(cluster, operators, ways, exhaustive=request.config.getoption("--exhaustive"))
        yield stage
        for name in (*REFERENCES, *stage.lives):
            cluster.delete(f"/api/v1/namespaces/{SYSTEM}/secrets/upstream-of-{name}")
            cluster.delete(f"{TIERS}/{tier(name)}")
        if cluster.call("GET", TENANTS)["items"]:  # a phase has failed
            operators.end()
            operators.kubeconfig = installation.operator
            operators.start(lease="cleaner")
            cluster.empty()


def masked(phase: Phase) -> list[str]:
    """The fields that differ between any two tenants, for people."""
    return sorted(".".join(path) for path in phase.masked)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PHASES)
def test_killed_after_any_write_it_ends_where_an_undisturbed_one_does(stage: Stage, name: str) -> None:
    phase = Phase(name, PHASES[name])
    stage.play(phase)
    stage.phases[name] = phase
    assert phase.writes > 1
    print(f"{name}: {phase.writes} writes, killed after {sorted(phase.killed.values())}; masked:", masked(phase))
    # Status writes fall together when pods come up quickly: then the last crash points are after the last write.
    assert all(number > 0.7 * phase.writes for number in phase.at_rest.values()), phase.at_rest
    assert phase.killed
    assert (phase.expected == {}) is (name == "deleted")
    assert len(phase.masked) < len(phase.expected) / 10 + 1, "what is masked proves nothing"
    wrong = {
        life: told(paths, phase.expected, ended)
        for life, ended in phase.ended.items()
        if (paths := differences(phase.expected, ended) - phase.masked)
    }
    assert not wrong, "\n".join(f"{life}:\n{text}" for life, text in wrong.items())
    expected = phase.done[REFERENCES[0]]
    assert expected == phase.done[REFERENCES[1]]
    odd = {life: phase.done[life] - expected | expected - phase.done[life] for life in phase.killed}
    assert not any(odd.values()), {life: dict(counted) for life, counted in odd.items() if counted}
