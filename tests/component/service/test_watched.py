"""Traces and access log of a real process."""

import asyncio
import json
from pathlib import Path

import httptools
import pytest
from tenantry_service import traces
from tenantry_service.watching import Watchers

from tests.component.service.harness import Service, chat_request, service, until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[dict[str, object]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body: list[bytes] = []
        done = asyncio.Event()

        class Request:
            def on_body(self, data: bytes) -> None:
                body.append(data)

            def on_message_complete(self) -> None:
                done.set()

        parser = httptools.HttpRequestParser(Request())
        while not done.is_set():
            parser.feed_data(await reader.read(65536))
        for resource in json.loads(b"".join(body))["resourceSpans"]:
            self.spans += resource["scopeSpans"][0]["spans"]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


async def test_a_request_is_a_span_in_its_callers_trace_and_the_upstream_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A collector that is in this process is there, however slow the machine is.
    monkeypatch.setattr(traces, "SEND_SECONDS", 60.0)
    printed: list[str] = []

    def all_printed() -> bool:
        printed.extend(capsys.readouterr().out.splitlines())
        return len(printed) >= 3

    collector = Collector()
    listening = await asyncio.start_server(collector, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/traces"
    running: Service
    async with service(tmp_path) as running:
        watchers = Watchers(url, 0.0, access_log=True, environment={})
        watchers.join(running.engine)
        extra = f"traceparent: {PARENT}\r\nconnection: close\r\n".encode()
        assert b" 200 OK" in await running.raw(chat_request(extra=extra))
        seen = running.simulator.last_request["headers"]["traceparent"]
        assert b" 200 OK" in await running.raw(chat_request(extra=b"connection: close\r\n"))
        assert "traceparent" not in running.simulator.last_request["headers"]
        assert b" 401 " in await running.raw(chat_request("tn_x_y", extra=extra))
        await until(lambda: len(collector.spans) == 2)
        await asyncio.to_thread(watchers.close)
        await until(all_printed)
    listening.close()
    span, refused = collector.spans
    assert (span["traceId"], span["parentSpanId"]) == (PARENT[3:35], PARENT[36:52])
    assert seen == f"00-{span['traceId']}-{span['spanId']}-01"
    assert {"key": "tenantry.tenant", "value": {"stringValue": "acme"}} in span["attributes"]  # type: ignore[operator]
    assert {"key": "http.response.status_code", "value": {"intValue": "401"}} in refused["attributes"]  # type: ignore[operator]
    lines = [json.loads(line) for line in printed]
    assert [line["status"] for line in lines] == [200, 200, 401]
    assert [line["trace_id"] is None for line in lines] == [False, True, False]
    assert running.metric("tenantry_dropped_observations_total") == 0
