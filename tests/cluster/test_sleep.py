"""Falling asleep and waking up on a real API server, with pods that KWOK plays and an activator of the test's."""

import time
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster.activating import ACTIVATOR, Activator, Pods, start
from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operators
from tests.cluster.pod_proxy import PodProxy

SPACE = "tenant-drowsy"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SPACE}/deployments/api"
SLICE = f"/apis/discovery.k8s.io/v1/namespaces/{SPACE}/endpointslices/api-activator"
#: Seconds without a write while everybody sleeps.
QUIET = 15.0


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def proxy(pods: Pods) -> Iterator[PodProxy]:
    with PodProxy(pods) as running:
        yield running


@pytest.fixture
def operators(installation: Installation, tmp_path: Path) -> Iterator[Operators]:
    found = Operators(installation.operator, tmp_path)
    yield found
    found.end()


@pytest.mark.timeout(400)
def test_a_tenant_falls_asleep_outlives_an_operator_and_wakes_up(
    cluster: Cluster, operators: Operators, proxy: PodProxy, pods: Pods
) -> None:
    operator, port = start(operators, proxy)
    activator = Activator(cluster, port)
    try:
        cluster.tier("sleeping")
        cluster.tenant("drowsy", tier="sleeping", autoscaling={"minReplicas": 0, "idleAfter": "10s"})
        cluster.wait_for("drowsy", "Ready", "True", "Ready")
        eventually("its pod is asked", lambda: bool(proxy.asked))
        assert cluster.find(SLICE) is None  # a stream is open
        pods.idle = 60.0
        cluster.wait_for("drowsy", "Ready", "True", "Asleep")
        assert cluster.call("GET", DEPLOYMENT)["spec"]["replicas"] == 0
        assert addresses(cluster) == [ACTIVATOR]
        key = cluster.policy("drowsy")["keys"][0]
        (known,) = activator.sleepers["drowsy"]["keys"]
        assert (known["id"], known["sha256"]) == (key["id"], key["sha256"])

        operator.kill()
        activator.stop()
        operator, port = start(operators, proxy)
        activator = Activator(cluster, port)
        eventually("a new operator tells of it", lambda: "drowsy" in activator.sleepers)
        before = operator.settles().written()
        time.sleep(QUIET)
        assert operator.written() == before
        assert cluster.call("GET", DEPLOYMENT)["spec"]["replicas"] == 0

        pods.idle = 0.0
        asked = datetime.now(UTC)
        activator.wake.append("drowsy")
        found = eventually("there is a pod", lambda: activator.sleepers.get("drowsy", {}).get("addresses"))
        assert (operator.said_at("woken up") - asked).total_seconds() < 20
        assert found[0].endswith(":8000")
        activator.wake.clear()
        cluster.wait_for("drowsy", "Ready", "True", "Ready")
        eventually("requests go to its pods only", lambda: cluster.find(SLICE) is None)
        assert operator.metric("tenantry_wakes_total") == 1
    finally:
        activator.stop()
        cluster.delete(f"{TENANTS}/drowsy")
        cluster.gone("drowsy")


@pytest.mark.timeout(400)
def test_one_that_may_not_sleep_any_more_wakes_up_and_one_that_sleeps_can_be_deleted(
    cluster: Cluster, operators: Operators, proxy: PodProxy, pods: Pods
) -> None:
    _, port = start(operators, proxy)
    activator = Activator(cluster, port)
    pods.idle = 60.0
    scaling = {"minReplicas": 0, "maxReplicas": 3, "idleAfter": "10s"}
    try:
        cluster.tier("sleeping")
        cluster.tenant("drowsy", tier="sleeping", autoscaling=scaling)
        cluster.wait_for("drowsy", "Ready", "True", "Asleep")
        cluster.tenant("drowsy", tier="sleeping", autoscaling={**scaling, "minReplicas": 1})
        cluster.wait_for("drowsy", "Ready", "True", "Ready")
        eventually("requests go to its pods only", lambda: cluster.find(SLICE) is None)
        cluster.tenant("drowsy", tier="sleeping", autoscaling=scaling)
        cluster.wait_for("drowsy", "Ready", "True", "Asleep")
    finally:
        cluster.delete(f"{TENANTS}/drowsy")
        cluster.gone("drowsy")
        activator.stop()


def test_nobody_without_the_token_is_told_of_keys(cluster: Cluster, operators: Operators, proxy: PodProxy) -> None:
    _, port = start(operators, proxy)
    activator = Activator(cluster, port)
    try:
        for token in ("", "guessed"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                activator.ask({"instance": "x", "address": "10.0.0.1", "port": 1}, token)
            assert refused.value.code == 401
    finally:
        activator.stop()


def addresses(cluster: Cluster) -> list[str]:
    """Where the tenant's Service leads beside its pods."""
    found = cluster.find(SLICE)
    return [] if found is None else [each for point in found["endpoints"] for each in point["addresses"]]
