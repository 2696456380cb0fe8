"""A connection to Redis: requests out, answers in (RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/).

The operator asks Redis a few things a minute, so one connection and one request after the other will do.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import hiredis

from tenantry_operator.plan.store import Address, address

#: Seconds to connect, and for one round trip, however many commands are in it.
CONNECT, ANSWER = 3.0, 10.0
_CHUNK = 1 << 16

Answer = None | int | str | list["Answer"]
Command = tuple[str, ...]
#: Before it is known whether all went well.
_Raw = Answer | hiredis.ReplyError


_NO_CLUSTER = (
    "is a node of Redis Cluster, which is not supported; name a primary that stands alone (docs/datastores.md)"
)


class StoreError(Exception):
    """Redis cannot be reached, or refuses. The message holds neither URL nor password."""


class Refused(StoreError):  # noqa: N818 - it says what Redis did
    """Redis answered with an error."""


class Connection:
    """Made when it is needed, and again after it broke. The URL is read from its file each time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._turn = asyncio.Lock()
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._answers = hiredis.Reader()

    async def ask(self, *commands: Command) -> list[Answer]:
        """All answers, in order, from one round trip. Every command must be one that may be repeated.

        Raises StoreError, also when one of the commands was refused.
        """
        async with self._turn:
            reused = self._stream is not None
            try:
                found = await self._exchange(commands)
            except StoreError:
                if not reused:
                    raise
                found = await self._exchange(commands)  # the old connection may have ended long ago
        answers: list[Answer] = []
        for each in found:
            if isinstance(each, hiredis.ReplyError):
                raise Refused(f"Redis refuses: {each}")
            answers.append(each)
        return answers

    async def close(self) -> None:
        """End the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[1].close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await stream[1].wait_closed()

    async def _exchange(self, commands: Sequence[Command]) -> list[_Raw]:
        try:
            if self._stream is None:
                async with asyncio.timeout(CONNECT):
                    await self._connect()
            async with asyncio.timeout(ANSWER):
                return await self._send(commands)
        except (OSError, TimeoutError, EOFError, hiredis.ProtocolError) as error:
            self._drop()
            raise StoreError(f"Redis does not answer: {error or type(error).__name__}") from error
        except BaseException:
            self._drop()  # an answer that nobody has read would be taken for that to the next request
            raise

    async def _connect(self) -> None:
        to = self._address()
        tls = ssl.create_default_context() if to.tls else None
        self._stream = await asyncio.open_connection(to.host, to.port, ssl=tls, limit=_CHUNK)
        self._answers = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        hello: list[Command] = []
        if to.password:
            hello.append(("AUTH", to.user, to.password) if to.user else ("AUTH", to.password))
        if to.database:
            hello.append(("SELECT", str(to.database)))
        hello.append(("HELLO",))
        for each in await self._send(hello):
            if isinstance(each, hiredis.ReplyError):
                self._drop()
                raise Refused(f"Redis refuses the operator: {each}")
            if _in_cluster(each):
                self._drop()
                raise Refused(f"{to.host}:{to.port} {_NO_CLUSTER}")

    def _address(self) -> Address:
        try:
            return address(self._file.read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"--redis-file: {error}") from error

    async def _send(self, commands: Sequence[Command]) -> list[_Raw]:
        assert self._stream is not None
        reader, writer = self._stream
        writer.write(b"".join(hiredis.pack_command(cast("tuple[str]", command)) for command in commands))
        await writer.drain()
        found: list[_Raw] = []
        while len(found) < len(commands):
            answer = self._answers.gets()
            if answer is not False:
                found.append(cast("_Raw", answer))
            elif data := await reader.read(_CHUNK):
                self._answers.feed(data)
            else:
                raise EOFError("the connection was closed")
        return found

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None


def _in_cluster(hello: _Raw) -> bool:
    """Whether the answer to HELLO is a cluster's node's (https://redis.io/docs/latest/commands/hello/)."""
    return isinstance(hello, list) and ("mode", "cluster") in zip(hello[::2], hello[1::2], strict=False)
