"""The way to a tenant's pods: which of them take connections, and the connections themselves."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from tenantry_service.activator.telling import Telling

#: Seconds for a connection to a pod.
CONNECT = 1.0
#: Bytes that wait to be taken before the other side is held up.
HIGH_WATER = 64 * 1024
#: Pods that are remembered to take connections.
MAX_REMEMBERED = 1000


class Client(Protocol):
    """Whom a pod answers."""

    def send(self, data: bytes) -> None:
        """Part of the answer."""

    def hold(self) -> None:
        """The pod takes the request slowly."""

    def take(self) -> None:
        """It has caught up."""

    def finish(self) -> None:
        """The answer is complete."""

    def lost(self) -> None:
        """The pod went away before it said a word."""


class PodDoors:
    """Which pods take connections. While that is not known of one, one request at a time finds out, for all."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._trying: set[str] = set()

    async def reach(self, addresses: Sequence[str], pipe: Callable[[], "Pipe"]) -> "Pipe | None":
        """A connection to one of the pods, if there is one that takes it."""
        for address in addresses:
            if not self._may_try(address):
                continue
            host, _, port = address.rpartition(":")
            opened = False
            try:
                async with asyncio.timeout(CONNECT):
                    _, made = await asyncio.get_running_loop().create_connection(pipe, host.strip("[]"), int(port))
                opened = True
            except (OSError, TimeoutError):
                continue
            finally:
                self._tried(address, opened=opened)
            return made
        return None

    def _may_try(self, address: str) -> bool:
        if address in self._open:
            return True
        if address in self._trying:
            return False
        self._trying.add(address)
        return True

    def _tried(self, address: str, *, opened: bool) -> None:
        self._trying.discard(address)
        if opened:
            if len(self._open) >= MAX_REMEMBERED:
                self._open.clear()  # they are found out again
            self._open.add(address)
        else:
            self._open.discard(address)


class Pipe(asyncio.Protocol):
    """The connection to a pod."""

    def __init__(self, door: Client, *, told: bool) -> None:
        self._door = door
        self._transport: asyncio.Transport
        self._telling = Telling() if told else None
        self._heard = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pod has taken it."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def write(self, data: bytes) -> None:
        """Part of the request."""
        self._transport.write(data)

    def close(self) -> None:
        """The client is gone."""
        self._transport.abort()

    def pause(self) -> None:
        """Read no more."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Part of the answer."""
        self._heard = True
        out = data if self._telling is None else self._telling.feed(data)
        if out:
            self._door.send(out)

    def connection_lost(self, exc: Exception | None) -> None:
        """The pod has closed: that is how an answer ends here."""
        if not self._heard:
            self._door.lost()
            return
        if self._telling is not None and (rest := self._telling.end()):
            self._door.send(rest)
        self._door.finish()

    def pause_writing(self) -> None:
        """The pod takes it slowly."""
        self._door.hold()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._door.take()
