"""HTTP/1.1 to one server over kept connections, one exchange at a time on each.

A tenant costs some twenty small requests. aiohttp's client, made for everything that a request can be, takes five times
the CPU for each of them, which is a quarter of all that the operator does. Here is what the API server needs: bodies of
known length out, bodies of known length or in chunks in, and streams. No redirects, cookies, proxies or compression.
"""

import asyncio
import re
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

#: Seconds that a connection is kept without a request. Below what servers and load balancers keep theirs (60 and more).
KEPT = 15.0
CONNECT_TIMEOUT = 5.0
#: Bytes of a stream that may wait for its reader before the connection is read no further.
HIGH_WATER = 1 << 20

_NOT_IN_A_TARGET = re.compile(r"[^\x21-\x7e]")
_NOT_IN_A_VALUE = re.compile(r"[^\x20-\x7e]")


class ConnectionEnded(Exception):  # noqa: N818 - says what happened
    """The connection cannot be made, or has ended before the answer has. ``unheard``: nothing of an answer had come."""

    def __init__(self, message: str, *, unheard: bool = False) -> None:
        super().__init__(message)
        self.unheard = unheard


@dataclass(slots=True)
class Answer:
    """What the server said. Names of headers are lower case; ``body`` is empty as long as it is streamed."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class _Connection(asyncio.Protocol):
    """One connection. What arrives goes through the parser, whose callbacks are the ``on_`` methods."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._chunks: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._for_head = self._head = self._complete = self._heard = self._paused = False
        self._lasting = True
        self._waiting_bytes = 0
        self._lost: str | None = None
        self.since = 0.0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no such class

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nothing was asked
            self.close("the server spoke unasked")
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close(f"no HTTP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = self._lost or str(error or "") or "the server has closed the connection"
        self._wake()

    # the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._answer is not None
        self._answer.status = self._parser.get_status_code()
        self._head = self._answer.status >= 200
        if self._for_head:
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        if self._for_head:
            self._waiting_bytes += len(body)
            if self._waiting_bytes > HIGH_WATER and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
            self._wake()

    def on_message_complete(self) -> None:
        if not self._head:  # 100 Continue and its like
            assert self._answer is not None
            self._answer.headers.clear()
            return
        self._complete, self._lasting = True, self._parser.should_keep_alive()  # which it forgets after this
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # our side

    async def ask(self, request: bytes, *, for_head: bool = False) -> Answer:
        """Send a request; its answer, or with ``for_head`` as much of it as comes before the body."""
        assert self._transport is not None
        answer = self._answer = Answer()
        self._for_head, self._head, self._complete, self._heard = for_head, False, False, False
        if self._lost is None:
            self._transport.write(request)
        while not (self._complete or (for_head and self._head)):
            await self._more()
        if not for_head:
            answer.body = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            self._answer = None
        return answer

    async def chunks(self, silence: float) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises TimeoutError when nothing comes for so many seconds."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._waiting_bytes -= len(chunk)
                if self._paused and self._waiting_bytes <= HIGH_WATER // 2 and self._lost is None:
                    assert self._transport is not None
                    self._paused = False
                    self._transport.resume_reading()
                yield chunk
            if self._complete:
                return
            async with asyncio.timeout(silence):
                await self._more()

    async def _more(self) -> None:
        """Wait until something has come. Raises ConnectionEnded when nothing more will."""
        if self._lost is None:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        self._check()

    def _check(self) -> None:
        if self._lost is not None and not self._complete and not (self._for_head and self._chunks):
            raise ConnectionEnded(self._lost, unheard=not self._heard)

    def reusable(self, now: float) -> bool:
        """Whether another request may be sent."""
        return self._lost is None and now - self.since < KEPT

    def is_spent(self) -> bool:
        """Whether this was its last answer: the server said so, or has not read all that it was sent."""
        assert self._transport is not None
        return self._lost is not None or not self._lasting or self._transport.get_write_buffer_size() > 0

    def close(self, why: str = "closed by us") -> None:
        """End it at once, in whatever state it is."""
        self._lost = self._lost or why
        if self._transport is not None:
            self._transport.abort()
        self._wake()


class Server:
    """One server, for example ``https://10.0.0.1:6443``. Any number of requests at a time; the caller bounds them."""

    def __init__(self, url: str, tls: ssl.SSLContext | bool) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._tls: ssl.SSLContext | None = None
        if secure:
            self._tls = tls if isinstance(tls, ssl.SSLContext) else ssl.create_default_context()
        self._prefix = parts.path.rstrip("/")
        host = parts.netloc.rpartition("@")[2]
        # Said and not left out: what stands between us and the server may ask it for compressed bodies otherwise.
        self._common = f"Host: {host}\r\nUser-Agent: tenantry\r\nAccept-Encoding: identity\r\n"
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()

    async def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """One exchange. Raises ConnectionEnded.

        A kept connection may end while we write to it. Reads are then asked once more over a new one; of a write nobody
        knows whether it was carried out.
        """
        data = self._encoded(method, target, headers, body)
        while True:
            connection, kept = await self._connection()
            try:
                answer = await connection.ask(data)
            except ConnectionEnded as ended:
                self._drop(connection)
                if kept and ended.unheard and method == "GET":
                    continue
                raise
            except BaseException:
                self._drop(connection)
                raise
            self._keep(connection)
            return answer

    @asynccontextmanager
    async def stream(
        self, target: str, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """The head of an answer and its body as it comes, over a connection of its own. Raises ConnectionEnded, and
        TimeoutError when nothing comes for ``silence`` seconds."""
        connection = await self._connected()
        try:
            async with asyncio.timeout(silence):
                head = await connection.ask(self._encoded("GET", target, headers, None), for_head=True)
            yield head, connection.chunks(silence)
        finally:
            self._drop(connection)

    def close(self) -> None:
        """End all connections."""
        self._idle.clear()
        while self._open:
            self._open.pop().close()

    def _encoded(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        if _NOT_IN_A_TARGET.search(target) or any(_NOT_IN_A_VALUE.search(value) for value in headers.values()):
            raise ValueError("a request with a character that cannot stand in its head")
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {self._prefix}{target} HTTP/1.1\r\n{self._common}{lines}{length}\r\n".encode("ascii")
        return head if body is None else head + body

    async def _connection(self) -> tuple[_Connection, bool]:
        """A connection, and whether it was used before."""
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable(now):
                return connection, True
            self._drop(connection)
        return await self._connected(), False

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        except TimeoutError as error:
            raise ConnectionEnded(f"not connected within {CONNECT_TIMEOUT:.0f} s") from error
        except OSError as error:  # ssl's errors are such, too
            raise ConnectionEnded(f"cannot connect: {error}") from error
        self._open.add(connection)
        return connection

    def _keep(self, connection: _Connection) -> None:
        if connection.is_spent():
            self._drop(connection)
            return
        now = connection.since = time.monotonic()
        while self._idle and not self._idle[0].reusable(now):
            self._drop(self._idle.popleft())
        self._idle.append(connection)

    def _drop(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.close()
