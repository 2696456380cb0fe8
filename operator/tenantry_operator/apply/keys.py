"""API keys as Secrets in a tenant's namespace.

A key comes into being with one create-only POST and is replaced with one patch of the very version that was read; what
has to be known of former keys is in the same write. Only digests leave this file. However often an operator is killed,
and however many run at once: the write that wins has issued the key, everybody else reads it.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.resolve import ResolvedKey
from tenantry_operator.apply.namespace import terminating
from tenantry_operator.apply.rights import once_granted
from tenantry_operator.apply.secrets import HeldSecret
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.facts import Failure
from tenantry_operator.plan.keys import IssuedKey, is_tampered, kept, noted, recalled, rotated, rotation_due
from tenantry_operator.plan.observed import LiveObject

log = logging.getLogger(__name__)

#: 12 base32 characters: 60 bits, so that ids do not collide and cannot be enumerated.
KEY_ID_LENGTH = 12
#: 256 bits, as 43 characters of base64url.
SECRET_BYTES = 32
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"

#: How often a Secret that changes under our hands is read anew before the queue comes back to it.
TRIES = 5


class Issue(NamedTuple):
    """A key as it is now, the one whose place it took in this very run, and whether somebody had tampered with that."""

    key: IssuedKey
    replaced: IssuedKey | None = None
    tampered: bool = False


def new_key() -> str:
    """``tn_<id>_<secret>``. The id has no ``_``; the secret may."""
    key_id = "".join(secrets.choice(_BASE32) for _ in range(KEY_ID_LENGTH))
    return f"tn_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(key: str) -> tuple[str, str] | None:
    """Id and SHA-256 of a key string; None when it is no key of ours."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != "tn" or not key_id or not secret:
        return None
    return key_id, hashlib.sha256(key.encode()).hexdigest()


async def ensure(
    client: Client, tenant: str, wanted: Sequence[ResolvedKey], held: Mapping[str, HeldSecret] | None, now: datetime
) -> tuple[Issue, ...]:
    """Every wanted key as it should be ``now``: issued, replaced, or only told from what is ``held``. Idempotent.

    ``held`` is None in a namespace that was made a moment ago: then nothing was read, and our rights there may not
    have been heard of yet. Killed between two keys: those that exist are read next time. Raises Failure for a Secret
    that is not ours or holds no key.
    """
    return tuple(await asyncio.gather(*(_ensure(client, tenant, key, held, now) for key in wanted)))


async def _ensure(
    client: Client, tenant: str, wanted: ResolvedKey, held: Mapping[str, HeldSecret] | None, now: datetime
) -> Issue:
    found, fresh = (held or {}).get(names.key_secret(wanted.name)), held is None
    if found is None:
        first = await _create(client, tenant, wanted, fresh=fresh, now=now)
        if first is not None:
            return Issue(first)
        found = await client.get(
            SECRETS, names.key_secret(wanted.name), namespace=namespace_of(tenant), into=HeldSecret
        )
    for _ in range(TRIES):
        with contextlib.suppress(errors.Conflict):  # somebody was faster: what they wrote may be what we want
            return await _settle(client, tenant, wanted, found, now)
        found = await client.get(SECRETS, found.metadata.name, namespace=namespace_of(tenant), into=HeldSecret)
    return await _settle(client, tenant, wanted, found, now)


async def _create(client: Client, tenant: str, wanted: ResolvedKey, *, fresh: bool, now: datetime) -> IssuedKey | None:
    """A first key; None when there is one already."""
    text, namespace = new_key(), namespace_of(tenant)
    key_id, sha256 = _known(text)
    key = IssuedKey(name=wanted.name, id=key_id, sha256=sha256, rotation=wanted.rotation, expires_at=wanted.expires_at)
    body = objects.key_secret(tenant, wanted.name, text, noted(key))
    try:
        await once_granted(lambda: client.create(SECRETS, body, namespace=namespace, into=LiveObject), fresh=fresh)
    except errors.NamespaceTerminating:
        raise terminating(namespace) from None
    except errors.AlreadyExists:
        return None
    log.info("key issued", extra={"key": wanted.name, "key_id": key_id})
    return key


async def _settle(client: Client, tenant: str, wanted: ResolvedKey, found: HeldSecret, now: datetime) -> Issue:
    """Write what is to change, if anything, over the version that was read. Raises Conflict when it has changed."""
    key, shown = _record(wanted, found, tenant)
    after, text, read = kept(key, wanted, now), None, found.metadata
    tampered = is_tampered(key, shown)
    due = tampered or rotation_due(key, wanted)
    if due:
        text = new_key()
        after = rotated(key, wanted, *_known(text), now)
    if read.annotations.get(names.KEY_NOTE) == noted(after):
        return Issue(after)
    change = objects.key_change(read.uid, read.resource_version, noted(after), text)
    await client.merge_patch(SECRETS, read.name, change, namespace=namespace_of(tenant), into=Nothing)
    if due:
        log.info("key replaced", extra={"key": wanted.name, "key_id": after.id, "former_key_id": key.id})
    return Issue(after, replaced=key if due else None, tampered=tampered)


def _known(text: str) -> tuple[str, str]:
    digest = digest_of(text)
    assert digest is not None
    return digest


def _record(wanted: ResolvedKey, secret: HeldSecret, tenant: str) -> tuple[IssuedKey, tuple[str, str] | None]:
    """What was issued, and id and digest of what the Secret shows."""
    where = f"Secret {secret.metadata.name} in {namespace_of(tenant)}"
    if secret.metadata.labels.get(names.TENANT_LABEL) != tenant:
        raise Failure(Reason.OBJECT_CONFLICT, f"{where} was not made by the operator: delete or rename it")
    try:
        text = base64.b64decode(secret.data.get(names.SECRET_FIELD, ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    shown = digest_of(text)
    key = recalled(wanted.name, shown, secret.metadata.annotations.get(names.KEY_NOTE), wanted)
    if key is None:
        raise Failure(
            Reason.OBJECT_CONFLICT, f"{where} holds no key under {names.SECRET_FIELD}: delete it to have one issued"
        )
    return key, shown
