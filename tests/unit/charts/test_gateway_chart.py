"""charts/tenantry: the ways to tenants from outside, and the Gateway that they share."""

import pytest
from tenantry_operator.options import exposure, parser
from tenantry_operator.plan.exposure import Exposure, Gateway, Way
from tenantry_service.proxy.succession import KEEP_ALIVE_SECONDS

from tests.unit.charts.conftest import Object, RenderPlatform
from tests.unit.charts.objects import at, find, kinds

URL = "exposure.url=https://api.example.com/{tenant}/v1"
THROUGH_GATEWAY = ("exposure.type=Gateway", URL)
SHARED = (*THROUGH_GATEWAY, "gateway.create=true", "gateway.envoy.create=true")


def told(objects: list[Object]) -> Exposure:
    """What the operator makes of its command line."""
    arguments = at(find(objects, "Deployment", "tenantry-operator"), "spec.template.spec.containers.0.args")
    return exposure(parser().parse_args(arguments[1:]))


def test_by_default_nothing_leads_in_from_outside(platform: RenderPlatform) -> None:
    objects = platform()
    assert told(objects).way is Way.NONE
    assert not kinds(objects) & {"Gateway", "GatewayClass", "EnvoyProxy", "BackendTrafficPolicy"}


def test_the_operator_is_told_of_the_gateway_that_is_made_or_of_the_one_that_is_there(platform: RenderPlatform) -> None:
    made = told(platform(*SHARED))
    assert made.gateway == Gateway(namespace="tenantry-system", name="tenantry")
    assert made.url == "https://api.example.com/{tenant}/v1"
    existing = ("gateway.namespace=edge", "gateway.name=shared", "gateway.sectionName=https")
    there = told(platform(*THROUGH_GATEWAY, *existing, "exposure.forwardingNamespaces={edge,proxies}"))
    assert there.gateway == Gateway(namespace="edge", name="shared", section="https")
    assert there.namespaces == ("edge", "proxies")


def test_the_operator_is_told_of_the_ingress(platform: RenderPlatform) -> None:
    settings = ("ingress.className=nginx", "ingress.annotations.a\\.b/c=d=e f", "ingress.tlsSecretName=api-tls")
    found = told(platform("exposure.type=Ingress", *settings))
    assert (found.way, found.ingress_class, found.ingress_tls_secret) == (Way.INGRESS, "nginx", "api-tls")
    assert found.ingress_annotations == {"a.b/c": "d=e f"}


@pytest.mark.parametrize(
    "settings", [("exposure.type=Gateway",), ("exposure.type=Gateway", "exposure.url=https://x/v1")]
)
def test_a_gateway_without_a_url_for_each_tenant_is_refused(
    platform: RenderPlatform, settings: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="exposure/url"):
        platform(*settings)


def test_the_gateway_admits_tenants_alone_on_every_listener(platform: RenderPlatform) -> None:
    listeners = at(find(platform(*SHARED, "gateway.tlsSecretName=tls"), "Gateway"), "spec.listeners")
    assert [(each["name"], each["port"]) for each in listeners] == [("http", 80), ("https", 443)]
    for each in listeners:
        (expression,) = at(each, "allowedRoutes.namespaces.selector.matchExpressions")
        assert expression == {"key": "tenantry.dev/tenant", "operator": "Exists"}
        assert [kind["kind"] for kind in at(each, "allowedRoutes.kinds")] == ["HTTPRoute"]


def test_a_request_is_tried_again_only_if_no_byte_of_it_was_sent(platform: RenderPlatform) -> None:
    policy = at(find(platform(*SHARED), "BackendTrafficPolicy"), "spec")
    assert set(at(policy, "retry.retryOn.triggers")) == {"connect-failure", "refused-stream", "reset-before-request"}
    assert at(policy, "targetRefs.0.name") == at(find(platform(*SHARED), "Gateway"), "metadata.name")


def test_silence_is_limited_and_length_is_not(platform: RenderPlatform) -> None:
    timeout = at(find(platform(*SHARED), "BackendTrafficPolicy"), "spec.timeout")
    assert timeout["http"]["streamIdleTimeout"] == "900s"
    assert not {"requestTimeout", "maxStreamDuration", "maxConnectionDuration"} & set(timeout["http"])


def test_the_gateway_gives_up_an_idle_connection_before_the_pod_does(platform: RenderPlatform) -> None:
    timeout = at(find(platform(*SHARED), "BackendTrafficPolicy"), "spec.timeout")
    assert int(timeout["http"]["connectionIdleTimeout"].removesuffix("s")) < KEEP_ALIVE_SECONDS


def test_an_uninstall_leaves_what_leads_to_customers(platform: RenderPlatform) -> None:
    ways = {"Gateway", "GatewayClass", "EnvoyProxy", "BackendTrafficPolicy"}
    kept = [each for each in platform(*SHARED) if each["kind"] in ways]
    assert {str(each["kind"]) for each in kept} == ways
    assert all(at(each, "metadata.annotations")["helm.sh/resource-policy"] == "keep" for each in kept)


def test_who_may_attach_routes_is_said_with_the_first_route(platform: RenderPlatform) -> None:
    assert "tenantry-gateway-routes" not in str(platform())
    policy = find(
        platform(*THROUGH_GATEWAY, "gateway.namespace=edge"), "ValidatingAdmissionPolicy", "tenantry-gateway-routes"
    )
    (variable,) = at(policy, "spec.variables")
    assert "'edge'" in variable["expression"]
