"""EndpointSlices that we write beside those that Kubernetes makes. Whoever sends requests to a Service takes all
slices of it together: kube-proxy, gateways, node ports.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from collections.abc import Sequence

from tenantry_operator.plan import names


def endpoint_slice(
    name: str,
    service: str,
    namespace: str,
    addresses: Sequence[str],
    *,
    port_name: str,
    port: int,
    owner: tuple[str, str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> dict[str, object]:
    """A slice of ``service`` with these addresses (all of one IP family). ``owner``: kind (of v1), name and uid of what
    it is to go with."""
    metadata: dict[str, object] = {
        "name": name,
        "namespace": namespace,
        "labels": {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": names.SLICE_MANAGER,
            **(labels or {}),
        },
    }
    if owner is not None:
        kind, owned_by, uid = owner
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": kind, "name": owned_by, "uid": uid}]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv6" if any(":" in address for address in addresses) else "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in sorted(addresses)],
    }
