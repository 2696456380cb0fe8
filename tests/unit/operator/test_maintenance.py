"""What the chart's hooks run: letting go of every Tenant, and applying the CRDs."""

from collections.abc import AsyncIterator

import pytest
from tenantry_operator import maintenance
from tenantry_operator.api.meta import FINALIZER
from tenantry_operator.kube.client import Client

from tests.unit.operator.apiserver import serving
from tests.unit.operator.cluster import Cluster

TENANTS = "/apis/tenantry.dev/v1alpha1/tenants"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/tenantry-system/leases/tenantry-operator"


@pytest.fixture
async def cluster() -> AsyncIterator[tuple[Cluster, Client]]:
    """A cluster in which nobody holds the Lease."""
    made = Cluster()
    async with serving(made.answer) as api, Client(api.access, manager="tenantry-operator") as client:
        yield made, client


def tenant(cluster: Cluster, name: str, *finalizers: str) -> None:
    """A Tenant with these finalizers."""
    cluster.put(f"{TENANTS}/{name}", {"metadata": {"name": name, "finalizers": list(finalizers)}, "spec": {}})


def finalizers(cluster: Cluster, name: str) -> object:
    """Those that it has now."""
    metadata = cluster.objects[f"{TENANTS}/{name}"]["metadata"]
    assert isinstance(metadata, dict)
    return metadata["finalizers"]


async def release(client: Client) -> None:
    """As the hook does."""
    await maintenance.release_all(client, "tenantry-system", "tenantry-operator", "hook", "tenantry-operator")


async def test_every_tenant_is_let_go_of_and_other_finalizers_stay(cluster: tuple[Cluster, Client]) -> None:
    made, client = cluster
    tenant(made, "acme", FINALIZER)
    tenant(made, "bolt", "other/one", FINALIZER, "other/two")
    tenant(made, "none", "other/one")
    await release(client)
    assert (finalizers(made, "acme"), finalizers(made, "bolt")) == ([], ["other/one", "other/two"])
    assert finalizers(made, "none") == ["other/one"]
    assert not [path for _, path in made.writes if path.endswith("/none")]


async def test_no_operator_may_write_meanwhile(cluster: tuple[Cluster, Client]) -> None:
    made, client = cluster
    tenant(made, "acme", FINALIZER)
    await release(client)
    order = [path for _, path in made.writes]
    assert order[0].endswith("/leases")
    spec = made.objects[LEASE]["spec"]
    assert isinstance(spec, dict)
    assert spec["holderIdentity"] == "hook"
    assert spec["leaseDurationSeconds"] == maintenance.HELD_AFTERWARDS


async def test_a_list_that_changes_meanwhile_is_read_again(cluster: tuple[Cluster, Client]) -> None:
    made, client = cluster
    tenant(made, "acme", FINALIZER)
    made.refuse[f"{TENANTS}/acme"] = (422, "Invalid")
    await release(client)
    assert finalizers(made, "acme") == []


async def test_the_crds_are_applied(cluster: tuple[Cluster, Client]) -> None:
    made, client = cluster
    await maintenance.apply_crds(client)
    names = {path.rpartition("/")[2] for path in made.objects}
    assert names == {"tenants.tenantry.dev", "tenanttiers.tenantry.dev"}
    before = dict(made.objects)
    await maintenance.apply_crds(client)
    assert made.objects == before, "twice is once"
