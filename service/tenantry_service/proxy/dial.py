"""Connecting to a name with several addresses: a quarter of a second apart, and the first that is there wins (RFC 8305,
"Happy Eyeballs"). uvloop's own ``create_connection`` tries the next one only when the one before has failed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from tenantry_service.proxy.addresses import Addresses

#: RFC 8305 5 recommends 250 ms.
ATTEMPT_DELAY_SECONDS = 0.25

#: A protocol, if not by its bases then by its shape.
P = TypeVar("P")


async def dial(
    factory: Callable[[], P], where: Addresses, tls: ssl.SSLContext | None, discard: Callable[[P], None]
) -> P:
    """Connect, TLS included. ``discard`` is given what connected too late. Cancelling this cancels every attempt.

    Raises:
        OSError: no address could be connected to (the last failure is raised), or there is none.
        ValueError: the host is nothing that could be a name.
    """
    loop, host, port = asyncio.get_running_loop(), where.host, where.port

    async def attempt(address: str) -> P:
        protocol = cast("Callable[[], asyncio.Protocol]", factory)
        _, made = await loop.create_connection(
            protocol, address, port, ssl=tls, server_hostname=host if tls is not None else None
        )
        return cast("P", made)

    addresses = await where.find()
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
