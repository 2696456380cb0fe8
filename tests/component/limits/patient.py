"""`tenantry serve` as a process whose limiter waits for Redis: a busy machine may keep Redis from answering in time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.component.service.harness import Program, program
from tests.ports import free_port

#: The command itself, but for the seconds that Redis has.
SERVE = """
import sys
from tenantry.__main__ import main
from tenantry_service.limits import courier, link
link.TIMEOUT_SECONDS = link.CONNECT_SECONDS = courier.TIMEOUT_SECONDS = 30.0
sys.exit(main(["serve", *sys.argv[1:]]))
"""


@contextmanager
def patient_service_program(directory: Path, *flags: str) -> Iterator[Program]:
    """See the module."""
    port = free_port()
    argv = [sys.executable, "-c", SERVE, "--host", "127.0.0.1", "--port", str(port), *flags]
    with program(directory, "service", argv, port) as running:
        yield running
