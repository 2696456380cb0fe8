"""Which headers pass, in both directions. Pure; names come in lower-case."""

import math
import re
from collections.abc import Iterable
from typing import Final

from tenantry_service.limits.decisions import Standing
from tenantry_service.proxy.messages import HeaderList, RequestHead, ResponseHead
from tenantry_service.proxy.snapshot import Endpoint

#: RFC 9110 7.6.1: between two neighbours only.
HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    ]
)
#: Never sent on: our caller's credentials and cookies, what we write ourselves, what would let a tenant choose another
#: project of the platform's account, and who the caller is.
KEPT_FROM_UPSTREAM = HOP_BY_HOP | frozenset(
    [
        b"host",
        b"authorization",
        b"api-key",
        b"x-api-key",
        b"cookie",
        b"content-length",
        b"expect",
        b"accept-encoding",
        b"openai-organization",
        b"openai-project",
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-client-cert",
        b"x-request-id",
        b"x-envoy-external-address",
        # Would make another request of the one that was judged.
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
    ]
)
#: Never passed back: what describes the platform's account or binds the client to the upstream's host, and what we
#: write ourselves.
KEPT_FROM_CLIENT = HOP_BY_HOP | frozenset(
    [
        b"content-length",
        b"date",
        b"server",
        b"set-cookie",
        b"alt-svc",
        b"strict-transport-security",
        b"www-authenticate",
        b"openai-organization",
        b"openai-project",
        b"x-request-id",
    ]
)


#: Durations below a second, as they are written.
_SHORT: Final = tuple([f"{ms}ms" for ms in range(1000)])


def to_upstream(headers: HeaderList) -> bytes:
    """The caller's header lines that the upstream may see."""
    kept_back = KEPT_FROM_UPSTREAM | _named_by_connection(headers)
    return lines(header for header in headers if header[0] not in kept_back)


def to_client(headers: HeaderList) -> bytes:
    """The upstream's header lines that the client may see."""
    kept_back = KEPT_FROM_CLIENT | _named_by_connection(headers)
    return lines(
        header for header in headers if header[0] not in kept_back and not header[0].startswith(b"x-ratelimit-")
    )


def _named_by_connection(headers: HeaderList) -> frozenset[bytes]:
    """Headers that ``Connection`` declares to be hop-by-hop (RFC 9110 7.6.1)."""
    return frozenset(
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    )


def upstream_head(head: RequestHead, endpoint: Endpoint, length: int | None) -> bytes:
    """The head of a request whose body follows: of this length, or in chunks."""
    framing = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
    return b"".join((_request_lines(head, endpoint), framing, b"\r\n"))


def media_type(head: RequestHead) -> bytes:
    """What a request says its body is, without parameters; empty if it does not say, or says it twice."""
    found = [value for name, value in head.headers if name == b"content-type"]
    return found[0].partition(b";")[0].strip().lower() if len(found) == 1 else b""


def upstream_request(head: RequestHead, endpoint: Endpoint, body: bytes) -> bytes:
    """The whole request for the upstream, in one piece."""
    if head.sent_to is not endpoint:
        # A head that a connection remembers is sent to the same upstream again and again.
        head.sent_to, head.sent_lines = endpoint, _request_lines(head, endpoint)
    if body or head.method != "GET":
        return b"".join((head.sent_lines, f"content-length: {len(body)}\r\n\r\n".encode("ascii"), body))
    return head.sent_lines + b"\r\n"


def _request_lines(head: RequestHead, endpoint: Endpoint) -> bytes:
    # Our routes are /v1/...; the base path of the upstream stands for /v1.
    target = head.path[3:] + b"?" + head.query if head.query else head.path[3:]
    line = b"%b %b%b HTTP/1.1\r\n" % (head.method.encode(), endpoint.base_path, target)
    return b"".join((line, endpoint.head_lines, head.lines))


def traced(request: bytes, line: bytes) -> bytes:
    """A request with this ``traceparent`` line, and no other."""
    end = request.find(b"\r\n\r\n")
    start = request.find(b"\r\ntraceparent: ", 0, end)
    if start >= 0:
        request = request[:start] + request[request.find(b"\r\n", start + 2) :]
    first = request.find(b"\r\n") + 2
    return b"".join((request[:first], line, request[first:]))


def response_head(status: int, headers: HeaderList) -> ResponseHead:
    """What matters of an upstream's head. Its framing was checked by the parser."""
    length: int | None = None
    chunked = False
    media_type = encoding = b""
    for name, value in headers:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    again = None if status < 400 else retry_after_ms(headers)
    return ResponseHead(status, to_client(headers), length, media_type, encoding, length is None and not chunked, again)


def retry_after_ms(headers: HeaderList) -> int | None:
    """``retry-after-ms``, else ``retry-after`` in seconds. (Dates are for waits longer than any of ours.)"""
    found = dict(headers)
    for name, scale in ((b"retry-after-ms", 1), (b"retry-after", 1000)):
        value = found.get(name, b"")
        if re.fullmatch(rb"[0-9]{1,9}(\.[0-9]{1,6})?", value):
            return math.ceil(float(value) * scale)
    return None


def read_timeout(head: RequestHead) -> float | None:
    """Seconds that the caller waits for an answer (the OpenAI SDK says so)."""
    value = next((value for name, value in head.headers if name == b"x-stainless-read-timeout"), b"")
    return float(value) if re.fullmatch(rb"[0-9]{1,9}(\.[0-9]{1,6})?", value) else None


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header pairs as header lines."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def id_line(request_id: str) -> bytes:
    """``x-request-id``."""
    return f"x-request-id: {request_id}\r\n".encode("ascii")


def answer_lines(request_id: str, standing: Standing) -> bytes:
    """What we add to an answer: ``x-request-id`` and OpenAI's six ``x-ratelimit-*`` headers, those of the limits that
    there are."""
    if standing.requests_limit is None or standing.tokens_limit is None:
        return id_line(request_id) + rate_limit_lines(standing)
    # Nearly every tenant has both: one text instead of three.
    return (
        f"x-request-id: {request_id}\r\n"
        f"x-ratelimit-limit-requests: {standing.requests_limit}\r\n"
        f"x-ratelimit-remaining-requests: {standing.requests_left}\r\n"
        f"x-ratelimit-reset-requests: {duration(standing.requests_reset_ms)}\r\n"
        f"x-ratelimit-limit-tokens: {standing.tokens_limit}\r\n"
        f"x-ratelimit-remaining-tokens: {standing.tokens_left}\r\n"
        f"x-ratelimit-reset-tokens: {duration(standing.tokens_reset_ms)}\r\n"
    ).encode("ascii")


def rate_limit_lines(standing: Standing) -> bytes:
    """The ``x-ratelimit-*`` headers alone."""
    out = ""
    if standing.requests_limit is not None:
        out = (
            f"x-ratelimit-limit-requests: {standing.requests_limit}\r\n"
            f"x-ratelimit-remaining-requests: {standing.requests_left}\r\n"
            f"x-ratelimit-reset-requests: {duration(standing.requests_reset_ms)}\r\n"
        )
    if standing.tokens_limit is not None:
        out += (
            f"x-ratelimit-limit-tokens: {standing.tokens_limit}\r\n"
            f"x-ratelimit-remaining-tokens: {standing.tokens_left}\r\n"
            f"x-ratelimit-reset-tokens: {duration(standing.tokens_reset_ms)}\r\n"
        )
    return out.encode("ascii")


def duration(ms: int) -> str:
    """Milliseconds as OpenAI writes a duration (``12ms``, ``1.5s``, ``6m0s``)."""
    if ms < 1000:
        return _SHORT[ms]
    minutes, rest = divmod(ms, 60_000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}" if minutes else seconds
