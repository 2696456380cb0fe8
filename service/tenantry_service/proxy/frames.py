"""WebSocket frames as they pass (RFC 6455 5): checked, and whole text messages made visible. Pure.

Nothing is changed; what is written here are the few frames of our own (errors, close).
"""

import enum
import struct

#: The most of one frame. OpenAI's realtime API takes events of up to 15 MB of audio.
MAX_FRAME_BYTES = 16 * 1024 * 1024
#: A longer message is known by its beginning and its end only; events with usage are a few KB.
SEEN_BYTES = 256 * 1024
_ENDS_BYTES = 16 * 1024
#: Pieces of one message; each costs a frame's head.
MAX_FRAGMENTS = 10_000

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


class CloseCode(enum.IntEnum):
    """Why a connection is closed (RFC 6455 7.4.1)."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011


class Message:
    """A text message. ``payload`` is empty if it was too long to be kept; ``start`` and ``end`` are then its ends.
    ``raw``: its frames as they came, if they were held."""

    __slots__ = ("end", "payload", "raw", "start")

    def __init__(self, payload: bytes, start: bytes, end: bytes, raw: bytes) -> None:
        self.payload = payload
        self.start = start
        self.end = end
        self.raw = raw


class FrameReader:
    """One direction of a connection. ``masked``: frames must be (a client's), or must not. ``sees``: messages are made
    visible. ``hold_bytes``: text messages are kept back until they are complete, and may be so large; 0: they pass."""

    __slots__ = (
        "_fragments",
        "_head",
        "_hold_bytes",
        "_in_message",
        "_key",
        "_left",
        "_masked",
        "_offset",
        "_opcode",
        "_raw",
        "_sees",
        "_size",
        "_text",
        "closed",
        "error",
        "messages",
        "passed",
    )

    def __init__(self, *, masked: bool, sees: bool = True, hold_bytes: int = 0) -> None:
        self._masked = masked
        self._sees = sees
        self._hold_bytes = hold_bytes
        self._head = b""
        self._left = 0
        self._opcode = 0
        self._key = b""
        self._offset = 0
        #: Opcode of the message under way (0: none), its pieces as far as they are kept, and its size.
        self._in_message = 0
        self._text = bytearray()
        self._size = 0
        self._fragments = 0
        self._raw: list[bytes] = []
        #: Complete text messages since the last :meth:`take`, and bytes to pass on that are none of theirs.
        self.messages: list[Message] = []
        self.passed: list[bytes] = []
        #: Why the connection must be closed.
        self.error: CloseCode | None = None
        #: A close frame has passed: what follows does not matter.
        self.closed = False

    @property
    def between_frames(self) -> bool:
        """Whether a frame of ours may be put in between."""
        return not self._head and not self._left

    def feed(self, data: bytes) -> None:
        """More bytes."""
        position = 0
        while position < len(data) and self.error is None:
            if self._left:
                piece = data[position : position + self._left]
                self._payload(piece)
                position += len(piece)
                continue
            missing = self._missing()
            piece = data[position : position + missing]
            self._head += piece
            position += len(piece)
            if not self._missing():
                self._begin()

    def take(self) -> tuple[list[bytes], list[Message]]:
        """What may pass now, and the messages that are complete."""
        passed, messages, self.passed, self.messages = self.passed, self.messages, [], []
        return passed, messages

    def _missing(self) -> int:
        """Bytes of the present head that have not come."""
        head = self._head
        if len(head) < 2:
            return 2 - len(head)
        length = head[1] & 0x7F
        extended = 2 if length == 126 else 8 if length == 127 else 0
        return 2 + extended + (4 if head[1] & 0x80 else 0) - len(head)

    def _begin(self) -> None:
        """A head is complete."""
        head, self._head = self._head, b""
        first, second = head[0], head[1]
        length = second & 0x7F
        if length == 126:
            length = struct.unpack_from("!H", head, 2)[0]
        elif length == 127:
            length = struct.unpack_from("!Q", head, 2)[0]
        opcode = first & 0x0F
        control = opcode >= _CLOSE
        continues = opcode == 0
        # No extension was agreed upon, so that reserved bits mean nothing good.
        if (
            first & 0x70
            or bool(second & 0x80) is not self._masked
            or opcode not in (0, _TEXT, _BINARY, _CLOSE, _PING, _PONG)
            or (control and (length > 125 or not first & 0x80))
            or (not control and continues is not bool(self._in_message))
        ):
            self.error = CloseCode.PROTOCOL_ERROR
            return
        if length > MAX_FRAME_BYTES or (self._holds(opcode) and self._size + length > self._hold_bytes):
            self.error = CloseCode.TOO_BIG
            return
        self._key = head[-4:] if self._masked else b""
        self._offset = 0
        self._opcode = opcode
        self._left = length
        if not control:
            self._fragments = self._fragments + 1 if continues else 1
            if self._fragments > MAX_FRAGMENTS:
                self.error = CloseCode.TOO_BIG
                return
            self._in_message = self._in_message if continues else opcode
        self._pass(head)
        # Bit 7 of the first byte: the message's last frame. Kept in the sign of the opcode.
        if first & 0x80 and not control:
            self._opcode = -1
        if not length:
            self._end_frame()

    def _holds(self, opcode: int) -> bool:
        return bool(self._hold_bytes) and (opcode == _TEXT or (opcode == 0 and self._in_message == _TEXT))

    def _pass(self, piece: bytes) -> None:
        if self._hold_bytes and self._in_message == _TEXT and self._opcode < _CLOSE:
            self._raw.append(piece)
        else:
            self.passed.append(piece)

    def _payload(self, piece: bytes) -> None:
        self._left -= len(piece)
        self._pass(piece)
        if self._sees and self._opcode < _CLOSE and self._in_message == _TEXT:
            self._size += len(piece)
            self._text += _unmasked(piece, self._key, self._offset) if self._key else piece
            keep = max(SEEN_BYTES, self._hold_bytes)
            if len(self._text) > keep:
                # Its ends stay.
                del self._text[_ENDS_BYTES:-_ENDS_BYTES]
        self._offset += len(piece)
        if not self._left:
            self._end_frame()

    def _end_frame(self) -> None:
        if self._opcode == _CLOSE:
            self.closed = True
        if self._opcode != -1:
            return
        if self._sees and self._in_message == _TEXT:
            text = bytes(self._text)
            whole = text if len(text) == self._size else b""
            self.messages.append(Message(whole, text[:_ENDS_BYTES], text[-_ENDS_BYTES:], b"".join(self._raw)))
        self._in_message = self._size = self._fragments = 0
        self._text.clear()
        self._raw.clear()


def _unmasked(piece: bytes, key: bytes, offset: int) -> bytes:
    shift = offset % 4
    size = len(piece)
    stream = ((key[shift:] + key[:shift]) * (size // 4 + 1))[:size]
    return (int.from_bytes(piece, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(opcode: int, payload: bytes, key: bytes = b"") -> bytes:
    """One whole frame; with a ``key`` of four bytes it is masked with that."""
    size = len(payload)
    mask = 0x80 if key else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, mask | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, mask | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, mask | 127, size)
    return head + key + (_unmasked(payload, key, 0) if key else payload)


def text(payload: bytes, key: bytes = b"") -> bytes:
    """A text message."""
    return frame(_TEXT, payload, key)


def close(code: CloseCode, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what fits."""
    return frame(_CLOSE, struct.pack("!H", code) + reason.encode()[:120])
