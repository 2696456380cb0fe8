"""API keys and upstream credentials as Secrets in a tenant's namespace.

A key comes into being with one create-only POST, and only its digest leaves this file. However often an operator
is killed, and however many run at once: the POST that wins has issued the key, everybody else reads it.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.traffic import Upstream
from tenantry_operator.apply.namespace import terminating
from tenantry_operator.apply.rights import once_granted
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.assess import Failure
from tenantry_operator.plan.desired import IssuedKey
from tenantry_operator.plan.observed import LiveMeta, LiveObject

log = logging.getLogger(__name__)

#: 12 base32 characters: 60 bits, so that ids do not collide and cannot be enumerated.
KEY_ID_LENGTH = 12
#: 256 bits, as 43 characters of base64url.
SECRET_BYTES = 32
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


class _Secret(msgspec.Struct, frozen=True):
    metadata: LiveMeta
    data: dict[str, str] = {}


def new_key() -> str:
    """``tn_<id>_<secret>``. The id has no ``_``; the secret may."""
    key_id = "".join(secrets.choice(_BASE32) for _ in range(KEY_ID_LENGTH))
    return f"tn_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def issued(name: str, key: str) -> IssuedKey | None:
    """The record of a key string; None when it is no key of ours."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != "tn" or not key_id or not secret:
        return None
    return IssuedKey(name=name, id=key_id, sha256=hashlib.sha256(key.encode()).hexdigest())


async def ensure(client: Client, tenant: str, wanted: Sequence[str], *, fresh: bool) -> tuple[IssuedKey, ...]:
    """Every wanted key, issued now or before. Idempotent.

    In a namespace that is not ``fresh`` it looks first, which saves a refused POST for each key; the result is the
    same. Killed between two keys: those that exist are read next time. Raises Failure for a Secret that is not ours
    or holds no key.
    """
    return tuple(await asyncio.gather(*(_ensure(client, tenant, name, fresh) for name in wanted)))


async def _ensure(client: Client, tenant: str, name: str, fresh: bool) -> IssuedKey:
    if not fresh and (existing := await _read(client, tenant, name)) is not None:
        return existing
    key, secret_name, namespace = new_key(), names.key_secret(name), namespace_of(tenant)
    body = objects.secret(tenant, secret_name, key)
    try:
        await once_granted(lambda: client.create(SECRETS, body, namespace=namespace, into=LiveObject), fresh=fresh)
    except errors.NamespaceTerminating:
        raise terminating(namespace) from None
    except errors.AlreadyExists:
        existing = await _read(client, tenant, name)
        if existing is None:
            raise  # made and deleted within a moment; the queue tries again
        return existing
    record = issued(name, key)
    assert record is not None
    log.info("key issued", extra={"key": name, "key_id": record.id})
    return record


async def _read(client: Client, tenant: str, name: str) -> IssuedKey | None:
    secret = await client.find(SECRETS, names.key_secret(name), namespace=namespace_of(tenant), into=_Secret)
    return None if secret is None else _record(name, secret, tenant)


def _record(name: str, secret: _Secret, tenant: str) -> IssuedKey:
    where = f"Secret {secret.metadata.name} in {namespace_of(tenant)}"
    if secret.metadata.labels.get(names.TENANT_LABEL) != tenant:
        raise Failure(Reason.OBJECT_CONFLICT, f"{where} was not made by the operator: delete or rename it")
    try:
        key = base64.b64decode(secret.data.get(names.SECRET_FIELD, ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        key = ""
    record = issued(name, key)
    if record is None:
        raise Failure(
            Reason.OBJECT_CONFLICT, f"{where} holds no key under {names.SECRET_FIELD}: delete it to have one issued"
        )
    return record


async def credential_copies(
    client: Client, tenant: str, upstreams: Sequence[Upstream], platform_namespace: str
) -> list[Mapping[str, object]]:
    """The Secrets ``upstream-<name>`` to apply, read from the platform's namespace. Not kept in memory.

    Raises Failure when one has gone since the assessment.
    """
    named = [upstream for upstream in upstreams if upstream.credentials_secret]
    return list(await asyncio.gather(*(_copy(client, tenant, upstream, platform_namespace) for upstream in named)))


async def _copy(client: Client, tenant: str, upstream: Upstream, platform_namespace: str) -> Mapping[str, object]:
    assert upstream.credentials_secret is not None
    source = await client.find(SECRETS, upstream.credentials_secret, namespace=platform_namespace, into=_Secret)
    encoded = source.data.get(names.SECRET_FIELD) if source else None
    if not encoded:
        raise Failure(
            Reason.CREDENTIALS_NOT_FOUND,
            f"Secret {upstream.credentials_secret} of {platform_namespace} has no field {names.SECRET_FIELD}: add it",
        )
    return objects.secret_copy(tenant, names.upstream_secret(upstream.name), encoded)
