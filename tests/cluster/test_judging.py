"""kstatus, Argo CD and `kubectl wait` come to the same judgement of a Tenant, whatever state it is in."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import decode_meta, decode_status
from tenantry_operator.plan.facts import Assessment, State
from tenantry_operator.plan.status import report

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.judges import argocd, built, kstatus, waits
from tests.cluster.kubectl import Kubectl
from tests.unit.operator.tenants import NOW, PLATFORM, settled


class Judgement(NamedTuple):
    """What each of the three says."""

    kstatus: str
    waits: bool
    argocd: str


DONE = Judgement("Current", waits=False, argocd="Healthy")
AT_WORK = Judgement("InProgress", waits=True, argocd="Progressing")
STUCK = Judgement("Failed", waits=True, argocd="Degraded")
HELD = Judgement("InProgress", waits=True, argocd="Suspended")  # kstatus has no word for it
GOING = Judgement("Terminating", waits=True, argocd="Progressing")

#: All that are not named here are on the way.
JUDGED = {
    State.READY: DONE,
    State.ASLEEP: DONE,
    State.BLOCKED: STUCK,
    State.SUSPENDED: HELD,
    State.PAUSED: HELD,
    State.DELETING: GOING,
}


@pytest.fixture(scope="module", autouse=True)
def judge() -> None:
    """kstatus, built: no test's time goes into that."""
    built("kstatus")


@pytest.fixture
def name(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A Tenant that nobody acts upon."""
    unique = f"j-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    cluster.tenant(unique)
    yield unique
    cluster.patch(f"{TENANTS}/{unique}", {"metadata": {"finalizers": None}})
    cluster.delete(f"{TENANTS}/{unique}")


def judged(cluster: Cluster, kubectl: Kubectl, name: str) -> Judgement:
    """What the three say of the Tenant as it is now."""
    tenant = cluster.call("GET", f"{TENANTS}/{name}")
    return Judgement(kstatus([tenant])[0], waits(kubectl, name), argocd(tenant)[0])


def becomes(cluster: Cluster, name: str, assessment: Assessment) -> dict[str, Any]:
    """Write the status that the operator would write of a Tenant in this state."""
    raw = cluster.call("GET", f"{TENANTS}/{name}")
    facts = replace(settled(), meta=decode_meta(raw), status=decode_status(raw))
    status = msgspec.to_builtins(report(facts, assessment, PLATFORM, NOW))
    return cluster.patch(f"{TENANTS}/{name}/status", {"status": status})


@pytest.mark.parametrize("state", list(State))
def test_the_three_agree_on_every_state(cluster: Cluster, kubectl: Kubectl, name: str, state: State) -> None:
    if state is State.DELETING:
        cluster.patch(f"{TENANTS}/{name}", {"metadata": {"finalizers": ["tests.example.com/hold"]}})
        cluster.delete(f"{TENANTS}/{name}")
    stalled = state is State.BLOCKED
    becomes(cluster, name, Assessment(state=state, reason=Reason.PROGRESSING, stalled=stalled))
    assert judged(cluster, kubectl, name) == JUDGED.get(state, AT_WORK)


def test_a_tenant_that_nobody_has_looked_at_is_on_the_way(cluster: Cluster, kubectl: Kubectl, name: str) -> None:
    assert judged(cluster, kubectl, name) == AT_WORK


@pytest.mark.parametrize("state", [State.FAILED, State.STUCK])
def test_the_three_agree_that_nothing_more_will_happen_by_itself(
    cluster: Cluster, kubectl: Kubectl, name: str, state: State
) -> None:
    becomes(cluster, name, Assessment(state=state, reason=Reason.DEADLINE_EXCEEDED, stalled=True))
    assert judged(cluster, kubectl, name) == STUCK


def test_a_change_that_the_operator_has_not_seen_is_on_the_way(cluster: Cluster, kubectl: Kubectl, name: str) -> None:
    becomes(cluster, name, Assessment(state=State.READY, reason=Reason.READY))
    assert judged(cluster, kubectl, name) == DONE
    cluster.tenant(name, limits={"requestsPerMinute": 1})
    assert judged(cluster, kubectl, name) == AT_WORK


def test_a_suspended_tenant_that_was_ready_is_held_and_one_that_goes_on_is_on_the_way(
    cluster: Cluster, kubectl: Kubectl, name: str
) -> None:
    becomes(cluster, name, Assessment(state=State.READY, reason=Reason.READY))
    cluster.tenant(name, suspend={"reconcile": True})
    becomes(cluster, name, Assessment(state=State.SUSPENDED, reason=Reason.RECONCILE_SUSPENDED))
    assert judged(cluster, kubectl, name) == HELD
    cluster.tenant(name, suspend={"reconcile": False})
    assert judged(cluster, kubectl, name) == AT_WORK


def test_argo_cd_shows_what_to_do(cluster: Cluster, name: str) -> None:
    blocked = Assessment(
        state=State.BLOCKED, reason=Reason.TIER_NOT_FOUND, message="TenantTier 'gold' does not exist", stalled=True
    )
    assert argocd(becomes(cluster, name, blocked)) == ("Degraded", "TenantTier 'gold' does not exist")


def test_argo_cd_takes_the_check_from_its_config_map(cluster: Cluster, kubectl: Kubectl) -> None:
    assert kubectl("create", "namespace", "argocd").returncode == 0
    assert kubectl("create", "configmap", "argocd-cm", "--namespace=argocd", "--from-literal=url=kept").returncode == 0
    patch = "charts/tenantry/argocd/argocd-cm-patch.yaml"
    done = kubectl("patch", "configmap", "argocd-cm", "--namespace", "argocd", "--patch-file", patch)
    assert done.returncode == 0, done.stderr
    data = cluster.call("GET", "/api/v1/namespaces/argocd/configmaps/argocd-cm")["data"]
    assert set(data) == {"url", "resource.customizations.health.tenantry.dev_Tenant"}
    cluster.delete("/api/v1/namespaces/argocd")
    eventually("others may make it", lambda: cluster.find("/api/v1/namespaces/argocd") is None, patience=180)
