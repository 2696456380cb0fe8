"""Connecting to a name with several addresses: a quarter of a second apart, and the first that is there wins (RFC 8305,
"Happy Eyeballs"). uvloop's own ``create_connection`` tries the next one only when the one before has failed.
"""

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

#: RFC 8305 5 recommends 250 ms.
ATTEMPT_DELAY_SECONDS = 0.25

#: A protocol, if not by its bases then by its shape.
P = TypeVar("P")


async def dial(
    factory: Callable[[], P], host: str, port: int, tls: ssl.SSLContext | None, discard: Callable[[P], None]
) -> P:
    """Connect, TLS included. ``discard`` is given what connected too late. Cancelling this cancels every attempt.

    Raises:
        OSError: no address could be connected to (the last failure is raised).
    """
    loop = asyncio.get_running_loop()

    async def attempt(address: str) -> P:
        protocol = cast("Callable[[], asyncio.Protocol]", factory)
        _, made = await loop.create_connection(
            protocol, address, port, ssl=tls, server_hostname=host if tls is not None else None
        )
        return cast("P", made)

    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = _interleaved([(family, str(where[0])) for family, _, _, _, where in found])
    if len(addresses) == 1:
        return await attempt(addresses[0])
    running: set[asyncio.Task[P]] = set()
    failure: BaseException = OSError(f"{host} has no address")
    waiting = iter(addresses)
    try:
        while True:
            address = next(waiting, None)
            if address is not None:
                running.add(loop.create_task(attempt(address)))
            if not running:
                raise failure
            delay = ATTEMPT_DELAY_SECONDS if address is not None else None
            done, running = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            made = [task.result() for task in done if task.exception() is None]
            failure = next((error for task in done if (error := task.exception()) is not None), failure)
            for late in made[1:]:
                discard(late)
            if made:
                return made[0]
    finally:
        for task in running:
            task.cancel()
        for late_task in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(late_task, BaseException):
                discard(late_task)


def _interleaved(addresses: list[tuple[int, str]]) -> list[str]:
    """Families by turns, beginning with the first one's (RFC 8305 4)."""
    if not addresses:
        return []
    first = addresses[0][0]
    ours = [address for family, address in addresses if family == first]
    others = [address for family, address in addresses if family != first]
    mixed = itertools.chain.from_iterable(itertools.zip_longest(ours, others))
    return list(dict.fromkeys(address for address in mixed if address is not None))
