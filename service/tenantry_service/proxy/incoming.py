"""A client's bytes taken apart into requests: httptools as parser, what it lets pass checked, heads recognised."""

import logging
from typing import Protocol

import httptools

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import known_head, request_head
from tenantry_service.proxy.known_head import KnownHead
from tenantry_service.proxy.messages import HeaderList, RequestHead

log = logging.getLogger(__name__)


class Manner:
    """What a head says about its connection."""

    __slots__ = ("keep_alive", "version_1_0")

    def __init__(self, keep_alive: bool, version_1_0: bool) -> None:
        self.keep_alive = keep_alive
        self.version_1_0 = version_1_0


class Incoming:
    """A request as it is parsed. ``body`` is what nobody has taken yet; ``discard``: nobody will."""

    __slots__ = ("body", "complete", "discard", "head", "manner", "size")

    def __init__(self, head: RequestHead, manner: Manner, body: list[bytes]) -> None:
        self.head = head
        self.manner = manner
        self.body = body
        self.size = 0
        self.complete = False
        self.discard = False


class Reader(Protocol):
    """Who is told of requests."""

    def on_incoming(self, incoming: Incoming) -> ApiError | None:
        """A head is complete; an error ends the connection."""

    def on_incoming_body(self, incoming: Incoming, data: bytes) -> None:
        """Part of a body."""

    def on_incoming_complete(self, incoming: Incoming) -> None:
        """A request is complete."""

    def on_websocket(self, head: RequestHead, rest: bytes) -> ApiError | None:
        """A request asks for a WebSocket; ``rest`` is what follows it. Nothing more will be parsed here."""

    def on_internal_error(self) -> None:
        """One of the above failed; it has been logged."""


class Requests:
    """The requests of one connection, one after the other."""

    __slots__ = (
        "__weakref__",
        "_body_bytes",
        "_body_of_read",
        "_headers",
        "_known",
        "_no_body",
        "_parser",
        "_parsing",
        "_read",
        "_reader",
        "_url",
        "error",
        "in_head",
    )
    __deletable__ = ("_parser", "_reader")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: HeaderList = []
        #: Bytes since the request began that were no body, those that were, and those of one read that were.
        self._no_body = 0
        self._body_bytes = 0
        self._body_of_read = 0
        self._parsing: Incoming | None = None
        #: What came in one read from the beginning of a request, while that is parsed.
        self._read = b""
        self._known: KnownHead[tuple[RequestHead, Manner]] | None = None
        #: A head has begun and is not complete.
        self.in_head = False
        #: Why nothing that follows can be understood.
        self.error: ApiError | None = None

    @property
    def between(self) -> bool:
        """No request has begun that is not complete."""
        return self._parsing is None and not self.in_head and self.error is None

    def recognised(self, data: bytes) -> Incoming | None:
        """A whole request whose head came before, and nothing more; None for everything else, which is to be fed."""
        known = self._known
        if known is None or self._parsing is not None or self.in_head or self.error is not None:
            return None
        start = known.body_start(data)
        if not start:
            return None
        head, manner = known.head
        incoming = Incoming(head, manner, [data[start:]])
        incoming.complete = True
        return incoming

    def forget(self) -> None:
        """Nothing more will be read. Both of these hold this one, as it holds them: without them, reference counts
        alone free the connection, and no collector need look for it."""
        del self._reader
        del self._parser

    def feed(self, data: bytes) -> None:
        """Take apart what came."""
        if self.error is not None:
            return
        if self._parsing is None and not self.in_head:
            incoming = self.recognised(data)
            if incoming is not None:
                self.error = self._reader.on_incoming(incoming)
                self._finished(incoming)
                return
            self._read = data
        self._body_of_read = 0
        self._parse(data)
        self._read = b""
        self._no_body += len(data) - self._body_of_read
        # Trailers and the extensions of chunks cost memory while they are parsed; chunks of single bytes are 5 : 1.
        allowed = request_head.MAX_HEAD_BYTES + (0 if self.in_head else 8 * self._body_bytes)
        if self._no_body > allowed and (self.in_head or self._parsing is not None):
            self.error = self.error or errors.HEAD_TOO_LARGE

    def _parse(self, data: bytes) -> None:
        try:
            while data:
                try:
                    self._parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            log.exception("internal error while a request was read")
            self._reader.on_internal_error()
            self.error = errors.INTERNAL
        except httptools.HttpParserError as error:
            self.error = self.error or errors.malformed(f"This is no valid HTTP/1.1 request ({error}).")

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Serve a request that offers another protocol in this one, as RFC 9110 7.8 allows (JDK clients offer h2c with
        every first request). A WebSocket handshake or CONNECT cannot be served so. Returns what is to be parsed anew:
        the request without its offer, and the ``rest``."""
        method = self._parser.get_method()
        version = self._parser.get_http_version().encode()
        offered = b",".join(value for name, value in self._headers if name == b"upgrade").lower()
        if self.error is None and b"websocket" in offered and method == b"GET" and version == b"1.1":
            head = request_head.build(method, self._url, self._headers, "1.1")
            self.error = head if isinstance(head, ApiError) else self._reader.on_websocket(head, rest)
            return b""
        if self.error is None and (method == b"CONNECT" or b"websocket" in offered):
            self.error = errors.malformed("This endpoint does not speak that protocol; use plain HTTP/1.1 requests.")
        if self.error is not None:
            return b""
        closes = any(name == b"connection" and b"close" in value.lower() for name, value in self._headers)
        kept = [(name, value) for name, value in self._headers if name not in (b"upgrade", b"connection")]
        if closes:
            kept.append((b"connection", b"close"))
        lines = b"".join(b"%b: %b\r\n" % header for header in kept)
        self._parser = httptools.HttpRequestParser(self)
        return b"".join((method, b" ", self._url, b" HTTP/", version, b"\r\n", lines, b"\r\n", rest))

    # httptools

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._no_body = self._body_bytes = 0
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        """(Part of) the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. What comes behind a chunked body (a trailer) is dropped, as RFC 9110 6.5.1 allows."""
        if self.in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self.in_head = False
        if self.error is not None:
            return
        parser = self._parser
        version = parser.get_http_version()
        head = request_head.build(parser.get_method(), self._url, self._headers, version)
        if isinstance(head, ApiError):
            self.error = head
        elif not parser.should_upgrade():
            self._parsing = Incoming(head, Manner(parser.should_keep_alive(), version == "1.0"), [])
            self.error = self._reader.on_incoming(self._parsing)

    def on_body(self, data: bytes) -> None:
        """Part of a request's body."""
        self._body_of_read += len(data)
        self._body_bytes += len(data)
        if self._parsing is not None and self.error is None:
            self._reader.on_incoming_body(self._parsing, data)

    def on_message_complete(self) -> None:
        """A request is complete."""
        incoming, self._parsing = self._parsing, None
        if incoming is None:
            return
        read, self._read = self._read, b""
        if not incoming.manner.keep_alive:
            # Nothing may follow.
            self._known = None
        elif read:
            head = incoming.head.without_length()
            self._known = known_head.learn((head, incoming.manner), read, b"".join(incoming.body))
        self._finished(incoming)

    def _finished(self, incoming: Incoming) -> None:
        if self.error is None:
            incoming.complete = True
            self._reader.on_incoming_complete(incoming)
