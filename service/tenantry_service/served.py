"""What is told of a request that has ended, to whoever watches: the tracer, the access log. Never a prompt or a key."""

from typing import Protocol

import msgspec


class Trace:
    """A request's place in a trace: hexadecimal ids; ``parent_id`` is empty where the trace begins here."""

    __slots__ = ("parent_id", "span_id", "trace_id")

    def __init__(self, trace_id: str, span_id: str, parent_id: str) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id

    @property
    def line(self) -> bytes:
        """The header line that the upstream gets."""
        return f"traceparent: 00-{self.trace_id}-{self.span_id}-01\r\n".encode("ascii")


class Served:
    """One ended request. Empty text is for what was never found out."""

    __slots__ = (
        "began_ns",
        "error_type",
        "first_byte",
        "input_tokens",
        "method",
        "model",
        "nano_usd",
        "operation",
        "output_tokens",
        "request_id",
        "route",
        "seconds",
        "served_model",
        "settled",
        "status",
        "streamed",
        "tenant",
        "trace",
        "upstream",
    )

    def __init__(self, request_id: str, trace: Trace | None) -> None:
        self.request_id = request_id
        self.trace = trace
        self.tenant = self.method = self.route = self.operation = ""
        #: The metric label of what was asked for (a configured model or ``other``); what the upstream was asked for.
        self.model = self.served_model = self.upstream = ""
        self.status = 0
        self.error_type = "none"
        self.streamed = False
        #: Unix nanoseconds; seconds, of which the first byte came after so many.
        self.began_ns = 0
        self.seconds = 0.0
        self.first_byte: float | None = None
        #: Whether there is a row in the ledger; what it says.
        self.settled = False
        self.input_tokens = self.output_tokens = self.nano_usd = 0


class Observer(Protocol):
    """Who is told."""

    def put(self, thing: Served) -> None:
        """A request has ended; never blocks."""


def access_line(served: Served) -> bytes:
    """A line of the access log, as JSON."""
    return msgspec.json.encode(
        {
            "time_ms": (served.began_ns + round(served.seconds * 1e9)) // 1_000_000,
            "request_id": served.request_id,
            "tenant": served.tenant,
            "method": served.method,
            "route": served.route,
            "model": served.model,
            "upstream": served.upstream,
            "status": served.status,
            "error_type": served.error_type,
            "stream": served.streamed,
            "duration_ms": round(served.seconds * 1000),
            "first_byte_ms": None if served.first_byte is None else round(served.first_byte * 1000),
            "input_tokens": served.input_tokens,
            "output_tokens": served.output_tokens,
            "nano_usd": served.nano_usd,
            "trace_id": None if served.trace is None else served.trace.trace_id,
        }
    )
