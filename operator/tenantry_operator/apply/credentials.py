"""Copies of upstream credentials as Secrets in a tenant's namespace.

The originals are in the platform's namespace, where they are watched. Secrets of tenants are not: the operator may
read them in single namespaces only. So the copies are looked at when the namespace's quota says that a Secret has gone,
and now and then.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.traffic import Upstream
from tenantry_operator.apply.secrets import HeldSecret
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.facts import Failure
from tenantry_operator.plan.observed import LiveMeta, own_fields


class _Source(msgspec.Struct, frozen=True):
    metadata: LiveMeta
    data: dict[str, str] = {}


class _Read(NamedTuple):
    content: str
    encoded: str


class Credentials:
    """Makes the copies. An original is read once for all tenants, and again when its content is another."""

    def __init__(self, client: Client, platform_namespace: str) -> None:
        self._client, self._namespace = client, platform_namespace
        self._read: dict[str, _Read] = {}

    async def copies(
        self, tenant: str, upstreams: Sequence[Upstream], contents: Mapping[str, str]
    ) -> list[objects.Object]:
        """The Secrets ``upstream-<name>`` to apply; ``contents`` tells what each original holds by now (a digest).

        Raises Failure when one has gone since the assessment.
        """
        wanted = [(each.name, each.credentials_secret) for each in upstreams if each.credentials_secret]
        return [
            objects.secret_copy(tenant, names.upstream_secret(name), await self._value(secret, contents.get(secret)))
            for name, secret in wanted
        ]

    async def _value(self, secret: str, content: str | None) -> str:
        known = self._read.get(secret)
        if known is not None and known.content == content:
            return known.encoded
        self._read.pop(secret, None)
        source = await self._client.find(SECRETS, secret, namespace=self._namespace, into=_Source)
        encoded = source.data.get(names.SECRET_FIELD) if source else None
        if source is None or not encoded:
            raise Failure(
                Reason.CREDENTIALS_NOT_FOUND,
                f"Secret {secret} of {self._namespace} has no field {names.SECRET_FIELD}: add it",
            )
        self._read[secret] = _Read(content_digest(source.metadata.uid, encoded), encoded)
        return encoded


def content_digest(uid: str, value: str) -> str:
    """What tells a Secret's content from any other. With the uid: what is the same secret as before must not show as
    such to those who may see digests only."""
    return hashlib.sha256(f"{uid}/{value}".encode()).hexdigest()[:16]


def intact(tenant: str, upstreams: Sequence[Upstream], held: Mapping[str, HeldSecret]) -> bool:
    """Whether all copies exist and nobody has changed what we applied of them; their content is not looked at."""
    wanted = [names.upstream_secret(upstream.name) for upstream in upstreams if upstream.credentials_secret]
    found = {name: own_fields(held[name].metadata) for name in wanted if name in held}
    return all(found.get(name) == _fields(objects.secret_copy(tenant, name, "")) for name in wanted)


def _fields(body: Mapping[str, object]) -> Mapping[str, object]:
    """``fieldsV1`` of an applied object that has neither lists nor a name of its own in it."""
    identity = {"apiVersion", "kind", "name", "namespace"}
    return {
        f"f:{key}": _fields(value) if isinstance(value, Mapping) else {}
        for key, value in body.items()
        if key not in identity
    }
