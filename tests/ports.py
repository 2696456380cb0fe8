"""Ports for programs that take theirs a while after it was chosen."""

import itertools
import random
import socket
from contextlib import suppress

#: Kernels give these to nobody who asks for any (connections, too, have one), and Kubernetes to no Service.
PORTS = range(20_000, 30_000)
_next = itertools.count(random.randrange(len(PORTS)))


def free_port(address: str = "127.0.0.1") -> int:
    """A port that is free, and still is when the program that gets it has started, or has ended and comes back."""
    for _ in PORTS:
        port = PORTS[next(_next) % len(PORTS)]
        with suppress(OSError), socket.create_server((address, port)):
            return port
    raise OSError(f"no free port at {address}")
