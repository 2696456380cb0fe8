"""Who may say that a namespace belongs to a Tenant: nobody who could not change the Tenant itself."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.kubectl import Kubectl

AS_MALLORY = "--as=mallory"
REFUSAL = "only who may patch tenants.tenantry.dev"


@pytest.fixture(scope="module", autouse=True)
def mallory(cluster: Cluster, kubectl: Kubectl) -> Iterator[None]:
    """Somebody who may do with namespaces what she likes, and look at Tenants."""
    role = ("create", "clusterrole", "namespaces-by-herself", "--verb=create,get,patch", "--resource=namespaces")
    assert kubectl(*role).returncode == 0
    bound = ("create", "clusterrolebinding", "namespaces-by-herself", "--clusterrole=namespaces-by-herself")
    assert kubectl(*bound, "--user=mallory").returncode == 0
    probe = ("create", "namespace", "probe", "--dry-run=server", AS_MALLORY)
    eventually("her rights are in force", lambda: kubectl(*probe).returncode == 0)
    marked = prepared("some-uid", "adopt")
    refused = ("create", "--filename", "-", "--dry-run=server", AS_MALLORY)
    eventually("the policy is in force", lambda: REFUSAL in kubectl(*refused, manifest=marked).stderr)
    yield
    for kind in ("clusterrolebinding", "clusterrole"):
        kubectl("delete", kind, "namespaces-by-herself")


@pytest.fixture
def uid(cluster: Cluster) -> Iterator[str]:
    """A Tenant that has no namespace yet, because its tier is still missing."""
    cluster.tenant("coveted", tier="to-come")
    yield cluster.call("GET", f"{TENANTS}/coveted")["metadata"]["uid"]
    cluster.delete(f"{TENANTS}/coveted")


def prepared(uid: str, how: str) -> dict[str, object]:
    """A namespace that would pass for the Tenant's."""
    metadata: dict[str, object] = {"name": "tenant-coveted"}
    if how == "owner":
        metadata["ownerReferences"] = [
            {"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "name": "coveted", "uid": uid}
        ]
    else:
        metadata["annotations"] = {f"tenantry.dev/{how}": uid if how == "tenant-uid" else "true"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


@pytest.mark.parametrize("how", ["tenant-uid", "adopt", "owner"])
def test_nobody_prepares_a_namespace_for_a_tenant_to_come(kubectl: Kubectl, uid: str, how: str) -> None:
    manifest = prepared(uid, how)
    create = ("create", "--filename", "-", "--dry-run=server")
    assert REFUSAL in kubectl(*create, AS_MALLORY, manifest=manifest).stderr
    assert kubectl(*create, manifest=manifest).returncode == 0, "the platform engineer may"


@pytest.mark.parametrize("how", ["tenant-uid", "adopt"])
def test_nobody_marks_a_namespace_that_is_there(cluster: Cluster, kubectl: Kubectl, uid: str, how: str) -> None:
    hers = f"tenant-hers-{how}"
    assert kubectl("create", "namespace", hers, AS_MALLORY).returncode == 0
    try:
        mark = ("annotate", "namespace", hers, "--overwrite", f"tenantry.dev/{how}={uid}")
        assert REFUSAL in kubectl(*mark, AS_MALLORY).stderr
        assert kubectl(*mark).returncode == 0
        note = ("annotate", "namespace", hers, "note=kept", AS_MALLORY)
        assert kubectl(*note).returncode == 0, "what is marked already may be changed in other ways"
        assert kubectl("annotate", "namespace", hers, f"tenantry.dev/{how}-", AS_MALLORY).returncode == 0
    finally:
        cluster.delete(f"/api/v1/namespaces/{hers}")
