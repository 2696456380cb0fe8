"""What one operator makes of Tenants, against a real API server with real controllers; KWOK plays the nodes."""

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import TENANTS, TIERS, UPSTREAM, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operator, Operators

CREDENTIALS = {"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "openai"}
SYSTEM = "/api/v1/namespaces/tenantry-system"


def credentials(value: str) -> dict[str, object]:
    """The Secret that the platform engineer makes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "openai", "labels": {"tenantry.dev/upstream-credentials": "true"}},
        "data": {"api-key": base64.b64encode(value.encode()).decode()},
    }


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The operator of all tests of this file, which all leave nothing behind."""
    cluster.tier()
    operators = Operators(installation.operator, tmp_path_factory.mktemp("operator"))
    running = operators.start().says("synced")
    try:
        yield running
        cluster.empty()
    finally:
        operators.end()


@pytest.fixture
def name(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A tenant's name of the test's own. It is deleted afterwards; that takes 6 s, which nobody waits for."""
    unique = f"t-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    cluster.tier()
    yield unique
    cluster.delete(f"{TENANTS}/{unique}")


def test_a_tenant_becomes_everything_it_needs_and_is_ready(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name, autoscaling={"minReplicas": 1, "maxReplicas": 3}, owners=[{"kind": "User", "name": "ada"}])
    cluster.wait_for(name, "Ready", "True")
    found = cluster.objects(name)
    expected = {
        "namespace",
        "secrets/key-default",
        "configmaps/tenantry-policy",
        "deployments/api",
        "services/api",
        "serviceaccounts/api",
        "horizontalpodautoscalers/api",
        "poddisruptionbudgets/api",
        "rolebindings/owners",
        "rolebindings/tenantry-operator",
    }
    assert expected <= set(found)
    assert {each.partition("/")[0] for each in found} >= {"networkpolicies", "resourcequotas", "limitranges", "roles"}
    tenant = cluster.call("GET", f"{TENANTS}/{name}")
    assert tenant["metadata"]["finalizers"] == ["tenantry.dev/cleanup"]
    assert tenant["status"]["namespace"] == f"tenant-{name}"
    assert tenant["status"]["endpoint"] == f"http://api.tenant-{name}.svc.cluster.local/v1"
    assert tenant["status"]["applied"]["revision"] == 1
    assert found["namespace"]["metadata"]["ownerReferences"][0]["uid"] == tenant["metadata"]["uid"]
    assert found["namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_policy_knows_the_key_by_its_digest_only(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    secret = cluster.key(name)
    assert secret is not None
    key = base64.b64decode(secret["data"]["api-key"]).decode()
    (record,) = cluster.policy(name)["keys"]
    assert (record["id"], record["sha256"]) == (key.split("_")[1], hashlib.sha256(key.encode()).hexdigest())
    assert key not in operator.log.read_text()


def test_deleting_a_tenant_leaves_nothing(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    cluster.delete(f"{TENANTS}/{name}")
    cluster.gone(name)


def test_retain_keeps_the_namespace_and_lets_nobody_inherit_it(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name, deletionPolicy="Retain")
    cluster.wait_for(name, "Ready", "True")
    namespace = f"/api/v1/namespaces/tenant-{name}"
    assert "ownerReferences" not in cluster.call("GET", namespace)["metadata"]
    cluster.delete(f"{TENANTS}/{name}")
    eventually("the Tenant is gone", lambda: cluster.find(f"{TENANTS}/{name}") is None)
    assert cluster.find(f"{namespace}/secrets/key-default") is not None
    assert "tenantry.dev/tenant" not in cluster.call("GET", namespace)["metadata"]["labels"]
    cluster.tenant(name)
    cluster.wait_for(name, "Stalled", "True", "NamespaceConflict")
    cluster.delete(f"{TENANTS}/{name}")
    eventually("the Tenant is gone", lambda: cluster.find(f"{TENANTS}/{name}") is None)
    assert cluster.call("GET", namespace)["status"]["phase"] == "Active"
    cluster.delete(namespace)
    cluster.gone(name)


def test_a_namespace_of_somebody_else_is_left_alone(cluster: Cluster, operator: Operator, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"tenant-{name}"}}
    before = cluster.call("POST", "/api/v1/namespaces", body)
    cluster.tenant(name)
    cluster.wait_for(name, "Stalled", "True", "NamespaceConflict")
    after = cluster.call("GET", f"/api/v1/namespaces/tenant-{name}")
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    cluster.delete(f"{TENANTS}/{name}")
    eventually("the Tenant is gone", lambda: cluster.find(f"{TENANTS}/{name}") is None)
    assert cluster.find(f"/api/v1/namespaces/tenant-{name}") is not None
    cluster.delete(f"/api/v1/namespaces/tenant-{name}")
    cluster.gone(name)


def test_a_tenant_without_its_tier_heals_when_the_tier_appears(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name, tier="special")
    stalled = cluster.wait_for(name, "Stalled", "True", "TierNotFound")
    assert "special" in stalled["message"]
    assert cluster.wait_for(name, "Ready", "False")["reason"] == "TierNotFound"
    assert cluster.find(f"/api/v1/namespaces/tenant-{name}") is None
    cluster.tier("special")
    cluster.wait_for(name, "Ready", "True")
    cluster.delete(f"{TIERS}/special")
    cluster.wait_for(name, "Stalled", "True", "TierNotFound")
    cluster.tier("special")
    cluster.wait_for(name, "Ready", "True")


def test_credentials_are_waited_for_copied_and_followed(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.delete(f"{SYSTEM}/secrets/openai")  # of another test
    cluster.tenant(name, upstreams=[CREDENTIALS])
    cluster.wait_for(name, "Stalled", "True", "CredentialsNotFound")
    cluster.apply(f"{SYSTEM}/secrets/openai", credentials("sk-first"))
    cluster.wait_for(name, "Ready", "True")

    def copied(value: str) -> bool:
        found = cluster.find(f"/api/v1/namespaces/tenant-{name}/secrets/upstream-openai")
        return found is not None and base64.b64decode(found["data"]["api-key"]).decode() == value

    assert copied("sk-first")
    cluster.apply(f"{SYSTEM}/secrets/openai", credentials("sk-second"))
    eventually("the copy follows", lambda: copied("sk-second"))
    assert "sk-" not in operator.log.read_text()
    cluster.tenant(name, upstreams=[UPSTREAM])
    eventually(
        "the copy is pruned",
        lambda: cluster.find(f"/api/v1/namespaces/tenant-{name}/secrets/upstream-openai") is None,
    )


def test_a_change_reaches_the_policy_and_the_running_pods(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    before = cluster.policy(name)
    cluster.tenant(name, limits={"requestsPerMinute": 7})
    cluster.wait_for(name, "Ready", "True")
    after = cluster.policy(name)
    assert after["limits"]["requestsPerMinute"] == 7
    assert after["revision"] != before["revision"]
    assert after["keys"] == before["keys"]

    def touched() -> bool:
        pods = cluster.call("GET", f"/api/v1/namespaces/tenant-{name}/pods")["items"]
        marks = [pod["metadata"].get("annotations", {}).get("tenantry.dev/policy-revision") for pod in pods]
        return marks == [after["revision"]]

    eventually("the pod is touched and not replaced", touched)


def test_a_tier_change_reaches_its_tenants(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    cluster.tier(limits={"tokensPerMinute": 11})
    eventually("the limit arrives", lambda: cluster.policy(name)["limits"].get("tokensPerMinute") == 11)


def test_what_the_spec_drops_is_pruned_and_a_dropped_key_is_revoked(
    cluster: Cluster, operator: Operator, name: str
) -> None:
    cluster.tenant(name, keys=[{"name": "one"}, {"name": "two"}], autoscaling={"maxReplicas": 2})
    cluster.wait_for(name, "Ready", "True")
    kept = cluster.key(name, "one")
    assert kept is not None
    assert "poddisruptionbudgets/api" in cluster.objects(name)
    cluster.tenant(name, keys=[{"name": "one"}], autoscaling={"maxReplicas": 1})
    eventually("key two is gone", lambda: cluster.key(name, "two") is None)
    cluster.wait_for(name, "Ready", "True")
    assert "poddisruptionbudgets/api" not in cluster.objects(name)
    assert [key["name"] for key in cluster.policy(name)["keys"]] == ["one"]
    still = cluster.key(name, "one")
    assert still is not None
    assert still["metadata"]["uid"] == kept["metadata"]["uid"]


DENY = "apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies/default-deny"
POLICY = "api/v1/namespaces/{space}/configmaps/tenantry-policy"
QUOTA = "api/v1/namespaces/{space}/resourcequotas/tenant"
DEPLOYMENT = "apis/apps/v1/namespaces/{space}/deployments/api"
BINDING = "apis/rbac.authorization.k8s.io/v1/namespaces/{space}/rolebindings/tenantry-operator"
NAMESPACE = "api/v1/namespaces/{space}"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DENY, {"spec": {"policyTypes": ["Ingress"]}}),
        (DENY, {"spec": {"ingress": [{}], "egress": [{}]}}),
        (POLICY, {"data": {"policy.json": "{}"}}),
        (POLICY, {"metadata": {"labels": {"tenantry.dev/tenant": "other"}}, "data": {"policy.json": "{}"}}),
        (NAMESPACE, {"metadata": {"labels": {"tenantry.dev/tenant": None}}}),
        (NAMESPACE, {"metadata": {"annotations": {"tenantry.dev/tenant-uid": None}}}),
        (QUOTA, {"spec": {"hard": {"pods": "99"}}}),
        (DEPLOYMENT, {"metadata": {"labels": {"tenantry.dev/tenant": None}}}),
        (NAMESPACE, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}),
        (DEPLOYMENT, None),
        (DENY, None),
        (BINDING, None),
        (BINDING, {"subjects": []}),
    ],
)
def test_drift_is_put_back(
    cluster: Cluster, operator: Operator, name: str, path: str, body: dict[str, object] | None
) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    before = masked(cluster, name)
    where = f"/{path.format(space=f'tenant-{name}')}"
    if body is None:
        cluster.delete(where)
    else:
        cluster.patch(where, body)
    eventually("it is put back", lambda: masked(cluster, name) == before)
    note = eventually("an Event tells", lambda: drift_note(cluster, name))
    assert where.rpartition("/")[2] in note
    assert ("deleted" in note) == (body is None)


def test_labels_do_not_make_an_object_a_tenants(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    labels = cluster.call("GET", f"/api/v1/namespaces/tenant-{name}")["metadata"]["labels"]
    ours = {key: labels[key] for key in labels if "tenantry" in key or "applyset" in key or "managed-by" in key}
    victim = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"victim-{name}", "labels": ours}}
    cluster.call("POST", "/api/v1/namespaces", victim)
    stray = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stray", "labels": ours}}
    cluster.call("POST", f"/api/v1/namespaces/victim-{name}/configmaps", stray)
    cluster.tenant(name, limits={"requestsPerMinute": 9})
    eventually("the change arrives", lambda: cluster.policy(name)["limits"].get("requestsPerMinute") == 9)
    cluster.wait_for(name, "Ready", "True")
    assert cluster.call("GET", f"/api/v1/namespaces/victim-{name}")["status"]["phase"] == "Active"
    assert cluster.find(f"/api/v1/namespaces/victim-{name}/configmaps/stray") is not None
    cluster.delete(f"/api/v1/namespaces/victim-{name}")


@pytest.mark.parametrize("secret", ["key-default", "upstream-openai"])
def test_a_deleted_secret_is_put_back_although_secrets_are_not_watched(
    cluster: Cluster, operator: Operator, name: str, secret: str
) -> None:
    cluster.apply(f"{SYSTEM}/secrets/openai", credentials("sk"))
    cluster.tenant(name, upstreams=[CREDENTIALS])
    cluster.wait_for(name, "Ready", "True")
    path = f"/api/v1/namespaces/tenant-{name}/secrets/{secret}"
    eventually("the quota has counted both", lambda: counted(cluster, name) == "2")
    cluster.delete(path)
    # Without the quota's news nobody would look for ten minutes.
    eventually("it is put back", lambda: cluster.find(path))
    assert secret in eventually("an Event tells", lambda: drift_note(cluster, name))
    found = cluster.key(name)
    assert found is not None
    eventually("the policy follows", lambda: cluster.policy(name)["keys"][0]["sha256"] == digest_of(found))


def counted(cluster: Cluster, name: str) -> str | None:
    """How many Secrets the quota has counted."""
    quota = cluster.call("GET", f"/api/v1/namespaces/tenant-{name}/resourcequotas/tenant")
    used = quota.get("status", {}).get("used", {}).get("count/secrets")
    return None if used is None else str(used)


def digest_of(secret: dict[str, Any]) -> str:
    """SHA-256 of the key in a Secret."""
    return hashlib.sha256(base64.b64decode(secret["data"]["api-key"])).hexdigest()


def drift_note(cluster: Cluster, name: str) -> str | None:
    """The one Event about drift of this Tenant."""
    listed = cluster.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
    notes = [
        str(each["note"]) for each in listed if (each["regarding"]["name"], each["reason"]) == (name, "DriftCorrected")
    ]
    assert len(notes) < 2, notes
    return notes[0] if notes else None


def masked(cluster: Cluster, name: str) -> dict[str, object]:
    """All objects of a tenant without what the API server and controllers write."""
    found: dict[str, object] = {}
    for key, each in cluster.objects(name).items():
        metadata = {field: each["metadata"].get(field) for field in ("labels", "ownerReferences")}
        metadata["tenant"] = each["metadata"].get("annotations", {}).get("tenantry.dev/tenant-uid")
        spec: dict[str, object] = {
            field: each[field] for field in ("spec", "data", "rules", "subjects", "roleRef") if field in each
        }
        if key.startswith("services/"):
            spec["spec"] = {field: each["spec"][field] for field in ("ports", "selector", "type")}
        found[key] = {"metadata": metadata, **spec}
    return found


def test_suspended_means_hands_off_until_it_is_lifted(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    cluster.tenant(name, suspend={"reconcile": True}, limits={"requestsPerMinute": 3})
    cluster.wait_for(name, "Suspended", "True", "ReconcileSuspended")
    cluster.delete(f"/api/v1/namespaces/tenant-{name}/configmaps/tenantry-policy")
    time.sleep(1.5)
    assert cluster.find(f"/api/v1/namespaces/tenant-{name}/configmaps/tenantry-policy") is None
    cluster.tenant(name, suspend={"reconcile": False}, limits={"requestsPerMinute": 3})
    cluster.wait_for(name, "Ready", "True")
    assert cluster.policy(name)["limits"]["requestsPerMinute"] == 3


def test_a_suspended_tenant_can_be_deleted(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    cluster.tenant(name, suspend={"reconcile": True})
    cluster.wait_for(name, "Suspended", "True")
    cluster.delete(f"{TENANTS}/{name}")
    cluster.gone(name)


def test_suspended_traffic_keeps_everything_but_the_pods(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    cluster.tenant(name, suspend={"traffic": True})
    cluster.wait_for(name, "Suspended", "True", "TrafficSuspended")
    eventually("no pods", lambda: not cluster.call("GET", f"/api/v1/namespaces/tenant-{name}/pods")["items"])
    assert cluster.key(name) is not None
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")


def test_limits_that_hold_per_pod_only_are_reported(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name, limits={"requestsPerMinute": 3}, autoscaling={"maxReplicas": 2})
    cluster.wait_for(name, "Ready", "True")
    assert cluster.wait_for(name, "Degraded", "True")["reason"] == "LimitsPerReplica"


def test_pods_do_not_become_fewer_when_their_number_is_let_go(cluster: Cluster, operator: Operator, name: str) -> None:
    cluster.tenant(name, autoscaling={"minReplicas": 3, "maxReplicas": 3})
    deployment = f"/apis/apps/v1/namespaces/tenant-{name}/deployments/api"

    def pods() -> tuple[int, int]:
        found = cluster.call("GET", deployment)
        return found["spec"]["replicas"], found["status"].get("availableReplicas", 0)

    cluster.wait_for(name, "Ready", "True")
    eventually("three pods", lambda: pods() == (3, 3))
    cluster.tenant(name, autoscaling={"minReplicas": 2, "maxReplicas": 6})
    scaler = f"/apis/autoscaling/v2/namespaces/tenant-{name}/horizontalpodautoscalers/api"
    eventually("the autoscaler may go to six", lambda: cluster.call("GET", scaler)["spec"]["maxReplicas"] == 6)
    for _ in range(40):
        assert pods() == (3, 3)
        time.sleep(0.05)


def test_the_first_ready_is_measured(cluster: Cluster, operator: Operator, name: str) -> None:
    before = operator.metric("tenantry_time_to_ready_seconds_count")
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    eventually("it is counted", lambda: operator.metric("tenantry_time_to_ready_seconds_count") == before + 1)
    assert operator.metric('tenantry_applies_total{kind="Deployment",result="created"') >= 1
    assert operator.metric("tenantry_renders_total{") >= 1
