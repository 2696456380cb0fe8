"""What the operator proves itself with, and the activator: one Secret of the platform's namespace, filled in by us.

The chart makes it empty, so that we need no right to create any. Made once and kept: a new leader serves with the same
certificate, so whoever trusts it goes on.
"""

import asyncio
import base64
import logging
import re
import secrets
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import LiveMeta

log = logging.getLogger(__name__)

#: As `kubectl create secret tls` calls them.
CERTIFICATE, KEY, TOKEN = "tls.crt", "tls.key", "activator-token"
LIFETIME, RENEW_BEFORE = timedelta(days=825), timedelta(days=60)
#: Seconds for openssl. A key on an elliptic curve takes it some 20 ms.
PATIENCE = 20.0

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)


class CertificateError(errors.KubeError):
    """No certificate can be made; the message says why."""


class Identity(Struct, frozen=True):
    """The serving certificate with its key (PEM), and the token that the activator shows."""

    certificate: str
    key: str
    token: str

    def __repr__(self) -> str:
        return "Identity()"  # all but the certificate is secret


class _Secret(Struct, frozen=True):
    metadata: LiveMeta
    data: dict[str, str] = {}

    def value(self, key: str) -> str:
        return base64.b64decode(self.data.get(key, "")).decode()


async def ensure(client: Client, namespace: str, hosts: list[str], now: datetime) -> Identity | None:
    """The identity in the Secret; made, or made anew, if it is not there or comes to its end.

    None when there is no such Secret, because the chart was told to do without. Two operators at a time: the write
    holds only for the version that was read, so that one of them fails and finds the other's when it tries again.
    Raises KubeError.
    """
    found = await client.find(SECRETS, names.INTERNAL_SECRET, namespace=namespace, into=_Secret)
    if found is None:
        return None
    held = Identity(found.value(CERTIFICATE), found.value(KEY), found.value(TOKEN))
    if held.certificate and held.key and held.token and _left(found.metadata, now) > RENEW_BEFORE:
        return held
    certificate, key = await _made(hosts)
    fresh = Identity(certificate, key, held.token or secrets.token_urlsafe(32))
    metadata = {
        "uid": found.metadata.uid,
        "resourceVersion": found.metadata.resource_version,
        "annotations": {names.NOT_AFTER: (now + LIFETIME).isoformat(timespec="seconds")},
    }
    data = {CERTIFICATE: fresh.certificate, KEY: fresh.key, TOKEN: fresh.token}
    change = {"metadata": metadata, "stringData": data}
    await client.merge_patch(SECRETS, names.INTERNAL_SECRET, change, namespace=namespace, into=Nothing)
    log.info("serving certificate made", extra={"until": (now + LIFETIME).astimezone(UTC).isoformat()})
    return fresh


def _left(meta: LiveMeta, now: datetime) -> timedelta:
    """For how long the certificate is good; not at all if nobody can tell."""
    try:
        return datetime.fromisoformat(meta.annotations.get(names.NOT_AFTER, "")) - now
    except (ValueError, TypeError):
        return timedelta(0)


async def _made(hosts: list[str]) -> tuple[str, str]:
    """A certificate that is its own authority, and its key. Both come out of a pipe and never touch a disk."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", str(LIFETIME.days), "-subj", "/CN=tenantry-operator"),
        *("-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts), "-keyout", "-", "-out", "-"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, complaint = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    found = {match[1]: match[0] for match in _PEM.finditer(out.decode())}
    if process.returncode or "CERTIFICATE" not in found or "PRIVATE KEY" not in found:
        raise CertificateError(f"openssl req: {complaint.decode(errors='replace').strip()[-300:] or 'says nothing'}")
    return found["CERTIFICATE"], found["PRIVATE KEY"]
