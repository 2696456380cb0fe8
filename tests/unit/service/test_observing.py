"""What watchers are told of requests: spans as a collector gets them, lines of the access log."""

import json
import logging
import threading
from collections.abc import Sequence

import pytest
from tenantry_service import traces
from tenantry_service.outbox import Outbox
from tenantry_service.proxy import headers
from tenantry_service.served import Served, Trace, access_line
from tenantry_service.traces import Tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def begin(value: str | None, ratio: float = 1.0) -> Trace | None:
    return Tracer(ratio).begin([] if value is None else [(b"traceparent", value.encode())])


def test_a_callers_trace_goes_on_in_ours() -> None:
    trace = begin(PARENT)
    assert trace is not None
    assert (trace.trace_id, trace.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert trace.line == f"traceparent: 00-{PARENT[3:35]}-{trace.span_id}-01\r\n".encode()
    assert trace.span_id != trace.parent_id


@pytest.mark.parametrize(
    "value", [None, "", "00-1-2-01", f"ff{PARENT[2:]}", f"00-{'0' * 32}-{'0' * 16}-01", PARENT.upper(), PARENT + "\t"]
)
def test_without_a_good_parent_a_trace_begins_here(value: str | None) -> None:
    trace = begin(value)
    assert trace is not None
    assert trace.parent_id == ""
    assert len(trace.trace_id) == 32
    assert begin(value, ratio=0.0) is None


def test_what_the_caller_does_not_trace_is_not_traced() -> None:
    assert begin(PARENT[:-1] + "0") is None
    assert begin(PARENT, ratio=0.0) is not None


@pytest.mark.parametrize("head", [b"host: u\r\n", b"host: u\r\ntraceparent: old\r\nx: y\r\n"])
def test_the_upstream_gets_one_traceparent_and_its_body_as_it_is(head: bytes) -> None:
    request = b"POST /v1/x HTTP/1.1\r\n" + head + b"\r\n\r\ntraceparent: of the body\r\n"
    sent = headers.traced(request, b"traceparent: new\r\n")
    top, _, body = sent.partition(b"\r\n\r\n")
    assert body == b"\r\ntraceparent: of the body\r\n"
    assert top.count(b"traceparent: ") == 1
    assert b"traceparent: new" in top
    assert top.startswith(b"POST /v1/x HTTP/1.1\r\n")


def served(**changes: object) -> Served:
    one = Served("req_1", Trace("a" * 32, "b" * 16, ""))
    given = {"operation": "chat", "model": "gpt-4o", "served_model": "gpt-4o", "route": "/v1/chat/completions"}
    for name, value in {**given, "status": 200, "began_ns": 10**18, "seconds": 0.5, **changes}.items():
        setattr(one, name, value)
    return one


def test_a_span_is_as_a_collector_reads_it() -> None:
    export = json.loads(traces.encode([served(settled=True, output_tokens=7, first_byte=0.25)], "tenantry"))
    (resource,) = export["resourceSpans"]
    (span,) = resource["scopeSpans"][0]["spans"]
    attributes = {pair["key"]: next(iter(pair["value"].values())) for pair in span["attributes"]}
    assert (span["traceId"], span["spanId"], span["name"]) == ("a" * 32, "b" * 16, "chat gpt-4o")
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 500_000_000
    assert attributes["gen_ai.usage.output_tokens"] == "7"
    assert attributes["gen_ai.server.time_to_first_token"] == 0.25
    assert span["status"] == {}


def test_a_failure_of_ours_is_an_error_of_the_span_and_one_of_the_caller_is_none() -> None:
    for status, code in ((502, {"code": 2}), (400, {})):
        export = json.loads(traces.encode([served(status=status, error_type="provider_failed")], "tenantry"))
        assert export["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"] == code


def test_a_line_of_the_access_log_is_json() -> None:
    line = json.loads(access_line(served(nano_usd=5)))
    assert (line["request_id"], line["status"], line["duration_ms"], line["nano_usd"]) == ("req_1", 200, 500, 5)


@pytest.mark.parametrize(
    ("flag", "environment", "url"),
    [
        (None, {}, None),
        ("http://c:4318/v1/traces", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"}, "http://c:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/x"}, "https://c/x"),
    ],
)
def test_where_spans_go(flag: str | None, environment: dict[str, str], url: str | None) -> None:
    found = traces.endpoint(flag, environment)
    assert (None if found is None else found.url) == url


def test_a_credential_of_the_collector_is_sent_and_never_shown() -> None:
    found = traces.endpoint("http://c/", {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret,x=y"})
    assert found is not None
    assert found.headers == {"authorization": "Bearer secret", "x": "y"}
    assert "secret" not in repr(found)


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="collector:4318"):
        traces.endpoint("collector:4318", {})


def test_what_does_not_fit_or_cannot_be_sent_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []
    open_again = threading.Event()

    def send(things: Sequence[int]) -> None:
        if not open_again.is_set():
            raise ConnectionRefusedError("nobody there")
        sent.extend(things)

    box = Outbox("spans", send, limit=3, batch_seconds=0.01)
    with caplog.at_level(logging.WARNING):
        for number in range(2):
            box.put(number)
            while box.dropped <= number:
                threading.Event().wait(0.005)
    assert len(caplog.records) == 1
    open_again.set()
    box.put(7)
    box.close(60)
    assert sent == [7]
    for number in range(5):
        box.put(number)
    assert box.dropped == 2 + 2
