"""One connection to Redis: commands out, replies back in their order."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import hiredis

#: What Redis says: a refusal is an error that is returned and not raised.
Reply = bytes | int | list["Reply"] | hiredis.HiredisError | None


def pack(*words: bytes | int) -> bytes:
    """A command as it is written."""
    # hiredis' stubs say that commands have one word, and nothing of what comes back.
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


class Asker:
    """Who waits for the reply of a command: told what it was, or that it will not come and why (then nobody knows
    whether Redis carried the command out)."""

    __slots__ = ("answered", "lost")

    def __init__(self, answered: Callable[[Reply], None], lost: Callable[[str], None]) -> None:
        self.answered = answered
        self.lost = lost


class Connection:
    """See the module. An :class:`asyncio.Protocol` by its shape; belongs to the loop's thread."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._replies = hiredis.Reader()
        self._waiting: deque[tuple[float, Asker]] = deque()
        self._loop = asyncio.get_running_loop()
        self._reason = "the connection was closed by Redis"
        self._idle: Callable[[], None] | None = None
        self.closed: asyncio.Future[str] = self._loop.create_future()

    @property
    def oldest(self) -> float | None:
        """When the command that waits longest was sent (loop time); None if none waits."""
        return self._waiting[0][0] if self._waiting else None

    def send(self, data: bytes, askers: tuple[Asker, ...]) -> None:
        """Write commands, each with somebody who waits for its reply. Must not be called once it is closed."""
        now = self._loop.time()
        self._waiting.extend([(now, asker) for asker in askers])
        self._transport.write(data)

    def drop(self, reason: str) -> None:
        """Cut it: who still waits is told so."""
        if not self.closed.done():
            self._reason = reason
            self._transport.abort()

    def when_idle(self, told: Callable[[], None]) -> None:
        """Tell, once, when nobody waits any more: at once, or later."""
        self._idle = told
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None and not self._waiting:
            told, self._idle = self._idle, None
            told()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, TLS included."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Replies."""
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not False:
                if not self._waiting:
                    self.drop("Redis answered what it was not asked")
                    return
                self._waiting.popleft()[1].answered(reply)
        except hiredis.ProtocolError as error:
            self.drop(f"Redis does not speak its protocol: {error}")
        self._tell_idle()

    def eof_received(self) -> bool:
        """Redis closes: so do we."""
        return False

    def pause_writing(self) -> None:
        """What waits to be written is bounded by the time that we wait for answers."""

    def resume_writing(self) -> None:
        """See there."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by whomever."""
        if self.closed.done():
            return
        if exc is not None:
            self._reason = f"the connection to Redis was lost: {exc}"
        self.closed.set_result(self._reason)
        waiting, self._waiting = self._waiting, deque()
        for _, asker in waiting:
            asker.lost(self._reason)
        self._tell_idle()


def awaited() -> tuple[Asker, asyncio.Future[Reply]]:
    """An asker for one who awaits the reply; raises `ConnectionError` there if none comes."""
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answered(reply: Reply) -> None:
        if not future.done():
            future.set_result(reply)

    def lost(reason: str) -> None:
        if not future.done():
            future.set_exception(ConnectionError(reason))

    return Asker(answered, lost), future
