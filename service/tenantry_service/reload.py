"""Policies from files: read, compiled, and read again when they change.

Files are looked at four times a second: a stat is a microsecond, and the kubelet replaces a mounted ConfigMap by
renaming a directory, which file watchers see in different ways. A policy that cannot be served leaves the old one in
place.
"""

import asyncio
import logging
import os
from pathlib import Path

from tenantry_service import policy as policies
from tenantry_service.policy import Policy, PolicyError
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.snapshot import Snapshot, TenantView

POLL_SECONDS = 0.25
#: A policy that was refused is tried again, in case the reason lay elsewhere (a full process table, a network disk).
RETRY_SECONDS = 5.0
#: A credential is some 200 bytes; a file of megabytes is a mistake.
MAX_CREDENTIAL_BYTES = 16 * 1024

log = logging.getLogger(__name__)

Identity = tuple[tuple[int, int, int, int] | None, ...]


class PolicyFile:
    """One policy document and the credential files that it names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._credential_files: tuple[Path, ...] = ()
        #: What the files were when they were last read.
        self._seen: Identity = ()

    def identity(self) -> Identity:
        """Changes when any of the files is replaced, rewritten, appears or disappears."""
        return tuple(_identity(path) for path in (self._path, *self._credential_files))

    def load(self) -> Snapshot:
        """Read and compile.

        Raises:
            PolicyError: a file cannot be read, or the policy cannot be served.
        """
        # Looked at before they are read: a change in between is seen as one.
        self._seen = self.identity()
        try:
            document = self._path.read_bytes()
        except OSError as error:
            raise PolicyError(str(self._path), f"cannot be read ({error.strerror}); give the policy's path") from error
        policy = policies.decode(document)
        self._credential_files = tuple(
            Path(upstream.credentials_file) for upstream in policy.upstreams if upstream.credentials_file is not None
        )
        # The document may name other files than the one before.
        self._seen = (self._seen[0], *self.identity()[1:])
        return Snapshot([TenantView(policy, _credentials(policy))])

    async def watch(self, engine: Engine) -> None:
        """Swap the engine's snapshot with every change since the last :meth:`load`, for ever."""
        loop = asyncio.get_running_loop()
        retry_at = float("inf")
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self.identity() != self._seen or loop.time() >= retry_at:
                retry_at = float("inf") if self._take_over(engine) else loop.time() + RETRY_SECONDS

    def _take_over(self, engine: Engine) -> bool:
        try:
            snapshot = self.load()
        except PolicyError as error:
            engine.telemetry.policy_failures += 1
            log.error(
                "policy refused, the one before stays in force", extra={"field": error.field, "reason": str(error)}
            )
            return False
        engine.swap(snapshot)
        engine.telemetry.policy_reloads += 1
        for view in snapshot.views:
            log.info(
                "policy taken over",
                extra={
                    "tenant": view.policy.tenant,
                    "revision": view.policy.revision,
                    "generation": view.policy.generation,
                },
            )
        return True


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        # A name with a NUL is a ValueError.
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _credentials(policy: Policy) -> dict[str, str]:
    found = {}
    for index, upstream in enumerate(policy.upstreams):
        if upstream.credentials_file is not None:
            found[upstream.name] = read_credential(
                Path(upstream.credentials_file), f"$.upstreams[{index}].credentialsFile"
            )
    return found


def read_credential(path: Path, field: str) -> str:
    """The bare key in a file, without the blanks around it.

    Raises:
        PolicyError: it cannot be read; ``field`` is named.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_CREDENTIAL_BYTES).decode("ascii").strip()
    except OSError as error:
        raise PolicyError(field, f"{path} cannot be read ({error.strerror}); mount or write the key there") from error
    except ValueError as error:
        if not isinstance(error, UnicodeDecodeError):
            raise PolicyError(field, f"{str(path)!r} is no file name; mount or write the key to a file") from error
        raise PolicyError(field, f"{path} holds something that is no API key; write the bare key there") from error
