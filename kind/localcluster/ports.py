"""Host ports of a cluster: host port and node port are the same number, so `http://127.0.0.1:<nodePort>` is right."""

from __future__ import annotations

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
    """Return COUNT free ports, the preferred one first when it is free and not reserved.

    The rest comes from a random place in the range, so that two clusters made at once rarely look at the same ports;
    `reserved` are those of this checkout's other clusters. Raises `Refusal` when the range is used up.
    """
    chosen = [preferred] if preferred is not None and preferred not in reserved and free(preferred) else []
    # Not the demo's: a test must not take them just before the demo comes up.
    kept = {*reserved, *range(DEMO_PORT, DEMO_PORT + COUNT)} - set(chosen)
    if preferred is not None:
        kept = set(reserved)
        candidates = [*range(preferred + 1, NODE_PORTS.stop), *range(NODE_PORTS.start, preferred)]
    else:
        start = chance.randrange(len(NODE_PORTS))
        candidates = [*NODE_PORTS[start:], *NODE_PORTS[:start]]
    for port in candidates:
        if len(chosen) == COUNT:
            break
        if port not in kept and free(port):
            chosen.append(port)
    if len(chosen) < COUNT:
        raise Refusal(
            f"fewer than {COUNT} ports are free between {NODE_PORTS.start} and {NODE_PORTS.stop - 1}",
            "end what listens there (`ss -ltnp` shows it)",
        )
    return tuple(chosen)


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
