"""How an answer is framed for its client (RFC 9112 6). Pure."""

import http
import re
from typing import Final

from tenantry_service.proxy.messages import ClientHead

#: Statuses whose answers have no body and so no framing.
BODILESS: Final = frozenset([204, 304])

#: Sizes of chunks that are remembered as they are written: streams have a few hundred, again and again.
_MOST_REMEMBERED: Final = 2048
_SIZE_LINES: Final[dict[int, bytes]] = {}
_SIZES: Final[dict[bytes, int]] = {}
_MOST_DIGITS: Final = 6
_CR: Final = 0x0D
_HEX: Final = re.compile(rb"[0-9a-fA-F]{1,6}")

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in http.HTTPStatus
}


def head_bytes(
    head: ClientHead, length: int | None, date_line: bytes, *, version_1_0: bool, close: bool
) -> tuple[bytes, bool, bool]:
    """Status line and headers with the framing that fits: a length if it is known, else chunks, and for HTTP/1.0 the
    end of the connection. Returns them, whether the body goes in chunks, and whether the connection must be closed."""
    chunked = False
    framing = b""
    if head.status in BODILESS:
        pass
    elif length is not None:
        framing = f"content-length: {length}\r\n".encode("ascii")
    elif version_1_0:
        close = True
    else:
        framing, chunked = b"transfer-encoding: chunked\r\n", True
    connection = b"connection: close\r\n" if close else b"connection: keep-alive\r\n" if version_1_0 else b""
    status = _STATUS_LINES.get(head.status) or b"HTTP/1.1 %d\r\n" % head.status
    return b"".join((status, date_line, head.lines, framing, connection, b"\r\n")), chunked, close


def put_chunk(out: list[bytes], data: bytes, *, last: bool) -> None:
    """Put a piece of a body into ``out``, in chunks (RFC 9112 7.1); an empty chunk would be its end."""
    if data:
        size = len(data)
        line = _SIZE_LINES.get(size)
        if line is None:
            line = b"%x\r\n" % size
            if size <= _MOST_REMEMBERED:
                _SIZE_LINES[size] = line
        out.append(line)
        out.append(data)
        out.append(b"\r\n0\r\n\r\n" if last else b"\r\n")
    elif last:
        out.append(b"0\r\n\r\n")


def chunk(data: bytes, *, last: bool) -> bytes:
    """A piece of a body in chunks, as one piece of bytes."""
    out: list[bytes] = []
    put_chunk(out, data, last=last)
    return b"".join(out)


def chunk_body(data: bytes) -> bytes:
    """The content of a read that is exactly one chunk as everybody writes it; empty for all others, the last one, and
    what only a parser can judge."""
    end, most = 0, min(_MOST_DIGITS, len(data))
    # Compiled, a loop over so few takes a tenth of the time of a search within bounds.
    while end < most and data[end] != _CR:
        end += 1
    if data[end : end + 2] != b"\r\n" or not data.endswith(b"\r\n"):
        return b""
    digits = data[:end]
    size = _SIZES.get(digits)
    if size is None:
        if not _HEX.fullmatch(digits):
            return b""
        size = int(digits, 16)
        if len(_SIZES) < _MOST_REMEMBERED:
            _SIZES[digits] = size
    return data[end + 2 : -2] if size and len(data) == end + size + 4 else b""
