"""Whether a Secret that was applied is still as it was. No watch reports that: see ``credentials.py``."""

from collections.abc import Mapping

import msgspec

from tenantry_operator.api.meta import namespace_of
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import LiveMeta


class _Secret(msgspec.Struct, frozen=True):
    metadata: LiveMeta
    data: dict[str, str] = {}


async def secret_intact(client: Client, tenant: str, body: Mapping[str, object]) -> bool:
    """Whether it is there, part of the tenant's set, with the content of ``body``. Raises KubeError."""
    metadata = body["metadata"]
    assert isinstance(metadata, Mapping)
    found = await client.find(SECRETS, str(metadata["name"]), namespace=namespace_of(tenant), into=_Secret)
    return (
        found is not None
        and found.data == body["data"]
        and names.labels(tenant).items() <= found.metadata.labels.items()
    )
