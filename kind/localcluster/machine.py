"""Facts about this machine that decide how the cluster is set up, and the refusals that follow from them."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from localcluster.steps import Refusal

#: Free disk space below which nothing is started: node image, three nodes and images take some 5 GiB of it.
MIN_FREE_BYTES = 8 * 2**30

#: Machine names (as uname prints them) -> Go's and Debian's name. No other architecture has been tried.
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

#: cgroup v1 hierarchies that kubelet and runc cannot do without.
V1_CONTROLLERS = frozenset({"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids"})
#: The same for v2, as listed in cgroup.controllers.
V2_CONTROLLERS = frozenset({"cpu", "cpuset", "memory", "pids"})


class Cgroups(Enum):
    """Which cgroup hierarchy the machine has."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True)
class Machine:
    """What was found out; see `look`."""

    arch: str
    cgroups: Cgroups
    missing_capabilities: frozenset[int]
    root: bool
    distribution: str
    codename: str

    @property
    def debian_like(self) -> bool:
        return bool({"debian", "ubuntu"} & set(self.distribution.split())) and shutil.which("apt-get") is not None


def look() -> Machine:
    """Look at the machine. Raises `Refusal` for an architecture or cgroup set-up that cannot carry the cluster."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return Machine(
        arch=architecture(platform.machine()),
        cgroups=cgroups(),
        missing_capabilities=missing_capabilities(
            Path("/proc/self/status").read_text(), int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        ),
        root=os.geteuid() == 0,
        distribution=f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".strip(),
        codename=release.get("VERSION_CODENAME", ""),
    )


def architecture(machine: str) -> str:
    """Return Go's name for a machine name. Raises `Refusal` for one that has not been tried."""
    try:
        return ARCHITECTURES[machine]
    except KeyError:
        raise Refusal(
            f"the local cluster runs on amd64 and arm64, and this machine is {machine or 'of an unknown kind'}",
            "use a machine of one of these architectures, or `tenantry serve`, which needs no cluster",
        ) from None


def missing_capabilities(status: str, last: int) -> frozenset[int]:
    """Return the numbers (capabilities(7)) up to `last` that the bounding set in /proc/self/status lacks."""
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    bounding = int(line.split()[1], 16)
    return frozenset(number for number in range(last + 1) if not bounding >> number & 1)


def cgroups(root: Path = Path("/sys/fs/cgroup")) -> Cgroups:
    """Tell the hierarchy below `root`. Raises `Refusal` when controllers are missing."""
    unified = root / "cgroup.controllers"
    if unified.exists():
        missing = V2_CONTROLLERS - set(unified.read_text().split())
        found = Cgroups.V2
    else:
        missing = frozenset(name for name in V1_CONTROLLERS if not (root / name).is_dir())
        found = Cgroups.V1
    if missing:
        raise Refusal(
            f"containers need the cgroup controllers {', '.join(sorted(missing))}, which are not mounted on {root}",
            "boot with systemd.unified_cgroup_hierarchy=1, or give this container or VM its cgroups "
            "(docker run --privileged --cgroupns=host); `tenantry serve` needs no cluster at all",
        )
    return found


def require_disk(path: Path, needed: int = MIN_FREE_BYTES) -> None:
    """Raise `Refusal` when the file system of `path` (or of its nearest existing parent) has too little room."""
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    if free < needed:
        raise Refusal(
            f"{free / 2**30:.1f} GiB are free below {path}, and the cluster needs {needed / 2**30:.0f} GiB",
            "make room there, or set TENANTRY_STATE_DIR (and XDG_CACHE_HOME for what is built) to a larger disk",
        )
