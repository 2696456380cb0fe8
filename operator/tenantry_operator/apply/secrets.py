"""A tenant's Secrets in one list: keys, copies of credentials, its account at the store. No watch reports them."""

from collections.abc import Mapping

import msgspec

from tenantry_operator.api.meta import namespace_of
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import ManagedMeta


class HeldSecret(msgspec.Struct, frozen=True):
    """A Secret as it is."""

    metadata: ManagedMeta
    data: dict[str, str] = {}


async def held(client: Client, tenant: str) -> dict[str, HeldSecret]:
    """Those of the tenant's set, by name."""
    listed = await client.list(
        SECRETS, namespace=namespace_of(tenant), labels=f"{names.PART_OF}={names.set_id(tenant)}", into=HeldSecret
    )
    return {secret.metadata.name: secret for secret in listed}


def holds(held: Mapping[str, HeldSecret], tenant: str, body: Mapping[str, object]) -> bool:
    """Whether the Secret ``body`` is there, part of the tenant's set, with that very content."""
    metadata = body["metadata"]
    assert isinstance(metadata, Mapping)
    found = held.get(str(metadata["name"]))
    return (
        found is not None
        and found.data == body["data"]
        and names.labels(tenant).items() <= found.metadata.labels.items()
    )
