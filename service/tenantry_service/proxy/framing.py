"""How an answer is framed for its client (RFC 9112 6). Pure."""

import http

from tenantry_service.proxy.messages import ClientHead

#: Statuses whose answers have no body and so no framing.
BODILESS = frozenset([204, 304])

_STATUS_LINES = {
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
        framing = b"content-length: %d\r\n" % length
    elif version_1_0:
        close = True
    else:
        framing, chunked = b"transfer-encoding: chunked\r\n", True
    connection = b"connection: close\r\n" if close else b"connection: keep-alive\r\n" if version_1_0 else b""
    status = _STATUS_LINES.get(head.status) or b"HTTP/1.1 %d\r\n" % head.status
    return b"".join((status, date_line, head.lines, framing, connection, b"\r\n")), chunked, close


def chunk(data: bytes, *, last: bool) -> bytes:
    """A piece of a body in chunks (RFC 9112 7.1); an empty chunk would be its end."""
    if not last:
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
