"""What one connection of a client writes: answers in their frames, each in as few writes as can be, and how it ends."""

import asyncio
from collections.abc import Callable

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import framing
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.incoming import Incoming, Requests
from tenantry_service.proxy.messages import ClientHead, Timer
from tenantry_service.proxy.patience import Patience
from tenantry_service.proxy.sides import ClientSide

#: The most of a refused request's body that is read and thrown away to keep the connection.
MAX_DISCARDED = 64 * 1024


class Output(ClientSide):
    """The writing half of a client's connection; the reading half knows what is answered (``_active``)."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self._loop = loop
        self._transport: asyncio.Transport
        #: Its method, which need not be looked for with each answer.
        self._write: Callable[[bytes], None]
        self._requests: Requests
        self._active: Incoming | None = None
        self._replied = False
        self._out: list[bytes] = []
        self._chunked = False
        self._close_after = False
        self._closing = False
        self._patience = Patience(engine.seconds[Timer.CLIENT_STALLED])

    def send_continue(self) -> None:
        """100 Continue."""
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send(self, head: ClientHead | None, data: bytes, *, last: bool) -> None:
        """Frame part of an answer into the output."""
        if head is not None:
            self._replied = True
            self._out.append(self._framed(head, len(data) if last else None))
        if self._chunked:
            framing.put_chunk(self._out, data, last=last)
        elif data and (self._active is None or self._active.head.method != "HEAD"):
            self._out.append(data)

    def flush(self) -> None:
        """Write the output in one piece."""
        if self._out:
            out, self._out = self._out, []
            if not self._closing:
                self._write(b"".join(out) if len(out) > 1 else out[0])

    def abort(self) -> None:
        """Cut the connection."""
        self.flush()
        self._closing = True
        self._transport.abort()

    def _framed(self, head: ClientHead, size: int | None) -> bytes:
        active = self._active
        length = size if head.content_length is None else head.content_length
        close = (
            self._close_after
            or active is None
            or not active.manner.keep_alive
            or self.engine.draining
            or self.engine.leaving
            or not (active.complete or self._can_read_on(active))
            or head.status == errors.BODY_TIMEOUT.status
        )
        version_1_0 = active is not None and active.manner.version_1_0
        framed, self._chunked, self._close_after = framing.head_bytes(
            head, length, self.engine.date_line, version_1_0=version_1_0, close=close
        )
        return framed

    def _can_read_on(self, active: Incoming) -> bool:
        """Whether the rest of a request that is answered early is small enough to be read and forgotten."""
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
        self._patience.expect_closing(self._loop.time(), self._transport.get_write_buffer_size())
        if self._requests.between or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
