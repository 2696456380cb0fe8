"""Credentials, where AWS' own SDKs look for them in a pod: the environment, Pod Identity, a service account's role.

Asked for anew some minutes before they expire. https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct

from tenantry_operator.aws.signing import Credentials

#: Before they expire.
RENEWED = timedelta(minutes=5)
TIMEOUT = aiohttp.ClientTimeout(total=10)


class CredentialsError(Exception):
    """There are none to be had; the message says where they were looked for."""


class _Given(Struct, frozen=True, rename="pascal"):
    """What the container credentials endpoint answers (Pod Identity, ECS)."""

    access_key_id: str
    secret_access_key: str
    token: str = ""
    expiration: datetime | None = None


class _Assumed(Struct, frozen=True, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: float


class _Result(Struct, frozen=True, rename="pascal"):
    credentials: _Assumed


class _Response(Struct, frozen=True):
    result: _Result = msgspec.field(name="AssumeRoleWithWebIdentityResult")


class _Answer(Struct, frozen=True):
    """What STS answers where JSON is asked for."""

    response: _Response = msgspec.field(name="AssumeRoleWithWebIdentityResponse")


class Source:
    """The one place where a process gets its credentials from."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        environment: Mapping[str, str],
        region: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._session, self._environment, self._region, self._now = session, environment, region, now
        self._held: Credentials | None = None

    async def get(self) -> Credentials:
        """Credentials that are good for a while. Raises CredentialsError."""
        held = self._held
        if held is None or (held.expires is not None and self._now() > held.expires - RENEWED):
            held = self._held = await self._ask()
        return held

    def refuse(self) -> None:
        """The ones that were given were not accepted: ask anew next time."""
        self._held = None

    async def _ask(self) -> Credentials:
        known = self._environment
        if known.get("AWS_ACCESS_KEY_ID") and known.get("AWS_SECRET_ACCESS_KEY"):
            return Credentials(
                known["AWS_ACCESS_KEY_ID"], known["AWS_SECRET_ACCESS_KEY"], known.get("AWS_SESSION_TOKEN", "")
            )
        try:
            if uri := known.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
                return await self._pod_identity(uri, known.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ""))
            if role := known.get("AWS_ROLE_ARN"):
                return await self._web_identity(role, known.get("AWS_WEB_IDENTITY_TOKEN_FILE", ""))
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise CredentialsError(f"credentials are not to be had: {error or type(error).__name__}") from error
        raise CredentialsError(
            "no credentials: associate a role with the service account (EKS Pod Identity), or set AWS_ROLE_ARN and"
            " AWS_WEB_IDENTITY_TOKEN_FILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )

    async def _pod_identity(self, uri: str, token_file: str) -> Credentials:
        headers = {"Authorization": await _read(token_file)} if token_file else {}
        async with self._session.get(uri, headers=headers, timeout=TIMEOUT) as response:
            response.raise_for_status()
            given = msgspec.json.decode(await response.read(), type=_Given)
        return Credentials(given.access_key_id, given.secret_access_key, given.token, given.expiration)

    async def _web_identity(self, role: str, token_file: str) -> Credentials:
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": role,
            "RoleSessionName": "tenantry-operator",
            "WebIdentityToken": await _read(token_file),
        }
        url = self._environment.get("AWS_ENDPOINT_URL_STS", f"https://sts.{self._region}.amazonaws.com/")
        headers = {"Accept": "application/json"}
        async with self._session.post(url, data=form, headers=headers, timeout=TIMEOUT) as response:
            response.raise_for_status()
            given = msgspec.json.decode(await response.read(), type=_Answer).response.result.credentials
        expires = datetime.fromtimestamp(given.expiration, UTC)
        return Credentials(given.access_key_id, given.secret_access_key, given.session_token, expires)


async def _read(path: str) -> str:
    """A projected token; the kubelet writes a new one well before it expires."""
    return (await asyncio.to_thread(Path(path).read_text)).strip()
