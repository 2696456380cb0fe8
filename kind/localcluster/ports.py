"""Host ports of a cluster: host port and node port are the same number, so `http://127.0.0.1:<nodePort>` is right."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Callable, Collection

from localcluster.steps import Refusal

#: What Kubernetes hands out as node ports (kube-apiserver --service-node-port-range).
NODE_PORTS = range(30000, 32768)

#: The demo's first port: fixed, so that a README and a bookmark can name it, unless somebody has it.
DEMO_PORT = 30080

#: Ports mapped per cluster. kind cannot add any later.
COUNT = 8


def is_free(port: int) -> bool:
    """Tell whether nothing listens on 127.0.0.1 (or everywhere) at the port."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose(
    preferred: int | None, free: Callable[[int], bool], chance: random.Random, reserved: Collection[int] = ()
) -> tuple[int, ...]:
    """Return COUNT free ports, none of them `reserved` (those of this checkout's other clusters).

    With a preferred port they are the first free ones from there on; else they begin at a random place, so that two
    clusters made at once rarely look at the same ports, and leave out those that the demo would like to have. Raises
    `Refusal` when the range is used up.
    """
    avoided = set(reserved)
    if preferred is None:
        avoided.update(range(DEMO_PORT, DEMO_PORT + COUNT))
    first = (preferred or chance.choice(NODE_PORTS)) - NODE_PORTS.start
    found = (port for port in (*NODE_PORTS[first:], *NODE_PORTS[:first]) if port not in avoided and free(port))
    chosen = tuple(itertools.islice(found, COUNT))
    if len(chosen) < COUNT:
        raise Refusal(
            f"fewer than {COUNT} ports are free between {NODE_PORTS.start} and {NODE_PORTS.stop - 1}",
            "end what listens there (`ss -ltnp` shows it)",
        )
    return chosen


def require(port: int, free: Callable[[int], bool] = is_free) -> int:
    """Return a port that was asked for by number. Raises `Refusal` when it is taken or no node port."""
    if port not in NODE_PORTS:
        raise Refusal(
            f"{port} is no node port",
            f"name a port between {NODE_PORTS.start} and {NODE_PORTS.stop - 1}, or none to get a free one",
        )
    if not free(port):
        raise Refusal(
            f"port {port} on 127.0.0.1 is taken",
            f"end what listens there (`ss -ltnp sport = :{port}` shows it), or leave out --port to get a free one",
        )
    return port
