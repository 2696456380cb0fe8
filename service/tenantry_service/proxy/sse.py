"""Accounting of server-sent event streams: bytes in, bytes for the client out. Pure. Here: all kinds.

Whole events are passed on as they came, byte for byte, as soon as their blank line has arrived; the beginning of an
event waits for its end. A client cannot use half an event anyway, and so an error event that has to be added when the
upstream dies always starts on clean ground. An event larger than ``HELD_BYTES`` passes in pieces, unread.

The figures and the bytes are the same however the network cuts the stream. Line ends may be LF, CR LF or CR
(WHATWG HTML, "Server-sent events").
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

from tenantry_service.errors import ApiError
from tenantry_service.pricing import Usage
from tenantry_service.proxy import usage as usages
from tenantry_service.proxy.alike import Alike

#: The most of an unfinished event that is held. A chat chunk is 200-1,000 bytes; audio chunks reach some 100 KB.
HELD_BYTES = 256 * 1024
#: How much of the beginning of a larger one is looked at: its name.
HEAD_BYTES = 256

# A lone CR counts only when the byte after it is there and is no LF; otherwise the cut of the network would decide.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r(?=[^\n])){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")


_NULL = b',"usage":null'
#: Where OpenAI writes it.
_LAST_NULL = _NULL + b"}\n\n"


class EventStream(ABC):
    """One stream, cut into events; what they mean is the business of a subclass. ``strip_usage``: leave out the extra
    chunk with nothing but usage, and the ``null`` in its place elsewhere (the caller did not ask for it)."""

    __slots__ = (
        "_alike",
        "_bytes",
        "_held",
        "_large",
        "_passing",
        "_strip",
        "deltas",
        "done",
        "failed",
        "raw_usage",
        "usage",
    )

    def __init__(self, *, strip_usage: bool = False) -> None:
        self._strip = strip_usage
        #: What the events of this stream have in common that bring nothing but text.
        self._alike: Alike | None = None
        self._held = b""
        self._passing = False
        #: Beginning and end of an event that passes in pieces.
        self._large = (b"", b"")
        self._bytes = 0
        #: Events that carried something generated: each is one token at least.
        self.deltas = 0
        #: ``[DONE]`` was seen: the stream is complete, whatever happens to the connection.
        self.done = False
        #: An event said that the upstream failed.
        self.failed = False
        self.usage: Usage | None = None
        self.raw_usage: bytes | None = None

    @property
    def counted_output(self) -> int:
        """Output tokens as far as they can be counted without the upstream's word: an event is at least one token,
        and so are four bytes of text."""
        return max(self.deltas, -(-self._bytes // 4))

    def feed(self, data: bytes) -> bytes:
        """Account for ``data`` and return what the client gets now."""
        if self._alike is not None and not self._held and not self._passing and self._is_alike(self._alike, data):
            return self._shown(data)
        buffer = self._held + data if self._held else data
        if (
            buffer.endswith(b"\n\n")
            and buffer.find(b"\n\n", buffer.find(b"\n")) == len(buffer) - 2
            and buffer.find(b"\r") < 0
            and not self._passing
            and len(buffer) <= HELD_BYTES
        ):
            # The common case: an upstream flushes each event on its own.
            self._held = b""
            return self._shown(buffer) if self._account(buffer) else b""
        out: list[bytes] = []
        start = 0
        for stop in _ends(buffer):
            event = buffer[start:stop]
            start = stop
            # Of an event that passed in pieces, or one as large that came at once, only both ends are read.
            if self._passing or len(event) > HELD_BYTES:
                self._pass_on(event)
                self._end_large()
                out.append(event)
            elif self._account(event):
                out.append(self._shown(event))
        rest = buffer[start:]
        # Three bytes stay behind, so that a blank line that arrives in two parts is still found.
        if self._passing or len(rest) > HELD_BYTES:
            self._passing = True
            out.append(rest[:-3])
            self._pass_on(rest[:-3])
            rest = rest[-3:]
        self._held = rest
        return b"".join(out)

    def _shown(self, event: bytes) -> bytes:
        if not self._strip:
            return event
        if event.endswith(_LAST_NULL):
            return event[: -len(_LAST_NULL)] + b"}\n\n"
        # No text holds these bytes: there its quotation marks are escaped.
        return event.replace(_NULL, b"") if event.find(_NULL) >= 0 else event

    def _pass_on(self, piece: bytes) -> None:
        start, end = self._large
        self._large = (start or piece[:HEAD_BYTES], (end + piece)[-usages.TAIL_BYTES :])

    def _end_large(self) -> None:
        self.deltas += 1
        self._account_large(*self._large)
        self._passing, self._large = False, (b"", b"")

    @property
    def between_events(self) -> bool:
        """Whether something may be put in between: no event has begun to pass."""
        return not self._passing

    def finish(self) -> bytes:
        """The stream ended: what was held goes out as it is."""
        rest, self._held = self._held, b""
        if rest and not self._passing and not self._account(rest):
            return b""
        return rest

    def abort(self) -> bytes:
        """The stream broke off: what must go out before an event of ours. The held beginning of an event is dropped,
        unless its first part is already out: then it is ended."""
        self._held = b""
        return b"\n\n" if self._passing else b""

    def _is_alike(self, alike: Alike, event: bytes) -> bool:
        """Count an event of which only the text has to be looked at; False if it is not one."""
        size = alike.text_size(event)
        if size > 0:
            self.deltas += 1
            self._bytes += size
        return size >= 0

    def _account(self, event: bytes) -> bool:
        """Count one event; False if the client shall not see it."""
        if self._alike is not None and self._is_alike(self._alike, event):
            return True
        payload = payload_of(event)
        if payload is None:
            return True
        if payload == b"[DONE]":
            self.done = True
            return True
        return self._account_payload(payload)

    @abstractmethod
    def _account_payload(self, payload: bytes) -> bool:
        """Count the data of one event; False if the client shall not see it."""

    @abstractmethod
    def _account_large(self, start: bytes, end: bytes) -> None:
        """Count an event of which only the beginning and the end are known."""

    def error_event(self, error: ApiError) -> bytes:
        """The event of ours that ends a stream early."""
        return error.sse_event()


def _ends(buffer: bytes) -> Iterator[int]:
    """Where the events of a buffer end: behind each blank line."""
    if b"\r" in buffer:
        for blank in _BLANK_LINE.finditer(buffer):
            yield blank.end()
        return
    # Without CR a search for two bytes does the same in a tenth of the time.
    stop = buffer.find(b"\n\n") + 2
    while stop > 1:
        yield stop
        stop = buffer.find(b"\n\n", stop) + 2


def payload_of(event: bytes) -> bytes | None:
    """The data of an event, its lines joined by LF; None for comments and empty events."""
    if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    fields = [line[5:] for line in _LINE_END.split(event) if line.startswith(b"data:")]
    return b"\n".join(field.removeprefix(b" ") for field in fields) if fields else None
