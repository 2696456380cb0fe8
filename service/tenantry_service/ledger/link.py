"""A connection to Redis for bulk work: many commands in one write, all answers in one go.

Small on purpose: this process reads and deletes thousands of stream entries per call, where a client that makes
objects of each answer costs more than all the rest.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from urllib.parse import unquote, urlsplit

import hiredis

#: Seconds for a whole call, connecting included: bulk answers take milliseconds, so this is a Redis in trouble.
CALL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
_READ_BYTES = 1 << 18

#: Why a node of Redis Cluster is not used: keys live on whichever node their slot is on, and nothing here follows them.
NO_CLUSTER = "is a node of Redis Cluster, which is not supported; name a primary that stands alone (docs/datastores.md)"

Command = tuple[str | bytes | int, ...]


def pack(command: Command) -> bytes:
    """A command as Redis reads it."""
    # Its stubs say that commands have one word, and nothing of the answer.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


def in_cluster(hello: object) -> bool:
    """Whether the answer to HELLO is that of a node of a cluster (https://redis.io/docs/latest/commands/hello/). Every
    user may ask, whatever its rights."""
    return isinstance(hello, list) and dict(zip(hello[::2], hello[1::2], strict=False)).get(b"mode") == b"cluster"


class RedisGone(ConnectionError):  # noqa: N818 - says what happened
    """Redis cannot be asked; the message says why, without the password."""


class RedisRefused(Exception):  # noqa: N818 - says what happened
    """Redis answered with an error."""


class Link:
    """One connection, made when it is first needed and again after every failure. Calls wait for each other."""

    def __init__(self, url: Callable[[], str], call_seconds: float = CALL_SECONDS) -> None:
        """``url`` is asked at every connection attempt, so that a rotated password is taken over:
        ``redis[s]://[user]:password@host:port/db``."""
        self._url = url
        self._call_seconds = call_seconds
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._parser = hiredis.Reader()
        #: Connections made; who remembers what Redis knew looks whether it is still the same.
        self.connections = 0

    async def call(self, commands: Iterable[Command]) -> list[object]:
        """Answers in the commands' order; an error answer is an exception among them.

        Raises:
            RedisGone: no connection, or none that answers in time. Whether the commands were carried out is unknown.
        """
        packed = [pack(command) for command in commands]
        return await self.send(b"".join(packed), len(packed)) if packed else []

    async def one(self, *command: str | bytes | int) -> object:
        """One command's answer.

        Raises:
            RedisGone: see :meth:`call`.
            RedisRefused: the answer is an error.
        """
        (answer,) = await self.call([command])
        return checked(answer)

    async def send(self, packed: bytes, count: int) -> list[object]:
        """Like :meth:`call`, for commands that are packed already."""
        async with self._lock:
            try:
                async with asyncio.timeout(self._call_seconds):
                    if self._writer is None:
                        await self._connect()
                    return await self._exchange(packed, count)
            except (OSError, EOFError, TimeoutError, hiredis.ProtocolError) as error:
                self._drop()
                if isinstance(error, RedisGone):
                    raise
                raise RedisGone(f"{type(error).__name__}: {error}".rstrip(": ")) from error
            except BaseException:
                # Cancelled in between: answers that belong to nobody are on their way.
                self._drop()
                raise

    async def close(self) -> None:
        """Close it; it may be used again."""
        self._drop()

    def _drop(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.transport.abort()

    async def _connect(self) -> None:
        parts = urlsplit(self._url())
        tls = ssl.create_default_context() if parts.scheme == "rediss" else None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise RedisGone("the Redis URL is not like redis://user:password@host:6379/0")
        async with asyncio.timeout(CONNECT_SECONDS):
            self._reader, self._writer = await asyncio.open_connection(
                parts.hostname, parts.port or 6379, ssl=tls, limit=4 * _READ_BYTES
            )
        self._parser = hiredis.Reader()
        hello: list[Command] = []
        if parts.password:
            user = (unquote(parts.username),) if parts.username else ()
            hello.append(("AUTH", *user, unquote(parts.password)))
        database = parts.path.strip("/")
        if database not in ("", "0"):
            hello.append(("SELECT", database))
        # One after the other: a refused password must not look like a missing one.
        for command in (*hello, ("HELLO",)):
            (answer,) = await self._exchange(pack(command), 1)
            if isinstance(answer, hiredis.ReplyError):
                raise RedisGone(f"Redis refuses the connection: {answer}")
            if in_cluster(answer):
                raise RedisGone(f"{parts.hostname}:{parts.port or 6379} {NO_CLUSTER}")
        self.connections += 1

    async def _exchange(self, packed: bytes, count: int) -> list[object]:
        assert self._writer is not None
        assert self._reader is not None
        self._writer.write(packed)
        answers: list[object] = []
        parser, reader = self._parser, self._reader
        while len(answers) < count:
            answer = parser.gets()
            if answer is not False:
                answers.append(answer)
                continue
            data = await reader.read(_READ_BYTES)
            if not data:
                raise EOFError("the connection was closed")
            parser.feed(data)
        for answer in answers:
            # Not a fault of these commands: nothing works now.
            if isinstance(answer, hiredis.ReplyError) and str(answer).startswith(("LOADING", "NOAUTH", "MASTERDOWN")):
                raise RedisGone(str(answer))
        return answers


def checked(answer: object) -> object:
    """The answer itself.

    Raises:
        RedisRefused: it is an error.
    """
    if isinstance(answer, hiredis.ReplyError):
        raise RedisRefused(str(answer))
    return answer
