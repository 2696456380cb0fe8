"""The head of a request, as far as it matters here; the pod that it goes to reads it for itself. Pure."""

import re
from typing import NamedTuple

#: Bytes of a head, as in a tenant's pod.
MAX_HEAD = 64 * 1024

_LINE = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
#: A chat or a completion that is asked for in pieces. In a text, the quotes would be escaped.
_STREAM = re.compile(rb'"stream"\s*:\s*true\b')
#: Between this hop and the next, RFC 9110 7.6.1.
_HOP = frozenset([b"connection", b"keep-alive", b"proxy-connection"])


class MalformedError(ValueError):
    """Not the head of an HTTP/1 request."""


class Head(NamedTuple):
    """A request's head."""

    method: bytes
    path: bytes
    authorization: bytes | None
    #: The protocol changes (WebSocket): the connection stays what it is.
    upgrades: bool
    #: The head for the pod: one request for each connection, so that the next one finds its own way.
    onward: bytes


def parse(head: bytes) -> Head:
    """A head, with the blank line at its end. Raises MalformedError."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise MalformedError("no HTTP/1 request line")
    kept, authorization, upgrades = [first], None, False
    for each in lines:
        header = _HEADER.fullmatch(each)
        if header is None or b"\n" in each or b"\r" in each:
            raise MalformedError("a header line that is none")
        name, value = header[1].lower(), header[2]
        if name == b"authorization":
            if authorization is not None:
                raise MalformedError("two authorization headers")
            authorization = value
        if name == b"connection" and b"upgrade" in value.lower():
            upgrades = True
        if name not in _HOP:
            kept.append(each)
    kept.append(b"connection: upgrade" if upgrades else b"connection: close")
    return Head(line[1], line[2].partition(b"?")[0], authorization, upgrades, b"\r\n".join(kept) + b"\r\n\r\n")


def wants_stream(body: bytes) -> bool:
    """Whether what has come of the body asks for the answer in pieces."""
    return _STREAM.search(body) is not None
