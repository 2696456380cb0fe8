"""The secret that all passwords of tenants in Redis are made from: one Secret in the platform's namespace.

It comes into being with one create-only write: however many operators start at once, they use the one that was first.
"""

import base64
import binascii
import logging
import secrets

import msgspec

from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names

log = logging.getLogger(__name__)

FIELD = "seed"
BYTES = 32


class _Secret(msgspec.Struct, frozen=True):
    data: dict[str, str] = {}


async def seed(client: Client, namespace: str) -> bytes:
    """The installation's seed, made if there is none. Raises KubeError, and ValueError for one that is none."""
    found = await client.find(SECRETS, names.REDIS_SEED, namespace=namespace, into=_Secret)
    if found is None:
        value = secrets.token_bytes(BYTES)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": names.REDIS_SEED,
                "namespace": namespace,
                "labels": {names.MANAGED_BY: names.MANAGER_VALUE},
            },
            "data": {FIELD: base64.b64encode(value).decode()},
        }
        try:
            await client.create(SECRETS, body, namespace=namespace, into=Nothing)
        except errors.AlreadyExists:
            found = await client.get(SECRETS, names.REDIS_SEED, namespace=namespace, into=_Secret)
        else:
            log.info("seed of the tenants' Redis passwords made", extra={"secret": names.REDIS_SEED})
            return value
    try:
        value = base64.b64decode(found.data.get(FIELD, ""), validate=True)
    except binascii.Error:
        value = b""
    if len(value) < BYTES:
        raise ValueError(
            f"Secret {names.REDIS_SEED} of {namespace} holds no {FIELD} of {BYTES} bytes: delete it to have one made"
        )
    return value
