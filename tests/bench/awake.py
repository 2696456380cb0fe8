"""Cores that stay awake while something is measured.

A core with nothing to do is put to sleep, and waking it takes from 1 us on bare metal to 100 us and more in a nested
virtual machine. At one connection every message wakes a core, so that all proxies are measured at the speed of the
hypervisor. Benchmarks of latency therefore forbid it, for everything that they measure (Linux:
Documentation/power/pm_qos_interface.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WISHES = Path("/dev/cpu_dma_latency")
_MICROSECONDS = struct.pack("i", 0)


@contextmanager
def cores(*, awake: bool) -> Iterator[None]:
    """Keep all cores awake as long as the block, if that is wanted and the machine lets us; prints whether they are."""
    if not awake:
        print("cores may sleep", flush=True)
        yield
        return
    try:
        wishes = _WISHES.open("wb", buffering=0)
    except OSError as error:
        print(f"cores may sleep: {_WISHES} cannot be written ({error.strerror}); be root", flush=True)
        yield
        return
    with wishes:
        wishes.write(_MICROSECONDS)
        print("cores stay awake", flush=True)
        yield
