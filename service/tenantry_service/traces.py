"""OpenTelemetry traces: a span for each request, sent as OTLP over HTTP in its JSON encoding. Off unless asked for.

Without a library: a span here is a dozen attributes, and the SDK with its exporter would double the memory of a pod.
Names: OpenTelemetry's GenAI conventions; the wire: https://opentelemetry.io/docs/specs/otlp/#otlphttp; the header that
is passed on: https://www.w3.org/TR/trace-context/. Prompts and keys are in no span.
"""

import http.client
import random
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from tenantry_service.served import Served, Trace

SEND_SECONDS = 5.0
SERVER_KIND = 2
STATUS_ERROR = 2
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NONE = (b"0" * 32, b"0" * 16)


class Endpoint(NamedTuple):
    """Where spans go, and the header lines that go with them (they may hold a credential)."""

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"


def endpoint(flag: str | None, environment: Mapping[str, str]) -> Endpoint | None:
    """Where spans go: the flag, else what OpenTelemetry's own variables say; None: nowhere.

    Raises:
        ValueError: that is no URL that spans can be sent to.
    """
    base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    url = flag or environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (f"{base}/v1/traces" if base else "")
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL like http://collector:4318/v1/traces")
    given = environment.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environment.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    pairs = (pair.split("=", 1) for pair in given.split(",") if "=" in pair)
    return Endpoint(url, {name.strip(): unquote(value.strip()) for name, value in pairs})


class Tracer:
    """Gives requests their place in a trace. ``ratio`` of those without a parent are traced; with one, it decides."""

    def __init__(self, ratio: float = 1.0) -> None:
        self._ratio = ratio

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
        """A new span for a request with these headers (lower-case names); None if it is not to be traced."""
        parent = next((value for name, value in headers if name == b"traceparent"), b"")
        found = _PARENT.fullmatch(parent)
        if found is not None and found[1] != b"ff" and (found[2], found[3]) != _NONE:
            if not int(found[4], 16) & 1:
                return None
            return Trace(found[2].decode(), secrets.token_hex(8), found[3].decode())
        # No secret, and nobody's choice but ours.
        if random.random() >= self._ratio:  # noqa: S311
            return None
        return Trace(secrets.token_hex(16), secrets.token_hex(8), "")


def encode(spans: Sequence[Served], service: str) -> bytes:
    """An ``ExportTraceServiceRequest``."""
    resource = {"attributes": [_attribute("service.name", service)]}
    scoped = {"scope": {"name": "tenantry"}, "spans": [_span(served) for served in spans if served.trace is not None]}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]})


def _span(served: Served) -> dict[str, object]:
    trace = served.trace
    assert trace is not None
    attributes: dict[str, object] = {
        "gen_ai.operation.name": served.operation,
        "http.request.method": served.method,
        "http.route": served.route,
        "http.response.status_code": served.status,
        "tenantry.tenant": served.tenant,
        "tenantry.request_id": served.request_id,
    }
    if served.model:
        attributes["gen_ai.request.model"] = served.model
        attributes["gen_ai.response.model"] = served.served_model
    if served.upstream:
        attributes["tenantry.upstream"] = served.upstream
    if served.settled:
        attributes["gen_ai.usage.input_tokens"] = served.input_tokens
        attributes["gen_ai.usage.output_tokens"] = served.output_tokens
        attributes["tenantry.cost_nano_usd"] = served.nano_usd
    if served.first_byte is not None:
        attributes["gen_ai.server.time_to_first_token"] = served.first_byte
    failed = served.error_type != "none"
    if failed:
        attributes["error.type"] = served.error_type
    return {
        "traceId": trace.trace_id,
        "spanId": trace.span_id,
        "parentSpanId": trace.parent_id,
        "name": f"{served.operation} {served.model}".rstrip(),
        "kind": SERVER_KIND,
        # 64-bit integers are strings in OTLP's JSON.
        "startTimeUnixNano": str(served.began_ns),
        "endTimeUnixNano": str(served.began_ns + round(served.seconds * 1e9)),
        "attributes": [_attribute(name, value) for name, value in attributes.items()],
        "status": {"code": STATUS_ERROR} if failed and served.status >= 500 else {},
    }


def _attribute(name: str, value: object) -> dict[str, object]:
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": name, "value": {"doubleValue": value}}
    return {"key": name, "value": {"stringValue": value}}


def send(to: Endpoint, body: bytes) -> None:
    """Post some spans.

    Raises:
        OSError: they did not arrive, or were refused.
    """
    parts = urlsplit(to.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=SEND_SECONDS)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        connection.request("POST", path, body, {**to.headers, "content-type": "application/json"})
        status = connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"the collector does not speak HTTP: {error!r}") from error
    finally:
        connection.close()
    if status >= 300:
        raise OSError(f"the collector answered {status}")
