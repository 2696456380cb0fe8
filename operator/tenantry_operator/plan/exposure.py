"""How a tenant is reached from outside the cluster: the values of its route, and the address that follows from them."""

from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.plan import names


class Way(StrEnum):
    """What requests from outside come through; a value of ``route.kind`` in the tenant chart."""

    GATEWAY = "Gateway"  # an HTTPRoute of each tenant on one Gateway for all of them
    INGRESS = "Ingress"  # an Ingress of each tenant, for its own host names
    NONE = "None"  # a node port at most


class Gateway(Struct, frozen=True, kw_only=True):
    """The one Gateway that all tenants' routes are attached to."""

    name: str
    namespace: str
    #: A listener of it; empty: all of them.
    section: str = ""


class Exposure(Struct, frozen=True, kw_only=True):
    """What holds for every tenant of this installation."""

    way: Way = Way.NONE
    #: With ``Way.GATEWAY``.
    gateway: Gateway | None = None
    #: Base URL of a tenant behind the Gateway as its developers see it, with {tenant}. Its scheme and port are also
    #: those of host names.
    url: str = ""
    ingress_class: str = ""
    ingress_annotations: Mapping[str, str] = {}
    #: The Secret in each tenant's namespace that holds an Ingress' certificate; empty: no TLS.
    ingress_tls_secret: str = ""
    #: Namespaces of the pods that forward requests to tenants.
    namespaces: tuple[str, ...] = ()
    #: With {nodePort}, {tenant} and {namespace}; used for tenants with a node port and nothing else.
    node_port_url: str = "http://127.0.0.1:{nodePort}/v1"

    @property
    def reserved(self) -> frozenset[str]:
        """Host names that no tenant may have: on its own host the Gateway has everybody's paths."""
        host = urlsplit(self.url.replace("{tenant}", "tenant")).hostname
        return frozenset({host} if host else ())


class Reach(Struct, frozen=True, kw_only=True):
    """What of it one tenant gets at this moment."""

    #: None while the cluster has no HTTPRoute, whatever the installation asks for.
    way: Way = Way.NONE
    #: The host names that are the tenant's, of those that it asks for.
    hostnames: tuple[str, ...] = ()


NOWHERE = Reach()


def values(reach: Reach, exposure: Exposure) -> dict[str, object]:
    """``route`` of the tenant chart."""
    route: dict[str, object] = {"kind": reach.way.value, "hostnames": list(reach.hostnames)}
    if reach.way is Way.GATEWAY and exposure.gateway is not None:
        gateway = exposure.gateway
        parent = {"name": gateway.name, "namespace": gateway.namespace}
        route["parentRef"] = parent | ({"sectionName": gateway.section} if gateway.section else {})
    if reach.way is Way.INGRESS:
        route["ingress"] = {
            "className": exposure.ingress_class,
            "annotations": dict(exposure.ingress_annotations),
            "tlsSecretName": exposure.ingress_tls_secret,
        }
    return route


def endpoint(tenant: str, spec: ResolvedSpec, reach: Reach, exposure: Exposure) -> str:
    """The base URL to give to the OpenAI SDK: a host name of the tenant's own, else its path on the Gateway, else its
    node port, else its address inside the cluster."""
    space = namespace_of(tenant)
    if reach.way is not Way.NONE and reach.hostnames:
        return _on_host(reach.hostnames[0], reach.way, exposure)
    if reach.way is Way.GATEWAY and exposure.url:
        return exposure.url.replace("{tenant}", tenant)
    if spec.node_port is None:
        return f"http://{names.WORKLOAD}.{space}.svc.cluster.local/v1"
    parts = {"{nodePort}": str(spec.node_port), "{tenant}": tenant, "{namespace}": space}
    url = exposure.node_port_url
    for placeholder, value in parts.items():
        url = url.replace(placeholder, value)
    return url


def _on_host(hostname: str, way: Way, exposure: Exposure) -> str:
    if way is Way.INGRESS:
        return f"{'https' if exposure.ingress_tls_secret else 'http'}://{hostname}/v1"
    shared = urlsplit(exposure.url)
    port = f":{shared.port}" if shared.port else ""
    return urlunsplit((shared.scheme or "https", f"{hostname}{port}", "/v1", "", ""))
