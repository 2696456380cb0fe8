"""The beginning of a WebSocket connection (RFC 6455 4): who asks, and what the upstream is asked. Pure."""

from urllib.parse import parse_qsl, quote

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import headers
from tenantry_service.proxy.messages import HeaderList, RequestHead
from tenantry_service.proxy.snapshot import Endpoint

#: How browsers, which cannot set headers, bring a key: as one of the protocols that they offer.
KEY_PROTOCOL = b"openai-insecure-api-key."
#: Protocols of this kind would choose another project of the platform's account.
_ACCOUNT_PROTOCOLS = (b"openai-organization.", b"openai-project.")
_OURS = (b"sec-websocket-protocol", b"sec-websocket-extensions")

NOT_A_HANDSHAKE = errors.malformed("This is no WebSocket handshake of version 13 (RFC 6455).")


def offered(head: RequestHead) -> list[bytes]:
    """The sub-protocols that a client offers."""
    lines = [value for name, value in head.headers if name == b"sec-websocket-protocol"]
    return [word.strip() for line in lines for word in line.split(b",") if word.strip()]


def authorization(head: RequestHead) -> bytes | None:
    """What stands for an ``Authorization`` header."""
    for name, value in head.headers:
        if name == b"authorization":
            return value
    for word in offered(head):
        if word.startswith(KEY_PROTOCOL):
            return b"Bearer " + word[len(KEY_PROTOCOL) :]
    return None


def problem(head: RequestHead) -> ApiError | None:
    """Why this cannot be a handshake."""
    found = dict(head.headers)
    if (
        head.method != "GET"
        or found.get(b"sec-websocket-version") != b"13"
        or len(found.get(b"sec-websocket-key", b"")) != 24
        or found.get(b"upgrade", b"").lower() != b"websocket"
        or head.content_length
    ):
        return NOT_A_HANDSHAKE
    return None


def model(head: RequestHead) -> str:
    """The model that the query names; empty if it names none, or more than one."""
    named = [value for name, value in parse_qsl(head.query.decode("latin-1")) if name == "model"]
    return named[0] if len(named) == 1 else ""


def names_models(head: RequestHead) -> int:
    """How often the query names a model."""
    return sum(name == "model" for name, _ in parse_qsl(head.query.decode("latin-1"), keep_blank_values=True))


def transcribes(head: RequestHead) -> bool:
    """Whether the session only writes down what it hears (``intent=transcription``)."""
    return ("intent", "transcription") in parse_qsl(head.query.decode("latin-1"))


def upstream_request(head: RequestHead, endpoint: Endpoint, served: str) -> bytes:
    """The handshake for the upstream: without the caller's key and without extensions, so that frames can be read;
    with the name that the model has there (empty: the query stays)."""
    query = head.query
    if served and model(head) != served:
        parts = [part for part in query.split(b"&") if not part.startswith(b"model=")]
        query = b"&".join([b"model=" + quote(served, safe="").encode(), *parts])
    kept = [word for word in offered(head) if not word.startswith((KEY_PROTOCOL, *_ACCOUNT_PROTOCOLS))]
    passed: HeaderList = [(name, value) for name, value in head.headers if name not in _OURS]
    if kept:
        passed.append((b"sec-websocket-protocol", b", ".join(kept)))
    target = head.path[3:] + (b"?" + query if query else b"")
    return b"".join(
        (
            b"GET ",
            endpoint.base_path,
            target,
            b" HTTP/1.1\r\n",
            endpoint.head_lines,
            b"upgrade: websocket\r\nconnection: Upgrade\r\n",
            headers.to_upstream(passed),
            b"\r\n",
        )
    )


def accepted(lines: HeaderList, head: RequestHead, request_id: str) -> bytes | None:
    """The upstream's 101 as the client gets it; None if it agrees to something that nobody offered."""
    found = dict(lines)
    chosen = found.get(b"sec-websocket-protocol")
    if b"sec-websocket-extensions" in found or (chosen is not None and chosen not in offered(head)):
        return None
    return b"".join(
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n",
            headers.to_client(lines),
            b"x-request-id: %b\r\n\r\n" % request_id.encode(),
        )
    )
