"""What an engine of ours may leave behind when it is killed, found by marks that only it carries, and removed.

Processes are found by our run directory in their arguments and by our cgroup, mounts by our directories, the bridge by
its name. Nothing is ever found by a program's name alone: another Docker on this machine has the same ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

#: Lazy umount (umount2(2)): the mount goes from the tree at once, also while something still looks at it.
MNT_DETACH = 2

CGROUPS = Path("/sys/fs/cgroup")

#: Where containerd's shims put their sockets whatever the address of their containerd is (containerd 1.4 and later).
SHIM_SOCKETS = Path("/run/containerd/s")


def processes_with(marks: Iterable[str], arguments: Mapping[int, list[str]]) -> list[int]:
    """Return the processes that have an argument in which one of the marks (a path of ours) stands."""
    wanted = list(marks)
    return sorted(pid for pid, argv in arguments.items() if any(mark in word for word in argv for mark in wanted))


def all_arguments() -> dict[int, list[str]]:
    """Return the arguments of every process but this one."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found[int(place.name)] = words[:-1]
    return found


def engine_processes(run_dir: Path) -> list[int]:
    """Return dockerd, its containerd and the shims that belong to this run directory."""
    marks = (f"{run_dir}/", f"{run_dir}=")
    programs = ("dockerd", "containerd", "containerd-shim")
    known = all_arguments()
    return [pid for pid in processes_with(marks, known) if Path(known[pid][0]).name.startswith(programs)]


def cgroup_dirs(name: str, root: Path = CGROUPS) -> list[Path]:
    """Return our cgroup in every hierarchy, and all below, the deepest first."""
    tops = [place for place in (root / name, *root.glob(f"*/{name}")) if place.is_dir()]
    below = [path for top in tops for path in top.rglob("*") if path.is_dir()]
    return sorted([*tops, *below], key=lambda path: len(path.parts), reverse=True)


def container_processes(cgroup: str) -> list[int]:
    """Return every process in our cgroup or below it."""
    found: set[int] = set()
    for place in cgroup_dirs(cgroup):
        with contextlib.suppress(OSError):
            found.update(int(line) for line in (place / "cgroup.procs").read_text().split())
    return sorted(found)


def kill(pids: Iterable[int]) -> None:
    """Send SIGKILL; a process that is gone already is fine."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_all(run_dir: Path, cgroup: str, patience: float = 15) -> None:
    """Kill the engine's processes, then the containers', until none is left. Raises `TimeoutError` if some stay."""
    deadline = time.monotonic() + patience
    while left := engine_processes(run_dir) or container_processes(cgroup):
        kill(left)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {left} do not end")
        time.sleep(0.05)


def mounts_below(mountinfo: str, directories: Iterable[Path]) -> list[str]:
    """Return the mount points in a /proc/self/mountinfo text that are at or below the directories, deepest first."""
    tops = [str(directory) for directory in directories]
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    ours = [point for point in points if any(point == top or point.startswith(f"{top}/") for top in tops)]
    return sorted(ours, key=len, reverse=True)


def unmount_all(directories: Iterable[Path]) -> None:
    """Detach every mount at or below the directories."""
    libc = ctypes.CDLL(None, use_errno=True)
    for point in mounts_below(Path("/proc/self/mountinfo").read_text(), directories):
        libc.umount2(point.encode(), MNT_DETACH)


def remove_cgroups(cgroup: str) -> None:
    """Remove our (by now empty) cgroups; the kernel may need a moment for those whose processes just died."""
    for _ in range(40):
        for place in cgroup_dirs(cgroup):
            with contextlib.suppress(OSError):
                place.rmdir()
        if not cgroup_dirs(cgroup):
            return
        time.sleep(0.05)


def shim_socket(containerd: Path, container: str) -> Path:
    """Return the socket of the shim that serves a Docker container (containerd, runtime/v2/shim, SocketAddress)."""
    name = hashlib.sha256(f"{containerd}/moby/{container}".encode()).hexdigest()
    return SHIM_SOCKETS / name


def remove_shim_sockets(run_dir: Path, data_root: Path) -> None:
    """Remove the sockets of killed shims, which only a clean end removes, and their directory once it is empty."""
    containers = data_root / "containers"
    for container in containers.iterdir() if containers.is_dir() else ():
        shim_socket(run_dir / "exec/containerd/containerd.sock", container.name).unlink(missing_ok=True)
    for place in (SHIM_SOCKETS, SHIM_SOCKETS.parent):
        with contextlib.suppress(OSError):
            place.rmdir()


def delete_link(name: str) -> None:
    """Delete a network interface (rtnetlink(7), RTM_DELLINK), when there is one of that name."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return
    rtm_dellink, request_ack = 17, 0x5
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    message = struct.pack("IHHII", 16 + len(body), rtm_dellink, request_ack, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:  # protocol 0: NETLINK_ROUTE
        netlink.settimeout(5)
        netlink.sendto(message, (0, 0))
        answer = netlink.recv(4096)
    error = struct.unpack_from("i", answer, 16)[0]
    if error:
        raise OSError(-error, f"cannot delete the network interface {name}: {os.strerror(-error)}")


def remove_dir(path: Path) -> None:
    """Remove a directory of ours with all that is in it."""
    if path.exists():
        shutil.rmtree(path)
