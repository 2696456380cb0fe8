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
#: A credential is some 200 bytes; a file of megabytes is a mistake.
MAX_CREDENTIAL_BYTES = 16 * 1024

log = logging.getLogger(__name__)

Identity = tuple[tuple[int, int, int, int] | None, ...]


class PolicyFile:
    """One policy document and the credential files that it names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._credential_files: tuple[Path, ...] = ()

    def identity(self) -> Identity:
        """Changes when any of the files is replaced, rewritten, appears or disappears."""
        return tuple(_identity(path) for path in (self._path, *self._credential_files))

    def load(self) -> Snapshot:
        """Read and compile.

        Raises:
            PolicyError: a file cannot be read, or the policy cannot be served.
        """
        try:
            document = self._path.read_bytes()
        except OSError as error:
            raise PolicyError(str(self._path), f"cannot be read ({error.strerror}); give the policy's path") from error
        policy = policies.decode(document)
        self._credential_files = tuple(
            Path(upstream.credentials_file) for upstream in policy.upstreams if upstream.credentials_file is not None
        )
        return Snapshot([TenantView(policy, _credentials(policy))])

    async def watch(self, engine: Engine, seen: Identity) -> None:
        """Swap the engine's snapshot with every change since ``seen``, for ever."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            now = self.identity()
            if now == seen:
                continue
            seen = now
            self._take_over(engine)
            # The new document may name other files.
            seen = (now[0], *self.identity()[1:])

    def _take_over(self, engine: Engine) -> None:
        try:
            snapshot = self.load()
        except PolicyError as error:
            engine.telemetry.policy_failures += 1
            log.error(
                "policy refused, the one before stays in force", extra={"field": error.field, "reason": str(error)}
            )
            return
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


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
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
    except UnicodeDecodeError as error:
        raise PolicyError(field, f"{path} holds something that is no API key; write the bare key there") from error
