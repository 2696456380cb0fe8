"""HTTP/1.1 for clients: the protocol class that uvicorn is given as ``http=``.

``/v1`` goes to a :class:`~tenantry_service.proxy.call.Call`, everything else to the ASGI application. Requests of one
connection are answered one after the other, in order; what a client sends ahead is parsed and waits (bounded). The
output is bounded as well: when a client reads slowly, its upstream is read slowly.
"""

import asyncio
import http
import logging
from collections import deque
from typing import ClassVar, cast

import httptools
from uvicorn import Config
from uvicorn.server import ServerState

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import request_head
from tenantry_service.proxy.asgi import ControlCall
from tenantry_service.proxy.call import NEVER, Call
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.messages import ClientHead, HeaderList, RequestHead, Timer

#: Bytes a slow reader may leave unread before we stop reading the upstream. nginx buffers 8 x 8 KB, Envoy 1 MiB; with
#: one more read of the upstream (256 KB at most) on top, 2,000 stalled streams cost 640 MB at the very worst.
CLIENT_HIGH_WATER = 64 * 1024
#: Requests that one connection may send ahead. HTTP clients of today send none; 16 is what nginx's tests use.
MAX_PIPELINED = 16
#: The most of a refused request's body that is read and thrown away to keep the connection.
MAX_DISCARDED = 64 * 1024
#: Seconds for a request's head to arrive, counted from its first byte or from the connection (nginx: 60, Envoy: 0).
HEAD_SECONDS = 15.0
#: Seconds that an idle connection is kept. Longer than clients and load balancers keep theirs (SDK 5 s, AWS 60 s), so
#: that they close first and never send into a closing one.
KEEP_ALIVE_SECONDS = 75.0
#: Seconds given to a client to read a last answer before its connection is closed.
LINGER_SECONDS = 2.0
#: Connections of clients; each costs some 10 KB.
MAX_CONNECTIONS = 10_000

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in http.HTTPStatus
}

log = logging.getLogger(__name__)


class Incoming:
    """A request as it is parsed: told on at once if it is its turn, kept otherwise."""

    __slots__ = ("body", "complete", "discard", "head", "keep_alive", "size", "version_1_0")

    def __init__(self, head: RequestHead, *, keep_alive: bool, version_1_0: bool) -> None:
        self.head = head
        self.keep_alive = keep_alive
        self.version_1_0 = version_1_0
        self.body: list[bytes] = []
        self.size = 0
        self.complete = False
        self.discard = False


class ClientConnection(asyncio.Protocol):
    """One connection of a client. Subclassed once per process with its ``engine`` (see :func:`protocol_class`)."""

    engine: ClassVar[Engine]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = config.loaded_app
        self._server_state = server_state
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._loop = _loop or asyncio.get_running_loop()
        # Parsing.
        self._url = b""
        self._headers: HeaderList = []
        self._head_bytes = 0
        self._in_head = False
        self._parsing: Incoming | None = None
        self._bad: ApiError | None = None
        # Answering.
        self._queue: deque[Incoming] = deque()
        self._active: Incoming | None = None
        self._call: Call | ControlCall | None = None
        self._answered = False
        self._replied = False
        self._advancing = False
        self._out: list[bytes] = []
        self._chunked = False
        self._close_after = False
        self._closing = False
        self._reading_paused = False
        self._write_paused = False
        #: The deadline of the connection itself: head, keep-alive, a stalled reader, lingering.
        self._deadline = NEVER

    # asyncio.Protocol: connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=CLIENT_HIGH_WATER)
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes only
        self.engine.connections.add(self)
        self.engine.telemetry.connections += 1
        self._deadline = self._loop.time() + HEAD_SECONDS
        if self.engine.telemetry.connections > MAX_CONNECTIONS:
            self._refuse_connection(errors.OVERLOADED)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or we have closed."""
        self._closing = True
        self._server_state.connections.discard(self)
        self.engine.connections.discard(self)
        self.engine.telemetry.connections -= 1
        self._queue.clear()
        if self._call is not None:
            self._call.client_gone()

    def shutdown(self) -> None:
        """uvicorn stops: close when the present answer is complete."""
        self._close_after = True
        if self._call is None:
            self._transport.close()

    def drain_deadline(self) -> None:
        """End the present answer now."""
        if isinstance(self._call, Call):
            self._call.timer(Timer.DRAIN)

    def check(self, now: float) -> None:
        """Act on overdue timers."""
        if now >= self._deadline:
            self._deadline = NEVER
            if self._write_paused and isinstance(self._call, Call):
                self._call.timer(Timer.CLIENT_STALLED)
            elif self._in_head and self._call is None and not self._closing:
                self._refuse_connection(errors.BODY_TIMEOUT)
            else:
                self._transport.abort() if self._closing else self._transport.close()
        elif isinstance(self._call, Call) and now >= self._call.deadline:
            self._call.due()

    # asyncio.Protocol: flow

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._write_paused = True
        self._deadline = self._loop.time() + self.engine.seconds[Timer.CLIENT_STALLED]
        if isinstance(self._call, Call):
            self._call.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._write_paused = False
        self._deadline = NEVER
        if isinstance(self._call, Call):
            self._call.resume()

    def data_received(self, data: bytes) -> None:
        """Parse; the callbacks below start what can be started."""
        if self._closing:
            return
        if self._active is None and not self._in_head:
            self._deadline = NEVER
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError:
            log.exception("internal error while a request was read")
            self.engine.telemetry.internal_errors += 1
            self._bad = errors.INTERNAL
        except httptools.HttpParserError as error:
            self._bad = self._bad or errors.malformed(f"This is no valid HTTP/1.1 request ({error}).")
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > request_head.MAX_HEAD_BYTES:
                self._bad = errors.HEAD_TOO_LARGE
            elif self._active is None and self._deadline == NEVER:
                # Counted from its first byte: a head that comes in drops gets no more time.
                self._deadline = self._loop.time() + HEAD_SECONDS
        active = self._active
        if self._bad is not None:
            self._on_bad(self._bad, active)
        elif active is not None and self._call is None and not self._answered and not active.complete:
            self._start(active)

    def _on_bad(self, error: ApiError, active: Incoming | None) -> None:
        """What came is no HTTP. A request that is complete is answered first; one that this broke is not."""
        if active is not None and active.complete:
            return
        if self._call is not None:
            self._call.client_gone()
            self._call = None
        if active is not None and self._replied:
            self._linger()
        else:
            self._refuse_connection(error)

    def eof_received(self) -> bool:
        """The client closed its side: it is gone."""
        return False

    # httptools

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._head_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """(Part of) the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._in_head = False
        if self._bad is not None:
            return
        parser = self._parser
        version = parser.get_http_version()
        head = request_head.build(parser.get_method(), self._url, self._headers, version)
        if isinstance(head, ApiError):
            self._bad = head
            return
        if parser.should_upgrade():
            return
        incoming = Incoming(head, keep_alive=parser.should_keep_alive(), version_1_0=version == "1.0")
        self._parsing = incoming
        if self._active is None:
            # It is started when all that came with it is known.
            self._active = incoming
        elif len(self._queue) >= MAX_PIPELINED:
            self._bad = errors.malformed(f"More than {MAX_PIPELINED} requests were sent ahead on one connection.")
        else:
            self._queue.append(incoming)
            if not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()

    def on_body(self, data: bytes) -> None:
        """Part of a request's body."""
        incoming = self._parsing
        if incoming is None or self._bad is not None:
            return
        if incoming.discard:
            incoming.size += len(data)
            if incoming.size > MAX_DISCARDED:
                self._linger()
        elif incoming is self._active and self._call is not None:
            self._call.body(data)
        elif not self._answered or incoming is not self._active:
            incoming.body.append(data)

    def on_message_complete(self) -> None:
        """A request is complete."""
        incoming, self._parsing = self._parsing, None
        if incoming is None or self._bad is not None:
            return
        incoming.complete = True
        if incoming is self._active:
            if self._call is not None:
                self._call.body_end()
            elif self._answered:
                self._advance()
            else:
                self._start(incoming)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Serve a request that offers another protocol in this one, as RFC 9110 7.8 allows (JDK clients offer h2c with
        every first request). A WebSocket handshake or CONNECT cannot be served so."""
        method = self._parser.get_method()
        offered = b",".join(value for name, value in self._headers if name == b"upgrade").lower()
        if self._bad is None and (method == b"CONNECT" or b"websocket" in offered):
            self._bad = errors.malformed("This endpoint does not speak that protocol; use plain HTTP/1.1 requests.")
        if self._bad is not None:
            self._on_bad(self._bad, self._active)
            return
        kept = [(name, value) for name, value in self._headers if name not in (b"upgrade", b"connection")]
        lines = b"".join(b"%b: %b\r\n" % header for header in kept)
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join((method, b" ", self._url, b" HTTP/1.1\r\n", lines, b"\r\n", rest)))

    # One request after the other.

    def _start(self, incoming: Incoming) -> None:
        self._active = incoming
        self._answered = self._replied = False
        self._deadline = NEVER
        head, body = incoming.head, incoming.body
        incoming.body = []
        if head.path.startswith(b"/v1/") or head.path == b"/v1":
            call: Call | ControlCall = Call(self.engine, self)
        else:
            call = ControlCall(self._app, self, self._loop)
        self._call = call
        call.request(head, body, complete=incoming.complete)

    def call_ended(self) -> None:
        """The answer is complete (or cut). The next request has its turn, once this one has been read to its end."""
        self._call = None
        self._answered = True
        self.flush()
        self._server_state.total_requests += 1
        active = self._active
        if active is None or self._closing:
            return
        if active.complete:
            self._advance()
        else:
            active.discard = True
            self._deadline = self._loop.time() + self.engine.seconds[Timer.REQUEST_BODY]
            if self._close_after:
                self._linger()

    def _advance(self) -> None:
        """Go on to what waits. A loop and no recursion: a call may end before its start returns."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._active is not None and self._active.complete and self._answered and not self._closing:
                self._active = None
                self._answered = False
                if self._close_after:
                    self._linger()
                elif self._queue and (self._queue[0].complete or self._bad is None):
                    self._start(self._queue.popleft())
                elif self._bad is not None:
                    self._refuse_connection(self._bad)
                else:
                    self._deadline = self._loop.time() + KEEP_ALIVE_SECONDS
        finally:
            self._advancing = False
        if self._reading_paused and not self._queue and not self._closing:
            self._reading_paused = False
            self._transport.resume_reading()

    # What a call writes.

    def send_continue(self) -> None:
        """100 Continue."""
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send(self, head: ClientHead | None, data: bytes, *, last: bool) -> None:
        """Frame part of an answer into the output."""
        out = self._out
        if head is not None:
            self._replied = True
            out.append(self._framed(head, len(data), last=last))
        if self._chunked:
            if data:
                out += (b"%x\r\n" % len(data), data, b"\r\n")
            if last:
                out.append(b"0\r\n\r\n")
        elif data and (self._active is None or self._active.head.method != "HEAD"):
            out.append(data)

    def flush(self) -> None:
        """Write the output in one piece."""
        if self._out:
            out, self._out = self._out, []
            if not self._closing:
                self._transport.write(b"".join(out) if len(out) > 1 else out[0])

    def abort(self) -> None:
        """Cut the connection."""
        self.flush()
        self._closing = True
        self._transport.abort()

    def _framed(self, head: ClientHead, size: int, *, last: bool) -> bytes:
        """Status line and headers, with the framing that fits: a length if it is known, else chunks, and for HTTP/1.0
        the end of the connection."""
        active = self._active
        status = _STATUS_LINES.get(head.status) or b"HTTP/1.1 %d\r\n" % head.status
        length = size if last and head.content_length is None else head.content_length
        self._chunked = False
        if head.status in (204, 304):
            framing = b""
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        elif active is not None and active.version_1_0:
            framing = b""
            self._close_after = True
        else:
            framing = b"transfer-encoding: chunked\r\n"
            self._chunked = True
        if active is None or not active.keep_alive or self.engine.draining or not self._can_read_on(active):
            self._close_after = True
        if head.status == errors.BODY_TIMEOUT.status:
            self._close_after = True
        connection = b"connection: close\r\n" if self._close_after else b""
        if active is not None and active.version_1_0 and not self._close_after:
            connection = b"connection: keep-alive\r\n"
        return b"".join((status, self.engine.date_line, head.lines, framing, connection, b"\r\n"))

    def _can_read_on(self, active: Incoming) -> bool:
        """Whether the rest of a request that is answered early is small enough to be read and forgotten."""
        if active.complete:
            return True
        length = active.head.content_length
        return not active.head.expects_continue and length is not None and length <= MAX_DISCARDED

    # Ends.

    def _refuse_connection(self, error: ApiError) -> None:
        """Answer what is no request, and close."""
        self._close_after = True
        self._active = None
        body = error.body()
        lines = b"content-type: application/json\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in error.headers)
        self.send(ClientHead(error.status, lines, len(body)), body, last=True)
        self.flush()
        self._linger()

    def _linger(self) -> None:
        """Close in a way that lets the client read its last answer: say that no more will come, then throw away what it
        still sends for a moment. Closing at once would reset the connection and lose the answer (RFC 9112 9.6)."""
        if self._closing:
            return
        self._closing = True
        self._deadline = self._loop.time() + LINGER_SECONDS
        complete = self._parsing is None and not self._in_head and self._bad is None
        if complete or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()


def protocol_class(engine: Engine) -> type[ClientConnection]:
    """The class to give to ``uvicorn.Config(http=...)``."""
    return type("BoundClientConnection", (ClientConnection,), {"engine": engine})
