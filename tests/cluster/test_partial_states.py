"""Whatever part of a tenant's objects there is when an operator starts, it ends with the same whole.

A sample of the subsets, with a fixed seed, against the real API server; thousands of them are tried in memory by
tests/component/operator/test_partial_states.py.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.cluster import COLLECTIONS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operators
from tests.cluster.snapshots import differences, snapshot, told

SEED = 20260101
#: Subsets that are tried, each on a tenant of its own (with --exhaustive more); two more tenants are left alone.
SAMPLE, LARGE_SAMPLE = 16, 80
#: A key that was lost is issued anew, and a policy with another key is another revision.
PAST = {("tenant", "status", "history"), ("tenant", "status", "applied")}
REFERENCES = ("part-ref-a", "part-ref-b")

SPEC = {"autoscaling": {"maxReplicas": 3}, "owners": [{"kind": "User", "name": "ada"}], "keys": [{"name": "default"}]}


@pytest.fixture
def operators(cluster: Cluster, installation: Installation, tmp_path: Path) -> Iterator[Operators]:
    """Operators; when the test is over, the last of them takes all Tenants away."""
    cluster.tier()
    with ExitStack() as ending:
        running = Operators(installation.operator, tmp_path)
        ending.callback(running.end)
        yield running
        running.end()
        running.start(lease="cleaner")
        cluster.empty()


def paths(cluster: Cluster, name: str) -> list[str]:
    """All objects in the tenant's namespace that are the operator's."""
    found = []
    for collection in COLLECTIONS:
        prefix, _, plural = collection.rpartition("/")
        place = f"/{prefix}/namespaces/tenant-{name}/{plural}"
        listed = cluster.call("GET", f"{place}?labelSelector=tenantry.dev/tenant={name}")["items"]
        found += [f"{place}/{each['metadata']['name']}" for each in listed]
    return found


@pytest.mark.timeout(600)
def test_from_any_part_of_its_objects_a_tenant_becomes_whole(
    request: pytest.FixtureRequest, cluster: Cluster, operators: Operators
) -> None:
    chance = random.Random(SEED)
    size = LARGE_SAMPLE if request.config.getoption("--exhaustive") else SAMPLE
    sampled = [f"part-{number:02}" for number in range(size)]
    everybody = [*REFERENCES, *sampled]
    first = operators.start()
    for name in everybody:
        cluster.tenant(name, **SPEC)
    for name in everybody:
        cluster.wait_for(name, "Ready", "True")
    assert first.stop() == 0
    kinds = [path.replace(REFERENCES[0], "TENANT") for path in paths(cluster, REFERENCES[0])]
    assert len(kinds) > 12, "more than 4,096 subsets, so a sample of them"
    gone: dict[str, list[str]] = {}
    for name in sampled:
        gone[name] = [path.replace("TENANT", name) for path in kinds if chance.random() < 0.5]
        for path in gone[name]:
            cluster.call("DELETE", path, {"propagationPolicy": "Background"})
    operators.start()

    def wrong() -> dict[str, str]:
        found = snapshot(cluster, everybody)
        one, other = (found[name] for name in REFERENCES)
        masked = differences(one, other)
        assert len(masked) < len(one) / 10
        return {
            name: f"without {gone[name]}:\n{told(different, one, found[name])}"
            for name in sampled
            if (different := {path for path in differences(one, found[name]) - masked if path[:3] not in PAST})
        }

    try:
        eventually("all are as those that were left alone", lambda: not wrong(), patience=180)
    except AssertionError:
        assert not wrong()
        raise
