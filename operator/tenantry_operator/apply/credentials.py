"""Copies of upstream credentials as Secrets in a tenant's namespace.

The originals are in the platform's namespace, where they are watched. Secrets of tenants are not: the operator may
read them in single namespaces only. So the copies are looked at when the namespace's quota says that a Secret has gone,
and now and then.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.traffic import Upstream
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.assess import Failure
from tenantry_operator.plan.observed import LiveObject, own_fields


class _Source(msgspec.Struct, frozen=True):
    data: dict[str, str] = {}


async def copies(
    client: Client, tenant: str, upstreams: Sequence[Upstream], platform_namespace: str
) -> list[objects.Object]:
    """The Secrets ``upstream-<name>`` to apply, read from the platform's namespace. Not kept in memory.

    Raises Failure when one has gone since the assessment.
    """
    named = [upstream for upstream in upstreams if upstream.credentials_secret]
    return list(await asyncio.gather(*(_copy(client, tenant, upstream, platform_namespace) for upstream in named)))


async def _copy(client: Client, tenant: str, upstream: Upstream, platform_namespace: str) -> objects.Object:
    assert upstream.credentials_secret is not None
    source = await client.find(SECRETS, upstream.credentials_secret, namespace=platform_namespace, into=_Source)
    encoded = source.data.get(names.SECRET_FIELD) if source else None
    if not encoded:
        raise Failure(
            Reason.CREDENTIALS_NOT_FOUND,
            f"Secret {upstream.credentials_secret} of {platform_namespace} has no field {names.SECRET_FIELD}: add it",
        )
    return objects.secret_copy(tenant, names.upstream_secret(upstream.name), encoded)


async def intact(client: Client, tenant: str, upstreams: Sequence[Upstream]) -> bool:
    """Whether all copies exist and nobody has changed what we applied of them; their content is not looked at."""
    wanted = [names.upstream_secret(upstream.name) for upstream in upstreams if upstream.credentials_secret]
    if not wanted:
        return True
    listed = await client.list(
        SECRETS, namespace=namespace_of(tenant), labels=f"{names.PART_OF}={names.set_id(tenant)}", into=LiveObject
    )
    found = {live.metadata.name: own_fields(live.metadata) for live in listed}
    return all(found.get(name) == _fields(objects.secret_copy(tenant, name, "")) for name in wanted)


def _fields(body: Mapping[str, object]) -> Mapping[str, object]:
    """``fieldsV1`` of an applied object that has neither lists nor a name of its own in it."""
    identity = {"apiVersion", "kind", "name", "namespace"}
    return {
        f"f:{key}": _fields(value) if isinstance(value, Mapping) else {}
        for key, value in body.items()
        if key not in identity
    }
