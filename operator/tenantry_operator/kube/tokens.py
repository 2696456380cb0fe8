"""Bearer tokens: where they come from and how long they are good for."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from tenantry_operator.kube.errors import ConfigError

#: Seconds a token file's content is used before it is read again. The kubelet replaces a projected token at 80 %
#: of its life (at least 2 minutes before the end); client-go reads it every minute.
TOKEN_FILE_AGE = 60.0

#: Seconds before its stated expiry at which an exec plugin's token is fetched anew.
EXEC_SKEW = 60.0

#: Seconds an exec plugin may take (``aws eks get-token`` needs 1-2).
EXEC_TIMEOUT = 30.0


class TokenSource(Protocol):
    """Gives the bearer token to send with the next request."""

    async def token(self) -> str | None:
        """The current token; None when the client certificate is the identity. Raises ConfigError."""
        ...

    def invalidate(self) -> None:
        """The server refused the token (401): do not answer from a cache next time."""
        ...


@dataclass(slots=True)
class StaticToken:
    """A token from the kubeconfig itself, or none."""

    value: str | None = None

    async def token(self) -> str | None:
        """The token as configured."""
        return self.value

    def invalidate(self) -> None:
        """Nothing to forget."""


@dataclass(slots=True)
class FileToken:
    """A token file that somebody else renews: the kubelet for a service account."""

    path: Path
    _value: str = ""
    _read_at: float = -1e9

    async def token(self) -> str | None:
        """The file's content, at most ``TOKEN_FILE_AGE`` seconds old. Raises ConfigError when it cannot be read."""
        if time.monotonic() - self._read_at > TOKEN_FILE_AGE:
            try:
                self._value = self.path.read_text().strip()
            except OSError as error:
                raise ConfigError(f"token file {self.path}: {error.strerror}") from error
            self._read_at = time.monotonic()
        return self._value

    def invalidate(self) -> None:
        """Read the file again next time."""
        self._read_at = -1e9


class _ExecStatus(msgspec.Struct, frozen=True, rename="camel"):
    token: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, frozen=True):
    status: _ExecStatus = _ExecStatus()


@dataclass(slots=True)
class ExecToken:
    """A client-go credential plugin, such as ``aws eks get-token``."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    _value: str = ""
    _expires: datetime | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def token(self) -> str | None:
        """The plugin's token, kept until it is about to expire. Raises ConfigError when the plugin fails."""
        async with self._lock:  # one plugin process, however many requests wait for it
            if not self._value or (self._expires is not None and self._left() < EXEC_SKEW):
                await self._run()
            return self._value

    def invalidate(self) -> None:
        """Run the plugin again next time."""
        self._value = ""

    def _left(self) -> float:
        # Wall clock on purpose: the expiry is a date that the plugin wrote.
        return (self._expires - datetime.now(UTC)).total_seconds() if self._expires else EXEC_SKEW

    async def _run(self) -> None:
        name = self.command[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                env={**os.environ, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ConfigError(f"credential plugin {name}: {error.strerror}; install it or use another user") from error
        try:
            async with asyncio.timeout(EXEC_TIMEOUT):
                out, err = await process.communicate()
        except TimeoutError:
            raise ConfigError(f"credential plugin {name}: no answer within {EXEC_TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise ConfigError(f"credential plugin {name} failed: {err.decode(errors='replace').strip()[-300:]}")
        try:
            status = msgspec.json.decode(out, type=_ExecCredential).status
        except msgspec.DecodeError:
            raise ConfigError(f"credential plugin {name} did not print an ExecCredential") from None
        if not status.token:
            raise ConfigError(
                f"credential plugin {name} gave no token (client certificates from plugins are not supported)"
            )
        self._value, self._expires = status.token, status.expiration_timestamp
