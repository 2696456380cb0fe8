"""From what the parser found to a request head, or to why there is none. Pure.

llhttp in its strict mode already refuses a length beside chunks, two lengths, bare CR or LF and blanks around header
names. What is left to refuse here is what it lets pass and an upstream could read differently from us.
"""

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import headers as rules
from tenantry_service.proxy.messages import HeaderList, RequestHead
from tenantry_service.proxy.snapshot import Bearer

#: nginx takes 4 x 8 KB, Envoy 60 KB, uvicorn (h11) 64 KB.
MAX_HEAD_BYTES = 64 * 1024
#: Envoy's number.
MAX_HEADERS = 100


def build(method: bytes, url: bytes, headers: HeaderList, version: str) -> RequestHead | ApiError:
    """A head for the exchange; the error otherwise, after which the connection cannot go on."""
    if version not in ("1.1", "1.0"):
        return errors.malformed(f"HTTP/{version} is not spoken here; use HTTP/1.1.")
    if not url.startswith(b"/"):
        return errors.malformed("The request target must be a path.")
    size = len(url)
    length: int | None = 0
    lengths = hosts = 0
    authorization: bytes | None = None
    continues = chunked = False
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"content-length":
            lengths += 1
            if not value.isdigit():
                return errors.malformed("Content-Length must be one number.")
            length = int(value) if len(value) < 16 else 10**15
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked" or version == "1.0":
                return errors.malformed("The only Transfer-Encoding taken is chunked.")
            chunked = True
        elif name == b"host":
            hosts += 1
        elif name == b"authorization" and authorization is None:
            authorization = value
        elif name == b"expect":
            # RFC 9110 10.1.1: HTTP/1.0 knows no interim answers.
            continues = value.lower() == b"100-continue" and version == "1.1"
    if size > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS:
        return errors.HEAD_TOO_LARGE
    if lengths > 1 or (lengths and chunked):
        return errors.malformed("A request has one Content-Length or one Transfer-Encoding, not more.")
    if hosts > 1 or (not hosts and version == "1.1"):
        return errors.malformed("A request has exactly one Host header.")
    path, _, query = url.partition(b"?")
    return RequestHead(
        method.decode("ascii", "replace"),
        path,
        query.partition(b"#")[0],
        headers,
        rules.to_upstream(headers),
        Bearer(authorization),
        None if chunked else length,
        continues,
    )
