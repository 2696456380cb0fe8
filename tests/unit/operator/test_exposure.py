"""The ways to a tenant from outside, and the address that its status shows."""

import pytest
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.resolve import ResolvedSpec, resolve
from tenantry_operator.api.tenant import Outcome
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.look import Lookout
from tenantry_operator.plan.assess import assess, set_fingerprint
from tenantry_operator.plan.desired import Platform
from tenantry_operator.plan.exposure import Exposure, Gateway, Reach, Way, endpoint, values
from tenantry_operator.plan.facts import Assessment, Facts, State
from tenantry_operator.plan.hostnames import Granted
from tenantry_operator.plan.observed import (
    Child,
    LiveRoute,
    ManagedMeta,
    RouteCondition,
    RouteParent,
    RouteStatus,
    child,
)
from tenantry_operator.plan.status import report
from tenantry_operator.queue import Turn

from tests.unit.operator.tenants import NOW, PLATFORM, settled, tenant, tier
from tests.unit.operator.test_look import Chart

EXPOSURE = Exposure(
    way=Way.GATEWAY,
    gateway=Gateway(name="shared", namespace="edge"),
    url="https://api.example.com:8443/{tenant}/v1",
    node_port_url="http://{tenant}.{namespace}:{nodePort}/v1",
)
THROUGH_GATEWAY = Reach(way=Way.GATEWAY)


def spec(**exposure: object) -> ResolvedSpec:
    return resolve(tenant(exposure=exposure), tier())


@pytest.mark.parametrize(
    ("reach", "exposure", "url"),
    [
        (Reach(way=Way.GATEWAY, hostnames=("acme.io", "b.io")), {}, "https://acme.io:8443/v1"),
        (THROUGH_GATEWAY, {"nodePort": 30001}, "https://api.example.com:8443/acme/v1"),
        (Reach(way=Way.INGRESS, hostnames=("acme.io",)), {}, "http://acme.io/v1"),
        (Reach(way=Way.INGRESS), {"nodePort": 30001}, "http://acme.tenant-acme:30001/v1"),
        (Reach(hostnames=("acme.io",)), {"nodePort": 30001}, "http://acme.tenant-acme:30001/v1"),
        (Reach(hostnames=("acme.io",)), {}, "http://api.tenant-acme.svc.cluster.local/v1"),
    ],
)
def test_the_endpoint_is_the_best_of_what_leads_to_the_tenant(reach: Reach, exposure: object, url: str) -> None:
    assert isinstance(exposure, dict)
    assert endpoint("acme", spec(**exposure), reach, EXPOSURE) == url


def test_an_ingress_with_a_certificate_is_https() -> None:
    with_tls = replace(EXPOSURE, ingress_tls_secret="api-tls")
    reach = Reach(way=Way.INGRESS, hostnames=("acme.io",))
    assert endpoint("acme", spec(), reach, with_tls) == "https://acme.io/v1"
    assert values(reach, with_tls)["ingress"] == {"className": "", "annotations": {}, "tlsSecretName": "api-tls"}


def test_the_gateways_own_host_is_reserved_and_an_address_is_harmless() -> None:
    assert EXPOSURE.reserved == {"api.example.com"}
    assert replace(EXPOSURE, url="https://{tenant}.example.com/v1").reserved == {"tenant.example.com"}
    assert Exposure().reserved == frozenset()


def look(live: Live, platform: Platform, **exposure: object) -> Facts:
    live.tiers.setdefault("standard", tier())
    record = TenantRecord(settled().meta, settled().status, tenant(exposure=exposure))
    return Lookout(live, Chart("1"), platform).look(record, Turn(), NOW)


def test_a_gateway_is_the_way_only_where_the_cluster_has_routes() -> None:
    platform, live = replace(PLATFORM, exposure=EXPOSURE), Live()
    assert look(live, platform).reach.way is Way.NONE
    live.routes_served = True
    assert look(live, platform).reach.way is Way.GATEWAY


def test_a_host_name_that_another_tenants_status_has_is_refused() -> None:
    live = Live()
    other = replace(settled().meta, name="bolt", uid="2")
    status = replace(settled().status, hostnames=("a.example.com",))
    live.tenants["bolt"] = TenantRecord(other, status, tenant())
    facts = look(live, PLATFORM, hostnames=["a.example.com", "b.example.com"])
    assert facts.reach.hostnames == ("b.example.com",)
    assert facts.granted.refused == {"a.example.com": "bolt"}


# What a gateway says of the routes


def route(*said: tuple[str, str], generation: int = 2, seen: int = 2) -> Child:
    conditions = [
        RouteCondition(type=kind, status=status, reason="Because", message="of this", observed_generation=seen)
        for kind, status in said
    ]
    meta = ManagedMeta(name="api", namespace="tenant-acme", uid="r", resource_version="9", generation=generation)
    live = LiveRoute(metadata=meta, status=RouteStatus(parents=[RouteParent(conditions=conditions)] if said else []))
    seen_as = child("HTTPRoute.gateway.networking.k8s.io", live)
    return replace(seen_as, tenant="acme", set_id=settled().children[0].set_id, fields="f")


ACCEPTED = (("Accepted", "True"), ("ResolvedRefs", "True"))


def routed(each: Child, *, begun: bool = False, **facts: object) -> Facts:
    """acme with that route applied; ``begun``: it has been Ready on this revision before."""
    seen = settled(reach=THROUGH_GATEWAY, way=Way.GATEWAY)
    seen = replace(seen, children=(*seen.children, each))
    applied = seen.status.applied
    assert applied is not None
    outcome = Outcome.READY if begun else Outcome.APPLIED
    history = tuple(replace(entry, outcome=outcome) for entry in seen.status.history)
    status = replace(seen.status, applied=replace(applied, fingerprint=set_fingerprint(seen)), history=history)
    return replace(seen, status=status, **facts)


def judge(facts: Facts) -> Assessment:
    return assess(facts, GROUP_KINDS)


def test_a_tenant_is_ready_once_its_route_is_accepted() -> None:
    assert judge(routed(route(*ACCEPTED))).state is State.READY


@pytest.mark.parametrize(
    "pending",
    [route(), route(("Accepted", "True")), route(*ACCEPTED, generation=3, seen=2)],
    ids=["nothing said", "half of it", "said of what was before"],
)
def test_a_route_of_which_nothing_is_said_yet_is_waited_for(pending: Child) -> None:
    found = judge(routed(pending))
    assert (found.state, found.reason) == (State.PROGRESSING, Reason.ROUTE_PENDING)
    assert judge(routed(pending, begun=True)).state is State.READY, "a silent controller takes nobody's readiness"


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
def test_a_route_that_is_refused_is_told_in_the_controllers_words(kind: str, begun: bool) -> None:
    said = [(each, "False" if each == kind else status) for each, status in ACCEPTED]
    found = judge(routed(route(*said), begun=begun))
    assert (found.state, found.reason, found.message) == (State.STUCK, Reason.ROUTE_NOT_ACCEPTED, "Because: of this")


def test_a_cluster_without_routes_leaves_the_tenant_ready_and_says_what_lacks() -> None:
    found = judge(settled(way=Way.GATEWAY))
    assert found.state is State.READY
    assert found.degraded is not None
    assert found.degraded[0] is Reason.NOT_EXPOSED
    assert "install" in found.degraded[1]


def test_host_names_without_any_gateway_lead_nowhere_and_it_is_said() -> None:
    found = judge(settled(tenant=tenant(exposure={"hostnames": ["a.example.com"]})))
    assert found.degraded is not None
    assert found.degraded[0] is Reason.NOT_EXPOSED


def test_a_host_name_of_another_degrades_and_need_not_be_asked_for_again() -> None:
    facts = settled(granted=Granted(refused={"a.example.com": "bolt", "api.example.com": ""}))
    found = judge(facts)
    assert (found.state, found.requeue) == (State.READY, None), "who gives it up wakes those who wait for it"
    assert found.degraded is not None
    assert found.degraded[0] is Reason.HOSTNAME_TAKEN
    assert "held by Tenant bolt" in found.degraded[1]
    assert "the platform's own" in found.degraded[1]


def test_the_status_shows_the_endpoint_and_the_host_names_that_were_granted() -> None:
    facts = settled(reach=Reach(way=Way.GATEWAY, hostnames=("acme.io",)))
    status = report(facts, judge(facts), replace(PLATFORM, exposure=EXPOSURE), NOW)
    assert (status.endpoint, status.hostnames) == ("https://acme.io:8443/v1", ("acme.io",))
