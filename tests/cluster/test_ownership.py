"""Objects of every kind in a tenant's namespace that somebody else has made, or that an older chart has left."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tenantry_operator.plan import names

from tests.cluster.cluster import COLLECTIONS, TENANTS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operators
from tests.cluster.snapshots import objects, snapshot

NAME = "made-by-others"
SPACE = f"tenant-{NAME}"
OWNERS = [{"kind": "User", "name": "ada"}]


@pytest.fixture
def operators(cluster: Cluster, installation: Installation, tmp_path: Path) -> Iterator[Operators]:
    """Operators, and a tenant with objects of every kind, Ready."""
    cluster.tier()
    running = Operators(installation.operator, tmp_path)
    running.start()
    cluster.tenant(NAME, autoscaling={"maxReplicas": 3}, owners=OWNERS)
    cluster.wait_for(NAME, "Ready", "True")
    try:
        yield running
        running.end()
        running.start()
        cluster.delete(f"{TENANTS}/{NAME}")
        cluster.gone(NAME)
    finally:
        running.end()


def members(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The tenant's objects, Secrets apart, by path."""
    found = {}
    for collection in COLLECTIONS:
        prefix, _, plural = collection.rpartition("/")
        place = f"/{prefix}/namespaces/{SPACE}/{plural}"
        for each in cluster.call("GET", f"{place}?labelSelector=tenantry.dev/tenant={NAME}")["items"]:
            if plural != "secrets":
                found[f"{place}/{each['metadata']['name']}"] = each
    return found


def copy(found: dict[str, Any], name: str, labels: dict[str, str]) -> dict[str, Any]:
    """The same object, as somebody would make it who has seen it."""
    made: dict[str, Any] = {"metadata": {"name": name, "labels": labels}}
    made |= {key: found[key] for key in ("data", "rules", "roleRef", "subjects") if key in found}
    if "spec" in found:
        made["spec"] = {key: value for key, value in found["spec"].items() if key not in ("clusterIP", "clusterIPs")}
    return made


def test_what_somebody_else_has_made_in_its_place_is_taken_over(cluster: Cluster, operators: Operators) -> None:
    before = snapshot(cluster, [NAME])[NAME]
    operators.end()
    found = members(cluster)
    assert {path.split("/")[-2] for path in found} == {each.rpartition("/")[2] for each in COLLECTIONS} - {"secrets"}
    for path, each in found.items():
        place, _, name = path.rpartition("/")
        cluster.call("DELETE", path, {"propagationPolicy": "Background"})
        cluster.call("POST", place, copy(each, name, {names.MANAGED_BY: "somebody"}))
    operators.start()

    def ours_again() -> bool:
        labels = [each["metadata"]["labels"][names.MANAGED_BY] for each in members(cluster).values()]
        return labels == ["tenantry"] * len(found)

    eventually("all of it is ours again", ours_again)
    cluster.wait_for(NAME, "Ready", "True")
    after = snapshot(cluster, [NAME])[NAME]
    assert objects(after) == objects(before)


def test_what_an_older_chart_has_left_is_pruned_whatever_its_kind(cluster: Cluster, operators: Operators) -> None:
    before = objects(snapshot(cluster, [NAME])[NAME])
    for path, each in members(cluster).items():
        place, _, name = path.rpartition("/")
        left = copy(each, f"{name}-of-old", names.labels(NAME))
        if place.endswith("/deployments"):  # and its pods are nobody else's
            left["spec"] = {**left["spec"], "replicas": 0}
        cluster.call("POST", place, left)
    eventually("all of it is gone", lambda: objects(snapshot(cluster, [NAME])[NAME]) == before)
    time.sleep(1)
    cluster.wait_for(NAME, "Ready", "True")
    assert objects(snapshot(cluster, [NAME])[NAME]) == before
