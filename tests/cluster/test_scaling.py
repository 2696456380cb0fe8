"""The custom metrics API behind a real API server, and a real HPA that goes by it."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cluster.activating import own_address
from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.kubectl import Kubectl, rendered
from tests.cluster.operator_process import Operator, Operators
from tests.cluster.pod_proxy import PodProxy
from tests.ports import free_port

API = "/apis/custom.metrics.k8s.io/v1beta2"
API_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta2.custom.metrics.k8s.io"
SPACE = "tenant-scaled"
METRIC = f"{API}/namespaces/{SPACE}/pods/*/tenantry_in_flight_requests"
#: Requests in flight per pod that the tenant aims at.
TARGET = 10
#: Seconds from five times the load to enough pods that are ready.
ENOUGH_WITHIN = 60.0


class Load:
    """So many requests, shared by the pods that are there; ``idle`` pods (by address) have none."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.total = 0
        self.idle: set[str] = set()

    def pods(self) -> list[dict[str, Any]]:
        """The tenant's, without those on their way out."""
        found = self._cluster.call("GET", f"/api/v1/namespaces/{SPACE}/pods")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def __call__(self, address: str) -> dict[str, object]:
        busy = [pod for pod in self.pods() if pod["status"].get("podIP") not in {None, *self.idle}]
        mine = 0 if address in self.idle else -(-self.total // max(1, len(busy)))
        return {"requests": mine, "streams": mine, "draining": False, "idleSeconds": 0.0 if mine else 9.0}


@pytest.fixture(scope="module")
def load(cluster: Cluster) -> Load:
    return Load(cluster)


@pytest.fixture(scope="module")
def operator(
    installation: Installation, cluster: Cluster, load: Load, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator that serves metrics of a tenant with up to eight pods, and nobody's API once it has ended."""
    (service,) = [each for each in rendered("tenantry", "leader") if each["kind"] == "APIService"]
    operators = Operators(installation.operator, tmp_path_factory.mktemp("scaling"))
    address = own_address()
    port = free_port(address)
    with PodProxy(load) as proxy:
        service["spec"]["service"]["port"] = port  # type: ignore[index]
        leader = "/api/v1/namespaces/tenantry-system/services/tenantry-leader"
        ports = [{"name": "https", "port": port, "targetPort": port, "protocol": "TCP"}]
        cluster.patch(leader, {"spec": {"ports": ports}})
        cluster.apply(API_SERVICE, service)
        try:
            flags = ["--advertise-address", address, "--listen", "0.0.0.0", "--secure-port", str(port)]
            running = operators.start(*flags, "--pod-proxy", proxy.url, "--scale-down-window", "0")
            running.says("serving metrics and wake-ups")
            cluster.tier("scaling")
            scaling = {"minReplicas": 1, "maxReplicas": 8, "targetInFlight": TARGET}
            cluster.tenant("scaled", tier="scaling", autoscaling=scaling)
            cluster.wait_for("scaled", "Ready", "True")
            yield running
        finally:
            cluster.delete(API_SERVICE)
            cluster.delete(f"{TENANTS}/scaled")
            cluster.gone("scaled")
            operators.end()


def values(kubectl: Kubectl, path: str = METRIC) -> list[dict[str, Any]]:
    """What the API server answers, asked as anybody with kubectl would."""
    done = kubectl("get", "--raw", path)
    found: list[dict[str, Any]] = json.loads(done.stdout)["items"] if done.returncode == 0 else []
    return found


def test_the_aggregated_api_answers_for_the_api_server_only(
    operator: Operator, cluster: Cluster, kubectl: Kubectl, load: Load
) -> None:
    load.total = 3
    conditions = "{.status.conditions[?(@.type=='Available')].status}"
    name = "v1beta2.custom.metrics.k8s.io"
    eventually(
        "the API is available",
        lambda: kubectl("get", "apiservice", name, "-o", f"jsonpath={conditions}").stdout == "True",
    )
    listed = kubectl("api-resources", "--api-group=custom.metrics.k8s.io", "--output=name").stdout
    assert "pods/tenantry_in_flight_requests" in json.dumps(json.loads(kubectl("get", "--raw", API).stdout)), listed

    def known() -> tuple[datetime, dict[str, Any]] | None:
        asked = datetime.now(UTC)  # how long kubectl takes is not the value's age
        found = [each for each in values(kubectl) if each["value"] == "3"]
        return (asked, found[0]) if len(found) == 1 else None

    asked, value = eventually("the pod's load is known", known)
    told = datetime.strptime(value["timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert (asked - told).total_seconds() <= 5 + 1  # a timestamp has whole seconds
    # Whoever RBAC does not let in is refused by the API server; whoever goes round it, by the operator.
    refused = kubectl("get", "--raw", METRIC, "--as=system:serviceaccount:default:nobody")
    assert "Forbidden" in refused.stderr
    port = cluster.call("GET", API_SERVICE)["spec"]["service"]["port"]
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(urllib.error.HTTPError) as direct:
        urllib.request.urlopen(f"https://{own_address()}:{port}{METRIC}", timeout=30, context=careless)
    assert direct.value.code == 401


@pytest.mark.timeout(400)
def test_an_hpa_follows_the_load_within_a_minute_and_the_idlest_pod_goes_first(
    operator: Operator, cluster: Cluster, kubectl: Kubectl, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    load.total = TARGET
    hpa = f"/apis/autoscaling/v2/namespaces/{SPACE}/horizontalpodautoscalers/api"

    def reads() -> bool:
        conditions = cluster.call("GET", hpa).get("status", {}).get("conditions", [])
        return any(each["type"] == "ScalingActive" and each["status"] == "True" for each in conditions)

    eventually("the HPA reads the metric", reads)
    load.total, began = 5 * TARGET, time.monotonic()

    def ready() -> bool:
        return int(cluster.call("GET", f"{TENANTS}/scaled")["status"].get("readyReplicas", 0)) >= 5

    eventually("enough pods are ready", ready, patience=ENOUGH_WITHIN)
    took = time.monotonic() - began
    with capsys.disabled():
        print(f"\nfive times the load -> five pods ready {took:.1f} s")
    idle = load.pods()[2]
    load.idle = {idle["status"]["podIP"]}
    where = f"/api/v1/namespaces/{SPACE}/pods/{idle['metadata']['name']}"

    def marked() -> bool:
        notes = cluster.call("GET", where)["metadata"].get("annotations", {})
        return bool(notes.get("controller.kubernetes.io/pod-deletion-cost") == "-1")

    eventually("the idle pod is to go first", marked)
    load.total = 3 * TARGET + TARGET // 2
    eventually("it has gone", lambda: cluster.find(where) is None, patience=180)
