"""Routes to tenants on a real API server; the gateway's controller, which only judges routes here, is played."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml
from localcluster import gateway
from localcluster.paths import Checkout
from localcluster.steps import StepLog

from tests.cluster.cluster import TENANTS, Cluster, RefusedError, eventually
from tests.cluster.installation import Installation
from tests.cluster.kubectl import Kubectl, rendered
from tests.cluster.operator_process import Operator, Operators

URL = "https://api.example.com/{tenant}/v1"
THROUGH_GATEWAY = ("--expose=Gateway", "--gateway=edge/shared", f"--gateway-url={URL}")
THROUGH_INGRESS = ("--expose=Ingress", "--ingress-class=nginx", "--ingress-annotation=example.com/x=y")
HOST = "chat.example.com"


def httproutes() -> dict[str, Any]:
    """The definition of HTTPRoute that the local cluster's gateway brings."""
    checkout = Checkout.here()
    for path in gateway.definitions(checkout, StepLog(checkout.log_dir / "definitions.log")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document["metadata"]["name"] == "httproutes.gateway.networking.k8s.io":
                return dict(document)
    raise LookupError("no HTTPRoute among the definitions")


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEFINITION = f"{CRDS}/httproutes.gateway.networking.k8s.io"


def routes(tenant: str) -> str:
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/tenant-{tenant}/httproutes"


class Routing:
    """A cluster with HTTPRoutes, the operators of these tests, and what a gateway's controller says."""

    def __init__(self, cluster: Cluster, operators: Operators) -> None:
        self.cluster, self._operators = cluster, operators

    def operator(self, options: Sequence[str]) -> Operator:
        """One with these options in the place of the one before."""
        self._operators.end()
        return self._operators.start(*options).says("synced")

    def define(self) -> None:
        """Let the cluster know HTTPRoutes."""
        self.cluster.apply(DEFINITION, httproutes())
        eventually("HTTPRoutes are served", lambda: self.cluster.find(routes("nobody")))

    def undefine(self) -> None:
        """Let it forget them, and all that there are."""
        self.cluster.delete(DEFINITION)
        eventually("HTTPRoutes are gone", lambda: self.cluster.find(DEFINITION) is None)

    def route(self, tenant: str, name: str = "api") -> dict[str, Any] | None:
        return self.cluster.find(f"{routes(tenant)}/{name}")

    def judged(self, tenant: str, name: str = "api", *, accepted: str = "True") -> None:
        """The controller says so of the route as it is now."""
        found = eventually(f"{tenant} has a route", lambda: self.route(tenant, name))
        said = {"reason": "Judged", "message": "so it is", "observedGeneration": found["metadata"]["generation"]}
        conditions = [
            {"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z", **said}
            for kind, status in (("Accepted", accepted), ("ResolvedRefs", "True"))
        ]
        parent = {"parentRef": {"name": "shared"}, "controllerName": "example.com/c", "conditions": conditions}
        self.cluster.patch(f"{routes(tenant)}/{name}/status", {"status": {"parents": [parent]}})


@pytest.fixture(scope="module")
def routing(
    cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Routing]:
    cluster.tier()
    operators = Operators(installation.operator, tmp_path_factory.mktemp("operator"))
    made = Routing(cluster, operators)
    httproutes()  # what they are read from is fetched and built by then: no test's time goes into that
    try:
        yield made
        cluster.empty()
    finally:
        operators.end()
        made.undefine()


def test_a_cluster_may_learn_of_routes_while_the_operator_runs_and_forget_them(routing: Routing) -> None:
    """It never crashes for want of a kind: the tenant is Ready all the time, and its status says what lacks."""
    cluster, operator = routing.cluster, routing.operator(THROUGH_GATEWAY)
    cluster.tenant("roamer")
    cluster.wait_for("roamer", "Ready", "True")
    cluster.wait_for("roamer", "Degraded", "True", "NotExposed")
    assert endpoint(cluster, "roamer") == "http://api.tenant-roamer.svc.cluster.local/v1"
    routing.define()
    routing.judged("roamer")
    cluster.wait_for("roamer", "Degraded", "False")
    eventually("its address is the gateway's", lambda: endpoint(cluster, "roamer") == URL.format(tenant="roamer"))
    routing.undefine()
    cluster.wait_for("roamer", "Degraded", "True", "NotExposed")
    cluster.wait_for("roamer", "Ready", "True")
    assert not operator.is_over()
    cluster.delete(f"{TENANTS}/roamer")


def test_a_new_tenant_is_ready_once_the_gateway_has_its_route_and_not_when_it_refuses(routing: Routing) -> None:
    cluster = routing.cluster
    routing.define()
    routing.operator(THROUGH_GATEWAY)
    cluster.tenant("awaited")
    cluster.wait_for("awaited", "Reconciling", "True", "RoutePending")
    routing.judged("awaited")
    cluster.wait_for("awaited", "Ready", "True")
    routing.judged("awaited", accepted="False")
    refused = cluster.wait_for("awaited", "Ready", "False", "RouteNotAccepted")
    assert refused["message"] == "Judged: so it is"
    routing.judged("awaited")
    cluster.wait_for("awaited", "Ready", "True")
    cluster.delete(f"{TENANTS}/awaited")


def test_a_host_name_stays_with_whom_it_was_given_also_when_its_route_is_made_anew(routing: Routing) -> None:
    cluster = routing.cluster
    routing.define()
    routing.operator(THROUGH_GATEWAY)
    cluster.tenant("holder", exposure={"hostnames": [HOST]})
    for name in ("api", "api-hosts"):
        routing.judged("holder", name)
    cluster.wait_for("holder", "Ready", "True")
    cluster.tenant("taker", exposure={"hostnames": [HOST, "taker.example.com", "api.example.com"]})
    for name in ("api", "api-hosts"):
        routing.judged("taker", name)
    cluster.wait_for("taker", "Ready", "True")
    told = cluster.wait_for("taker", "Degraded", "True", "HostnameTaken")["message"]
    assert f"{HOST} is held by Tenant holder" in told
    assert "api.example.com is the platform's own" in told
    assert hosts(routing, "taker") == ["taker.example.com"]
    # The holder's route is the younger one from now on; to the Gateway API that alone would make it the loser.
    first = routing.route("holder", "api-hosts")
    assert first is not None
    cluster.delete(f"{routes('holder')}/api-hosts")
    eventually(
        "it is made anew",
        lambda: (routing.route("holder", "api-hosts") or first)["metadata"]["uid"] != first["metadata"]["uid"],
    )
    assert hosts(routing, "holder") == [HOST]
    # Nor does an operator that knows nothing but what is written down.
    routing.operator(THROUGH_GATEWAY)
    cluster.tenant("taker", exposure={"hostnames": [HOST]})
    cluster.wait_for("taker", "Degraded", "True", "HostnameTaken")
    cluster.delete(f"{TENANTS}/holder")
    cluster.gone("holder")
    cluster.tenant("taker", exposure={"hostnames": [HOST]}, owners=[{"kind": "User", "name": "ada"}])
    eventually("what is free is the next one's", lambda: hosts(routing, "taker") == [HOST])
    cluster.delete(f"{TENANTS}/taker")


def test_an_edited_route_is_put_back(routing: Routing) -> None:
    cluster = routing.cluster
    routing.define()
    routing.operator(THROUGH_GATEWAY)
    cluster.tenant("edited")
    routing.judged("edited")
    cluster.wait_for("edited", "Ready", "True")
    before = (routing.route("edited") or {})["spec"]
    elsewhere = [{"backendRefs": [{"name": "elsewhere", "port": 80}]}]
    cluster.patch(f"{routes('edited')}/api", {"spec": {"rules": elsewhere}})
    eventually("it is as before", lambda: (routing.route("edited") or {})["spec"] == before)
    cluster.delete(f"{TENANTS}/edited")


def test_another_way_takes_the_place_of_the_one_before(routing: Routing) -> None:
    cluster = routing.cluster
    routing.define()
    routing.operator(THROUGH_GATEWAY)
    cluster.tenant("moved", exposure={"hostnames": ["moved.example.com"]})
    eventually("it has a route", lambda: routing.route("moved"))
    ingress = "/apis/networking.k8s.io/v1/namespaces/tenant-moved/ingresses/api"
    routing.operator(THROUGH_INGRESS)
    made = eventually("it has an Ingress", lambda: cluster.find(ingress))
    assert made["spec"]["ingressClassName"] == "nginx"
    assert made["metadata"]["annotations"]["example.com/x"] == "y"
    eventually("and no route", lambda: routing.route("moved") is None)
    cluster.wait_for("moved", "Ready", "True")
    assert endpoint(cluster, "moved") == "http://moved.example.com/v1"
    cluster.delete(ingress)
    eventually("the Ingress is made anew", lambda: cluster.find(ingress))
    routing.operator(())
    eventually("nothing of either", lambda: cluster.find(ingress) is None)
    cluster.delete(f"{TENANTS}/moved")


def test_nobody_else_attaches_a_route_to_the_tenants_gateway(routing: Routing, kubectl: Kubectl) -> None:
    """In a namespace of her own that the Gateway admits, Mallory could name another tenant's host."""
    routing.define()
    cluster = routing.cluster
    values = {"exposure": {"type": "Gateway", "url": URL}, "gateway": {"name": "shared", "namespace": "edge"}}
    policy = {"apiVersion": "v1", "kind": "List", "items": rendered("tenantry", "gateway-routes", values=values)}
    assert kubectl("apply", "--server-side", "--filename", "-", manifest=policy).returncode == 0
    hers = ("--namespace=default", "--filename", "-", "--dry-run=server")
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "hers"},
        "spec": {"parentRefs": [{"name": "shared", "namespace": "edge"}], "hostnames": [HOST]},
    }
    role = ("create", "clusterrole", "routes-by-herself", "--verb=create,get", "--resource=httproutes")
    bound = ("create", "clusterrolebinding", "routes-by-herself", "--clusterrole=routes-by-herself", "--user=mallory")
    assert [kubectl(*each).returncode for each in (role, bound)] == [0, 0]
    try:
        refusal = "attach routes to the tenants' Gateway"
        attempt = ("create", *hers, "--as=mallory")
        eventually("she is refused", lambda: refusal in kubectl(*attempt, manifest=route).stderr)
        elsewhere = {**route, "spec": {"parentRefs": [{"name": "other", "namespace": "edge"}]}}
        assert kubectl(*attempt, manifest=elsewhere).returncode == 0, "to another Gateway she may"
        assert kubectl("create", *hers, manifest=route).returncode == 0, "the platform engineer may"
    finally:
        for kind in ("clusterrolebinding", "clusterrole"):
            kubectl("delete", kind, "routes-by-herself")
        kubectl("delete", "--filename", "-", manifest=policy)
    with pytest.raises(RefusedError):
        cluster.call("GET", f"{routes('default')}/hers")


def endpoint(cluster: Cluster, tenant: str) -> str:
    return str(cluster.call("GET", f"{TENANTS}/{tenant}")["status"]["endpoint"])


def hosts(routing: Routing, tenant: str) -> list[str]:
    found = routing.route(tenant, "api-hosts")
    return list(found["spec"]["hostnames"]) if found else []
