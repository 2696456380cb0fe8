"""HTTP/1.1 to upstreams: a bounded pool of kept-alive connections per address, httptools as parser.

A request is handed over as finished bytes, the answer comes back as calls on a :class:`Listener`, all that one read of
the socket brought together. Names are resolved for each new connection. No task per request: only connecting takes one.
"""

import asyncio
import logging
import ssl
from collections import deque
from typing import Protocol, cast

import httptools

from tenantry_service.proxy.messages import PLAIN_CONNECTION, Gone, HeaderList, ResponseHead
from tenantry_service.proxy.snapshot import Endpoint

#: Connections to one address; as many as the OpenAI SDK allows itself. More requests wait in line.
MAX_CONNECTIONS = 1000
#: An idle connection is closed after this. Servers close theirs after 5 s (uvicorn) to 75 s (nginx), and say so first.
IDLE_SECONDS = 30.0
#: The exchange's own timer is shorter; this only makes sure that no attempt outlives everybody.
CONNECT_SECONDS = 30.0
#: The most of an answer's head; llhttp sets no limit of its own.
MAX_HEAD_BYTES = 128 * 1024

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Whoever waits for an answer."""

    def upstream_sent(self, handle: "Handle") -> None:
        """The request is written; from now on ``handle`` stands for it."""

    def upstream_read(self, head: ResponseHead | None, data: bytes, *, end: bool) -> None:
        """What one read of the socket brought: perhaps status and headers, perhaps body, perhaps the end."""

    def upstream_closed(self) -> None:
        """The connection was closed in good order, which is the end of an answer that has no other."""

    def upstream_gone(self, gone: Gone) -> None:
        """There will be no more."""


class Handle(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Nobody wants the answer any more; no call comes after this."""

    def pause(self) -> None:
        """Read no further: the client is slow."""

    def resume(self) -> None:
        """Read on."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._listener: Listener | None = None
        self._paused = False
        self.closed = False
        self.idle_since = 0.0
        self._reset()

    def _reset(self) -> None:
        self._headers: HeaderList = []
        self._length: int | None = None
        self._chunked = False
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._head_told = False
        self._body: list[bytes] = []
        self._ended = False
        self._reusable = False
        self._names_hops = False

    # What the pool and the exchange's driver do.

    def send(self, request: bytes, listener: Listener) -> None:
        """Write a request. The connection must be idle."""
        self._reset()
        self._listener = listener
        self._transport.write(request)
        listener.upstream_sent(self)

    def cancel(self) -> None:
        """Close: an answer cannot be left half-read on a connection that shall be used again."""
        self._listener = None
        self._close()

    def pause(self) -> None:
        """Stop reading."""
        if not self._paused and not self.closed:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self.closed:
            self._paused = False
            self._transport.resume_reading()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._transport.abort()
            self._pool.lost(self)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, TLS included."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse, then tell everything that this read brought."""
        listener = self._listener
        if listener is None:
            # An answer that nobody asked for: whatever follows would be out of step.
            self._close()
            return
        broken = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            broken = True
        head: ResponseHead | None = None
        if not self._head_told:
            head = self._head
            if head is None:
                self._head_bytes += len(data)
                if broken or self._head_bytes > MAX_HEAD_BYTES:
                    self._fail(Gone.INTERRUPTED)
                return
            self._head_told = True
        body = self._body
        if body:
            self._body = []
            data = body[0] if len(body) == 1 else b"".join(body)
        else:
            data = b""
        if self._ended:
            self._listener = None
            if self._reusable and not broken:
                self.resume()
                self._pool.release(self)
            else:
                self._close()
            listener.upstream_read(head, data, end=True)
            return
        if head is not None or data:
            listener.upstream_read(head, data, end=False)
        # The listener may have cancelled meanwhile.
        if broken and self._listener is listener:
            self._fail(Gone.INTERRUPTED)

    def eof_received(self) -> bool:
        """The upstream sends no more; close our side as well."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Lost: the end of an answer that has no other end, or the end of a connection."""
        already = self.closed
        self.closed = True
        listener = self._listener
        if not already:
            self._pool.lost(self)
        if listener is None:
            return
        if exc is None and self._head_told and self._length is None and not self._chunked:
            self._listener = None
            listener.upstream_closed()
        else:
            self._fail(Gone.INTERRUPTED)

    def _fail(self, gone: Gone) -> None:
        listener, self._listener = self._listener, None
        self._close()
        if listener is not None:
            listener.upstream_gone(gone)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        name = name.lower()
        if name == b"content-length" and value.isdigit():
            self._length = int(value)
        elif name == b"transfer-encoding":
            self._chunked = True
        elif name == b"connection":
            self._names_hops = self._names_hops or value not in PLAIN_CONNECTION
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete, unless it is an interim one (1xx)."""
        status = self._parser.get_status_code()
        if self._head is not None or self._ended:
            raise ValueError("a second answer to one request")
        if status >= 200:
            self._head = ResponseHead(status, self._headers, self._length, self._names_hops)
        else:
            self._headers = []

    def on_body(self, data: bytes) -> None:
        """Part of the body, without chunk framing."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The end of the answer (or of an interim one)."""
        if self._head is not None:
            self._ended = True
            # Asked here, because afterwards the parser is at the next answer.
            self._reusable = self._parser.should_keep_alive()


class Pending:
    """A request that waits for a connection."""

    def __init__(self, pool: "Pool", request: bytes, listener: Listener) -> None:
        self.pool = pool
        self.request = request
        self.listener = listener
        self.connecting: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Leave the line."""
        self.pool.leave(self)

    def pause(self) -> None:
        """Nothing is being read yet."""

    def resume(self) -> None:
        """Nothing is being read yet."""


class Pool:
    """Connections to one address. First come, first served: a connection that becomes free or ready goes to the
    request that has waited longest."""

    def __init__(self, where: Endpoint, tls: ssl.SSLContext | None, max_connections: int = MAX_CONNECTIONS) -> None:
        self.where = where
        self._tls = tls
        self._max = max_connections
        self._idle: list[Connection] = []
        self._waiting: deque[Pending] = deque()
        self._open = 0
        self._connecting = 0
        # Asking for the running loop costs a system call each time (Python 3.11 looks for forks).
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections with a request."""
        return self._open - len(self._idle)

    def send(self, request: bytes, listener: Listener) -> Handle | None:
        """Send ``request`` now if a connection is free (``upstream_sent`` has then been called, and None is returned),
        or as soon as one is."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                connection.send(request, listener)
                return None
        pending = Pending(self, request, listener)
        self._waiting.append(pending)
        self._connect_for(pending)
        return pending

    def _connect_for(self, pending: Pending) -> None:
        if self._open + self._connecting < self._max:
            self._connecting += 1
            pending.connecting = self._loop.create_task(self._connect(pending))

    async def _connect(self, pending: Pending) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self),
                    self.where.host,
                    self.where.port,
                    ssl=self._tls,
                    server_hostname=self.where.host if self._tls else None,
                )
        except (OSError, TimeoutError) as error:
            log.warning("upstream unreachable", extra={"upstream": self.where.name, "reason": str(error)})
            connection = None
        finally:
            self._connecting -= 1
        pending.connecting = None
        if connection is not None:
            self._open += 1
            self.release(connection)
        elif pending in self._waiting:
            self._waiting.remove(pending)
            pending.listener.upstream_gone(Gone.UNREACHABLE)
            self._connect_for_next()

    def _connect_for_next(self) -> None:
        """A place became free: the first in line that has no attempt of its own gets one."""
        for pending in self._waiting:
            if pending.connecting is None:
                self._connect_for(pending)
                return

    def leave(self, pending: Pending) -> None:
        """Cancelled while waiting. Its attempt goes on if somebody else can use it."""
        if pending in self._waiting:
            self._waiting.remove(pending)
        if pending.connecting is not None and not self._waiting:
            pending.connecting.cancel()

    def release(self, connection: Connection) -> None:
        """A connection is free: for who waits longest, else for later."""
        if self._waiting:
            pending = self._waiting.popleft()
            connection.send(pending.request, pending.listener)
        else:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_for_next()

    def close_idle(self, before: float) -> None:
        """Close connections that have been idle since before ``before`` (loop time)."""
        for connection in [idle for idle in self._idle if idle.idle_since <= before]:
            connection.cancel()


class Upstreams:
    """The pools of a process, by address. Two upstreams of one address share connections; credentials travel with
    each request."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: what upstream certificates are checked with; the system's authorities unless given."""
        self._tls = tls
        self._pools: dict[tuple[str, int, bool], Pool] = {}

    def send(self, where: Endpoint, request: bytes, listener: Listener) -> Handle | None:
        """See :meth:`Pool.send`."""
        pool = self._pools.get(where[1:4])
        if pool is None:
            pool = self._pools[where[1:4]] = Pool(where, self._context() if where.tls else None)
        return pool.send(request, listener)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def figures(self) -> list[tuple[str, int, int]]:
        """Upstream name, busy and idle connections of each pool."""
        return [(pool.where.name, pool.busy, pool.idle) for pool in self._pools.values()]

    def close_idle(self, before: float) -> None:
        """See :meth:`Pool.close_idle`."""
        for pool in self._pools.values():
            pool.close_idle(before)
