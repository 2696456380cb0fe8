"""Quotas and hand-overs, on the real controllers: a wave of interruptions finds room, and refused pods come later."""

import pytest

from tests.cluster.cluster import Cluster, eventually
from tests.cluster.leaving import LONG, Object, Watched, endpoints, label, notice, only_pod, pods, tenants
from tests.cluster.operator_process import Operators

ONE = {"minReplicas": 1, "maxReplicas": 1}
APPS = "/apis/apps/v1/namespaces/tenant-crowded"
CROWD = "/api/v1/namespaces/tenant-crowded/resourcequotas/crowd"
ASKED = "tenantry.dev/pods-asked-again"


def refusals(cluster: Cluster, name: str) -> int:
    """How often the quota has refused a pod of the tenant's, as Events tell."""
    path = f"/api/v1/namespaces/tenant-{name}/events?fieldSelector=reason=FailedCreate"
    found = [each for each in cluster.call("GET", path)["items"] if "exceeded quota" in each["message"]]
    return sum(each.get("count") or 1 for each in found)


def active(cluster: Cluster, name: str) -> list[Object]:
    """Pods that the tenant's Deployment counts."""
    return [each for each in pods(cluster, name) if each["metadata"]["labels"].get("tenantry.dev/pool") == "active"]


def asked_again(cluster: Cluster, path: str) -> str | None:
    """What the object says of when pods were last asked for again."""
    found: str | None = cluster.call("GET", path)["metadata"].get("annotations", {}).get(ASKED)
    return found


def test_four_nodes_that_go_one_after_the_other_while_streams_are_open_find_room_for_each_replacement(
    cluster: Cluster, operators: Operators
) -> None:
    operators.start().says("synced")
    with tenants(cluster, "lineage", autoscaling=ONE):
        with Watched(cluster, "lineage") as watched:
            for gone in range(4):
                (current,) = active(cluster, "lineage")
                old = f"/api/v1/namespaces/tenant-lineage/pods/{current['metadata']['name']}"
                notice(cluster, current["spec"]["nodeName"], LONG)
                eventually(f"the place of number {gone} is taken", lambda: label(cluster, old, "serve") == "no")  # noqa: B023
        assert watched.fewest == 1
        assert len(pods(cluster, "lineage")) == 5, "each has its stream open"
        assert refusals(cluster, "lineage") == 0


@pytest.mark.timeout(600)
def test_pods_that_a_quota_refused_are_asked_for_until_it_has_room_without_a_roll_out(
    cluster: Cluster, operators: Operators
) -> None:
    operators.start().says("synced")
    with tenants(cluster, "crowded", autoscaling=ONE):
        old, node = only_pod(cluster, "crowded")
        (replica_set,) = (each["metadata"]["name"] for each in cluster.call("GET", f"{APPS}/replicasets")["items"])
        crowd = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "crowd"}}
        cluster.apply(CROWD, {**crowd, "spec": {"hard": {"pods": "1"}}})
        counted = lambda: cluster.call("GET", CROWD).get("status", {}).get("used", {}).get("pods") == "1"  # noqa: E731
        eventually("the quota has counted the pod", counted)
        notice(cluster, node, LONG)
        # As long as it is refused, so whoever is quicker, this is seen: first on the Deployment, then where it counts.
        first = eventually("it is asked for again", lambda: asked_again(cluster, f"{APPS}/deployments/api"))
        told = lambda: (asked_again(cluster, f"{APPS}/replicasets/{replica_set}") or "") > first  # noqa: E731
        eventually("and again, as the ReplicaSet's controller is told", told)
        assert label(cluster, old, "serve") == "yes"
        eventually("Events tell of it", lambda: refusals(cluster, "crowded") > 0)
        cluster.delete(CROWD)
        # The pauses between two times that it is asked for double: after a minute in vain, the next is as long.
        eventually("its place is taken", lambda: label(cluster, old, "serve") == "no", patience=300)
        (fresh,) = active(cluster, "crowded")
        eventually("only it serves", lambda: endpoints(cluster, "crowded") == [fresh["metadata"]["name"]])
        assert [each["metadata"]["name"] for each in cluster.call("GET", f"{APPS}/replicasets")["items"]] == [
            replica_set
        ]
        drifted = cluster.condition("crowded", "Drifted")
        assert drifted is not None
        assert drifted["status"] == "False"
