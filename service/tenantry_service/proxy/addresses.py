"""The addresses of a name: asked for anew for each connection, once for all that begin meanwhile.

A resolver that lost a packet answers after five seconds (resolv.conf(5), ``timeout``), one that is gone never does.
Whoever has known the name's addresses before does not wait for it, and takes those.
"""

import asyncio
import itertools
import logging
import socket

#: Seconds for an answer, where an earlier one can be used instead. Resolvers nearby need milliseconds.
PATIENCE_SECONDS = 0.5

log = logging.getLogger(__name__)


class Addresses:
    """What one host's name means, now or when it could last be told."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._last: list[str] = []
        self._asking: asyncio.Task[list[str]] | None = None
        # A resolver's outage is logged when it begins and when it ends, not once per connection.
        self._answered = True

    async def find(self) -> list[str]:
        """The addresses, in the order in which they are to be tried. Cancelling this stops nobody else's waiting.

        Raises:
            OSError: there is no such name; or it could not be told, and never could before.
            ValueError: it is nothing that could be a name.
        """
        asking = self._asking
        if asking is None:
            asking = self._asking = asyncio.get_running_loop().create_task(self._ask())
            asking.add_done_callback(self._told)
        if not self._last:
            return await asyncio.shield(asking)
        await asyncio.wait((asking,), timeout=PATIENCE_SECONDS)
        if not asking.done():
            self._note(f"no answer for {PATIENCE_SECONDS} s")
            return self._last
        error = asking.exception()
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            self._note(str(error))
            return self._last
        return asking.result()

    async def _ask(self) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return _interleaved([(family, str(where[0])) for family, _, _, _, where in found])

    def _told(self, asking: asyncio.Task[list[str]]) -> None:
        self._asking = None
        if not asking.cancelled() and asking.exception() is None:
            self._last = asking.result()
            self._note("")

    def _note(self, trouble: str) -> None:
        answered = not trouble
        if answered is self._answered:
            return
        self._answered = answered
        if answered:
            log.info("name resolved again", extra={"host": self.host})
        else:
            log.warning("name not resolved, its last addresses are used", extra={"host": self.host, "reason": trouble})


def _interleaved(addresses: list[tuple[int, str]]) -> list[str]:
    """Families by turns, beginning with the first one's (RFC 8305 4)."""
    if not addresses:
        return []
    first = addresses[0][0]
    ours = [address for family, address in addresses if family == first]
    others = [address for family, address in addresses if family != first]
    mixed = itertools.chain.from_iterable(itertools.zip_longest(ours, others))
    return list(dict.fromkeys(address for address in mixed if address is not None))
