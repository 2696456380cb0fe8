"""Processes on a core of their own, and what the kernel says about them (proc(5))."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

#: Seconds that a process has to end after SIGTERM before it is killed.
PATIENCE_S = 10.0


class Process:
    """A program pinned to one core, in a session of its own, its output in a file. Ends with the `with` block."""

    def __init__(self, argv: Sequence[str | Path], core: int, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *map(str, argv)],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that the process wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ask the process to end, then kill what is left of it and of its children."""
        family = list(self._family())
        if self.running:
            self._popen.terminate()
        try:
            self._popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for pid in family[1:]:
            try:
                if os.getsid(pid) == self._popen.pid:  # still ours: a pid may have been given to somebody else
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def cpu_s(self) -> float:
        """Return the CPU time (user and system) that the process and its children have used, in seconds."""
        return sum(cpu_ticks((PROC / str(pid) / "stat").read_text()) for pid in self._family()) / TICKS_PER_SECOND

    def rss_mb(self) -> float:
        """Return the resident memory of the process and its children, in MB (10^6 bytes)."""
        return sum(resident_kib((PROC / str(pid) / "status").read_text()) for pid in self._family()) * 1024 / 1e6

    def open_files(self) -> int:
        """Return how many files the process itself has open."""
        return len(list((PROC / str(self._popen.pid) / "fd").iterdir()))

    def _family(self) -> Iterator[int]:
        waiting = [self._popen.pid]
        while waiting:
            pid = waiting.pop()
            try:
                for children in (PROC / str(pid) / "task").glob("*/children"):
                    waiting += map(int, children.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
            if (PROC / str(pid)).exists():
                yield pid


def cpu_ticks(stat: str) -> int:
    """Return utime + stime of a /proc/PID/stat line; the name in it may hold spaces and parentheses."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def resident_kib(status: str) -> int:
    """Return VmRSS of a /proc/PID/status text (a zombie has none: 0)."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def machine_s() -> float:
    """Return the seconds of CPU time that everything on this machine has used, threads of the kernel and programs that
    have ended included, and what the hypervisor has taken.

    By the processes' own clocks: those of the cores (in /proc/stat) are samples, off by a tenth where work comes in
    bursts.
    """
    ticks = sum(map(ticks_with_ended_children, _stats()))
    _, *fields = (PROC / "stat").read_text().splitlines()[0].split()
    steal = int(fields[7])
    return (ticks + steal) / TICKS_PER_SECOND


def ticks_with_ended_children(stat: str) -> int:
    """Return utime + stime + cutime + cstime of a /proc/PID/stat line."""
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))


def _stats() -> Iterator[str]:
    for place in PROC.iterdir():
        if place.name.isdigit():
            try:
                yield (place / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Find ports of 127.0.0.1 that are free; all of them are held until the block ends, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for_port(port: int, process: Process, seconds: float = 10.0) -> bool:
    """Wait until somebody listens on a port of 127.0.0.1; False when the process ended or the time is over."""
    deadline = time.monotonic() + seconds
    while process.running and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False
