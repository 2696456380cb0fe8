"""HTTP/1.1 to an upstream: one connection, httptools as parser.

A request is handed over as finished bytes, the answer comes back as calls on a :class:`Listener`, all that one read of
the socket brought together.
"""

import asyncio
import http
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import httptools

from tenantry_service.proxy import framing, headers, known_head
from tenantry_service.proxy.known_head import KnownHead
from tenantry_service.proxy.messages import Gone, HeaderList, ResponseHead
from tenantry_service.proxy.sides import HIGH_WATER, Handle, Listener

#: A kept-alive connection that is lost so soon after a request, and without a byte of an answer, was already being
#: closed when the request was sent: nobody has seen it (RFC 9112 9.3.1), and it may be sent again.
STALE_SECONDS = 1.0
#: The most of an answer's head; llhttp sets no limit of its own.
MAX_HEAD_BYTES = 128 * 1024
#: Answers that count as a failure of the upstream, whatever was asked.
FAILING = frozenset([502, 503, 504])


class Owner(ABC):
    """The pool that a connection belongs to."""

    @abstractmethod
    def release(self, connection: "Connection") -> None:
        """The connection is free for another request."""

    @abstractmethod
    def lost(self, connection: "Connection") -> None:
        """The connection is closed."""

    @abstractmethod
    def again(self, request: bytes, listener: Listener) -> None:
        """Send a request that went to a connection which was no longer there."""

    @abstractmethod
    def failed(self) -> None:
        """The upstream failed in a way that speaks against asking it again."""

    @abstractmethod
    def answered(self) -> None:
        """The upstream answered."""

    @abstractmethod
    def now(self) -> float:
        """The loop's time."""


class Connection(Handle):
    """One connection, one request at a time: an :class:`asyncio.Protocol` by its shape."""

    __deletable__ = ("_parser",)

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._transport: asyncio.Transport
        #: Its method, which need not be looked for with each request.
        self._write: Callable[[bytes], None]
        #: From when it is connected until it is lost: parsers hold whom they tell.
        self._parser: httptools.HttpResponseParser
        self._listener: Listener | None = None
        self._paused = False
        self._known: KnownHead[ResponseHead] | None = None
        self._served = False
        #: All of the request has been written.
        self._complete = True
        #: What was sent, as long as it may have to be sent again, and when.
        self._request = b""
        self._sent_at = 0.0
        self.closed = False
        self.idle_since = 0.0
        #: When it has had its time (the pool's clock).
        self.use_until = math.inf
        self._reset()

    def _reset(self) -> None:
        self._headers: HeaderList = []
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._head_told = False
        self._body: list[bytes] = []
        self._ended = False
        self._reusable = False
        #: The parser has seen all of a chunk and nothing of another one.
        self._between_chunks = False

    # What the pool and the exchange's driver do.

    def send(self, request: bytes, listener: Listener, *, complete: bool = True, once: bool = False) -> None:
        """Write a request, or the beginning of one; ``once``: never a second time. The connection must be idle."""
        self._reset()
        self._listener = listener
        self._complete = complete
        if self._served and complete and not once:
            self._request, self._sent_at = request, self._pool.now()
        self._served = True
        self._write(request)
        listener.upstream_sent(self)

    def write(self, data: bytes, *, last: bool) -> None:
        """More of the request."""
        self._complete = last
        if data and not self.closed:
            self._transport.write(data)

    @property
    def starved(self) -> bool:
        """It has a connection."""
        return False

    def discard(self) -> None:
        """Close a connection that the pool never had."""
        self.closed = True
        self._transport.abort()

    def cancel(self, *, failed: bool = False) -> None:
        """Close: an answer cannot be left half-read on a connection that shall be used again."""
        self._listener = None
        if failed:
            self._pool.failed()
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

    def pause_writing(self) -> None:
        """The upstream takes the request slowly."""
        if self._listener is not None:
            self._listener.upstream_full()

    def resume_writing(self) -> None:
        """The upstream has caught up."""
        if self._listener is not None:
            self._listener.upstream_drained()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, TLS included."""
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        self._parser = httptools.HttpResponseParser(self)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Parse, then tell everything that this read brought."""
        listener = self._listener
        if listener is None:
            # An answer that nobody asked for: whatever follows would be out of step.
            self._close()
            return
        self._request = b""
        if self._known is not None and self._head is None and not self._head_bytes:
            start = self._known.body_start(data) if self._complete else 0
            if start:
                self._listener = None
                self.resume()
                self._pool.release(self)
                listener.upstream_read(self._known.head, data[start:], end=True)
                return
        if self._between_chunks:
            # The parser is at the beginning of a chunk, and would be so again behind this one.
            content = framing.chunk_body(data)
            if content:
                listener.upstream_read(None, content, end=False)
                return
        broken = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            broken = True
        # Unless a part of the next chunk's size line came with the end of this one.
        self._between_chunks = self._between_chunks and data.endswith(b"\r\n")
        head: ResponseHead | None = None
        if not self._head_told:
            head = self._head
            if head is None:
                self._head_bytes += len(data)
                if broken or self._head_bytes > MAX_HEAD_BYTES:
                    self._fail(Gone.INTERRUPTED)
                return
            self._head_told = True
            if head.status in FAILING:
                self._pool.failed()
            else:
                self._pool.answered()
        read, body = data, self._body
        if body:
            self._body = []
            data = body[0] if len(body) == 1 else b"".join(body)
        else:
            data = b""
        if self._ended:
            self._listener = None
            if self._reusable and self._complete and not broken:
                if head is not None and head.status == http.HTTPStatus.OK and not self._head_bytes:
                    self._known = known_head.learn(head.without_length(), read, data)
                self.resume()
                self._pool.release(self)
            else:
                self._close()
            listener.upstream_read(head, data, end=True)
            return
        if not data:
            # Trailers, or the extensions of chunks: nobody wants them, and they cost memory while they are parsed.
            self._head_bytes += len(read)
            broken = broken or self._head_bytes > MAX_HEAD_BYTES
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
        # So that reference counts alone free both.
        del self._parser
        listener = self._listener
        if not already:
            self._pool.lost(self)
        if listener is None:
            return
        request, self._request = self._request, b""
        if request and self._pool.now() - self._sent_at < STALE_SECONDS:
            self._listener = None
            self._pool.again(request, listener)
        elif exc is None and self._head_told and self._head is not None and self._head.until_close:
            self._listener = None
            listener.upstream_closed()
        else:
            self._fail(Gone.INTERRUPTED)

    def _fail(self, gone: Gone) -> None:
        if not self._head_told:
            self._pool.failed()
        listener, self._listener = self._listener, None
        self._close()
        if listener is not None:
            listener.upstream_gone(gone)

    # httptools

    def on_message_begin(self) -> None:
        """An answer begins; behind one that is complete, nobody asked for it."""
        if self._ended:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. Trailers are dropped (RFC 9110 6.5.1)."""
        if self._head is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete, unless it is an interim one (1xx)."""
        status = self._parser.get_status_code()
        if self._head is not None or self._ended:
            raise ValueError("a second answer to one request")
        if status >= 200:
            self._head = headers.response_head(status, self._headers)
        else:
            self._headers = []

    def on_body(self, data: bytes) -> None:
        """Part of the body, without chunk framing."""
        self._body.append(data)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """A chunk is complete."""
        self._between_chunks = True

    def on_message_complete(self) -> None:
        """The end of the answer (or of an interim one)."""
        if self._head is not None:
            self._ended = True
            # Asked here, because afterwards the parser is at the next answer.
            self._reusable = self._parser.should_keep_alive()
