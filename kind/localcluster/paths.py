"""Where a checkout keeps its state, and where all checkouts of a user keep what they have built."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

#: Bytes of a unix socket's path, with the final NUL (`sun_path` in unix(7)).
SOCKET_PATH_LIMIT = 108


@dataclass(frozen=True)
class Checkout:
    """One working tree and the places that belong to it.

    `root` is the working tree, `state` what `down` empties (engine, kubeconfigs, logs), `cache` what is kept: built
    programs and images under the digest of their inputs, shared by all checkouts of the user.
    """

    root: Path
    state: Path
    cache: Path

    @classmethod
    def here(cls) -> Checkout:
        """Return the checkout that this file is part of; TENANTRY_STATE_DIR moves its state elsewhere."""
        root = Path(__file__).resolve().parents[2]
        state = os.environ.get("TENANTRY_STATE_DIR")
        return cls(root=root, state=Path(state).resolve() if state else root / ".state", cache=cache_dir())

    @property
    def id(self) -> str:
        """Eight hex digits of the state directory's path: what keeps two checkouts on one machine apart."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    @property
    def engine_dir(self) -> Path:
        return self.state / "engine"

    @property
    def log_dir(self) -> Path:
        return self.state / "logs"

    def cluster_dir(self, name: str) -> Path:
        """Return where the cluster of that name keeps its kubeconfig and facts."""
        return self.state / name

    def runtime_dir(self) -> Path:
        """Return the directory for sockets and pid files: in the state directory, or in /run when that is too deep.

        containerd's shims put a socket name of some 40 bytes of their own below it, hence the margin.
        """
        return short_enough(self.engine_dir / "run", Path("/run") / f"tenantry-{self.id}")


def short_enough(wanted: Path, otherwise: Path) -> Path:
    """Return `wanted` when unix sockets fit into it, else `otherwise`."""
    return (
        wanted
        if len(str(wanted).encode()) + len("/exec/containerd/containerd-debug.sock") < SOCKET_PATH_LIMIT
        else otherwise
    )


def cache_dir() -> Path:
    """Return the user's cache directory for this project (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tenantry"
