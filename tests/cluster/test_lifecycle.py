"""How a Tenant is suspended, protected, let go of and taken up again."""

import base64
import hashlib
import time
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import TENANTS, TIERS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.kubectl import Kubectl
from tests.cluster.operator_process import Operator, Operators


@pytest.fixture(scope="module", autouse=True)
def operator(
    cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The operator of all tests of this file."""
    cluster.tier()
    operators = Operators(installation.operator, tmp_path_factory.mktemp("operator"))
    try:
        yield operators.start(lease="lifecycle").says("synced")
        cluster.empty()
    finally:
        operators.end()


@pytest.fixture
def name(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A tenant's name of the test's own."""
    unique = f"t-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    yield unique
    cluster.delete(f"{TENANTS}/{unique}")


def ready(cluster: Cluster, name: str, **spec: object) -> str:
    """Apply the Tenant, wait until it is Ready, and give its namespace's path."""
    cluster.tenant(name, **spec)
    cluster.wait_for(name, "Ready", "True")
    return f"/api/v1/namespaces/tenant-{name}"


def shown_key(cluster: Cluster, name: str) -> str:
    secret = cluster.key(name)
    assert secret is not None
    return base64.b64decode(secret["data"]["api-key"]).decode()


def test_suspended_it_is_left_alone_though_its_tier_is_gone_and_can_be_deleted(cluster: Cluster, name: str) -> None:
    cluster.tier("passing")
    space = ready(cluster, name, tier="passing")
    cluster.tenant(name, tier="passing", suspend={"reconcile": True})
    cluster.wait_for(name, "Suspended", "True", "ReconcileSuspended")
    cluster.delete(f"{TIERS}/passing")
    cluster.delete(f"{space}/resourcequotas/tenant")
    time.sleep(1.5)
    assert cluster.find(f"{space}/resourcequotas/tenant") is None
    assert cluster.condition(name, "Suspended") is not None
    assert not any(
        each["status"] == "True"
        for each in cluster.call("GET", f"{TENANTS}/{name}")["status"]["conditions"]
        if each["type"] == "Stalled"
    )
    cluster.delete(f"{TENANTS}/{name}")
    cluster.gone(name)


def test_a_change_of_the_deletion_policy_changes_who_owns_the_namespace(cluster: Cluster, name: str) -> None:
    space = ready(cluster, name)
    assert cluster.call("GET", space)["metadata"]["ownerReferences"]
    cluster.tenant(name, deletionPolicy="Retain")
    eventually("it is nobody's", lambda: "ownerReferences" not in cluster.call("GET", space)["metadata"])
    cluster.tenant(name, deletionPolicy="Delete")
    eventually("it is the Tenant's", lambda: "ownerReferences" in cluster.call("GET", space)["metadata"])


def test_a_namespace_that_somebody_deletes_is_waited_for_and_made_anew(cluster: Cluster, name: str) -> None:
    space = ready(cluster, name)
    former = cluster.call("GET", space)["metadata"]["uid"]
    cluster.patch(f"{space}/configmaps/tenantry-policy", {"metadata": {"finalizers": ["tests.example.com/hold"]}})
    cluster.delete(space)
    waiting = cluster.wait_for(name, "Ready", "False", "NamespaceTerminating")
    assert f"tenant-{name}" in waiting["message"]
    assert cluster.wait_for(name, "Stalled", "False")
    cluster.patch(f"{space}/configmaps/tenantry-policy", {"metadata": {"finalizers": None}})
    eventually(
        "it is another one",
        lambda: (cluster.find(space) or {"metadata": {"uid": former}})["metadata"]["uid"] != former,
        patience=180,
    )
    cluster.wait_for(name, "Ready", "True")


def test_a_retained_namespace_that_says_so_is_taken_over_with_its_keys(
    cluster: Cluster, kubectl: Kubectl, name: str
) -> None:
    space = ready(cluster, name, deletionPolicy="Retain")
    key = shown_key(cluster, name)
    note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"of": "the customer"}}
    cluster.call("POST", f"{space}/configmaps", note)
    cluster.delete(f"{TENANTS}/{name}")
    eventually("the Tenant is gone", lambda: cluster.find(f"{TENANTS}/{name}") is None)
    cluster.tenant(name)
    refused = cluster.wait_for(name, "Stalled", "True", "NamespaceConflict")
    remedy = f"kubectl annotate namespace tenant-{name} tenantry.dev/adopt=true"
    assert remedy in refused["message"]
    assert kubectl(*remedy.split()[1:]).returncode == 0
    cluster.tenant(name, limits={"requestsPerMinute": 5})  # else it looks again within a minute
    cluster.wait_for(name, "Ready", "True")
    tenant, namespace = cluster.call("GET", f"{TENANTS}/{name}"), cluster.call("GET", space)
    assert "tenantry.dev/adopt" not in namespace["metadata"]["annotations"]
    assert namespace["metadata"]["ownerReferences"][0]["uid"] == tenant["metadata"]["uid"]
    assert shown_key(cluster, name) == key
    assert cluster.policy(name)["keys"][0]["id"] == key.split("_")[1]
    assert cluster.find(f"{space}/configmaps/notes") is not None
    told = cluster.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
    assert (name, "NamespaceAdopted") in {(each["regarding"]["name"], each["reason"]) for each in told}


def test_a_tiers_protection_holds_for_its_tenants_as_the_operator_reports_it(
    cluster: Cluster, kubectl: Kubectl, name: str
) -> None:
    cluster.tier("precious", deletionProtection=True)
    ready(cluster, name, tier="precious")
    attempt = ("delete", "tenant", name, "--dry-run=server")
    assert "is protected from deletion" in kubectl(*attempt).stderr
    ready(cluster, name, tier="precious", deletionProtection=False)
    assert kubectl(*attempt).returncode == 0
