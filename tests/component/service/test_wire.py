"""HTTP/1.1 on real sockets: keep-alive, pipelining, bodies of every framing, bad requests, slow readers and senders."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tenantry_service.policy import Upstream
from tenantry_service.proxy import protocol, succession
from tenantry_service.proxy.messages import Timer

from tests.component.service.harness import KEY, Service, chat_request, service, until

PATIENT = {Timer.CLIENT_STALLED: 60, Timer.FIRST_BYTE: 60, Timer.IDLE: 60}
AUTH = f"authorization: Bearer {KEY}\r\n".encode()
MODELS = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + AUTH + b"\r\n"
CLOSE = b"connection: close\r\n"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path, PATIENT) as found:
        yield found


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


class Client:
    """One connection, read answer by answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)).decode()
        lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await asyncio.wait_for(self.reader.readline(), 30), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            body = await asyncio.wait_for(self.reader.readexactly(int(headers.get("content-length", "0"))), 30)
        return int(lines[0].split()[1]), headers, body


async def connect(running: Service, limit: int = 2**16) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", running.port, limit=limit))


async def test_a_connection_is_kept_for_the_next_request_on_both_sides(running: Service) -> None:
    client = await connect(running)
    for _ in range(5):
        client.writer.write(chat_request())
        status, headers, _ = await client.answer()
        assert status == 200
        assert "connection" not in headers
    assert running.simulator.accepted == 1
    client.writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + MODELS)
    assert (await client.answer())[2] == b"ok\n"
    assert (await client.answer())[0] == 200


async def test_requests_sent_ahead_are_answered_in_order(running: Service) -> None:
    slow = chat_request(extra=b"x-simulator-latency-ms: 100\r\n", max_tokens=1)
    answers = await running.raw(slow + MODELS + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + chat_request(extra=CLOSE))
    assert statuses(answers) == [200] * 4
    kinds = [b'"chat.completion"', b'"object":"list"', b"ok\n", b"it is"]
    assert [answers.index(kind) for kind in kinds] == sorted(answers.index(kind) for kind in kinds)


async def test_more_requests_ahead_than_allowed_end_the_connection_after_those_allowed(running: Service) -> None:
    answers = await running.raw(MODELS * (succession.MAX_PIPELINED + 5))
    assert statuses(answers) == [200] * (succession.MAX_PIPELINED + 1) + [400]


async def test_garbage_behind_a_good_request_does_not_spoil_its_answer(running: Service) -> None:
    answers = await running.raw(MODELS + b"\x00\x01 nonsense\r\n\r\n")
    assert statuses(answers) == [200, 400]


@pytest.mark.parametrize("together", [True, False])
async def test_a_body_that_breaks_off_into_garbage_is_refused_at_once(running: Service, together: bool) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + AUTH + b"transfer-encoding: chunked\r\n\r\n"
    client = await connect(running)
    if not together:
        client.writer.write(head + b"3\r\nabc\r\n")
        await until(lambda: running.engine.telemetry.in_flight)
    client.writer.write((head if together else b"") + b"not a size\r\n")
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert await client.reader.read() == b""
    await until(lambda: not running.engine.telemetry.in_flight)


async def test_a_chunked_body_reaches_the_upstream_whole(running: Service) -> None:
    body = json.dumps({"model": "gpt-4o-mini", "messages": []}).encode()
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:6], body[6:]))
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + AUTH + CLOSE + b"transfer-encoding: chunked\r\n\r\n"
    )
    assert statuses(await running.raw(request + chunks + b"0\r\ntrailer: x\r\n\r\n")) == [200]
    assert running.simulator.last_request["body"] == body.decode()


async def test_a_request_in_single_bytes_is_the_same_request(running: Service) -> None:
    client = await connect(running)
    for byte in chat_request():
        client.writer.write(bytes([byte]))
        await client.writer.drain()
    assert (await client.answer())[0] == 200


async def test_a_body_is_invited_only_when_it_is_wanted(running: Service) -> None:
    client = await connect(running)
    head, _, body = chat_request(extra=b"expect: 100-continue\r\n").partition(b"\r\n\r\n")
    client.writer.write(head + b"\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.writer.write(body)
    assert (await client.answer())[0] == 200
    unwanted = chat_request("tn_x_y", extra=b"expect: 100-continue\r\n").partition(b"\r\n\r\n")[0]
    assert statuses(await running.raw(unwanted + b"\r\n\r\n")) == [401]


async def test_an_early_refusal_keeps_the_connection_if_the_rest_is_small(running: Service) -> None:
    client = await connect(running)
    head, _, body = chat_request("tn_x_y").partition(b"\r\n\r\n")
    client.writer.write(head + b"\r\n\r\n")
    assert (await client.answer())[0] == 401
    client.writer.write(body + MODELS)
    assert (await client.answer())[0] == 200


async def test_a_refused_huge_upload_gets_its_answer_and_is_not_read_to_the_end(running: Service) -> None:
    running.serve(max_body_bytes=1000)
    client = await connect(running)
    length = 50_000_000
    client.writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + AUTH + b"content-length: %d\r\n\r\n" % length
    )
    client.writer.write(b"x" * 1_000_000)
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (413, "close")


async def test_http_1_0_is_answered_without_chunks(running: Service) -> None:
    request = chat_request(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = await running.raw(request)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.endswith(b"data: [DONE]\n\n")


async def test_an_offered_h2c_upgrade_is_ignored(running: Service) -> None:
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    client = await connect(running)
    client.writer.write(chat_request(extra=offer))
    assert (await client.answer())[0] == 200
    client.writer.write(MODELS)
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        (b"GET http://x/v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 400),
        (
            b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcde", 400),
        (b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n", 400),
        (b"POST /v1/models HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n", 400),
        (b"POST /v1/models HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-big: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-endless: " + b"y" * 200_000, 431),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
    ],
)
async def test_bad_http_is_refused_in_openais_shape_and_the_connection_closed(
    running: Service, request_bytes: bytes, status: int
) -> None:
    answer = await running.raw(request_bytes + MODELS)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [status]
    assert b"connection: close" in head
    assert json.loads(body)["error"]["message"]
    assert running.simulator.requests.total() == 0
    assert running.metric("tenantry_internal_errors_total") == 0


async def test_a_slow_sender_is_asked_to_leave(running: Service) -> None:
    running.engine.seconds[Timer.REQUEST_BODY] = 0.3
    answer = await running.raw(chat_request()[:-5])
    assert statuses(answer) == [408]


async def test_a_connection_that_says_nothing_is_closed(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    running.steady()
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(succession, "KEEP_ALIVE_SECONDS", 0.2)
    assert await running.raw(b"") == b""
    assert statuses(await running.raw(b"GET /v1/mod")) == [408]
    assert statuses(await running.raw(MODELS)) == [200]


async def test_a_head_in_drops_gets_no_more_time(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    running.steady()
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    client = await connect(running)

    async def drip() -> None:
        client.writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-long: ")
        while True:
            client.writer.write(b"y")
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    assert (await client.answer())[0] == 408
    dripping.cancel()


async def test_a_refused_request_that_drips_on_is_let_go(running: Service) -> None:
    running.engine.seconds[Timer.REQUEST_BODY] = 0.3
    client = await connect(running)
    client.writer.write(chat_request("tn_x_y", max_tokens=10**30)[:-40])
    assert (await client.answer())[0] == 401

    async def drip() -> None:
        while True:
            client.writer.write(b" ")
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    assert await asyncio.wait_for(client.reader.read(), 60) == b""
    dripping.cancel()


async def test_a_client_that_does_not_read_slows_its_upstream_and_costs_bounded_memory(tmp_path: Path) -> None:
    async with service(tmp_path, PATIENT) as running:
        flood = b"x-simulator-output-tokens: 200000\r\n"
        client = await connect(running, limit=4096)
        client.writer.write(
            chat_request(extra=flood + b"x-simulator-gap-ms: 0\r\nx-simulator-latency-ms: 1\r\n", stream=True)
        )
        await until(lambda: running.simulator.output_tokens > 1000)
        sent, before = -1, -2
        while sent != before:
            before, sent = sent, running.simulator.output_tokens
            await asyncio.sleep(0.1)
        assert sent < 150_000
        # It reads on: nothing is lost.
        text = b""
        while b"[DONE]" not in text[-64:]:
            piece = await asyncio.wait_for(client.reader.read(65536), 60)
            assert piece
            text = text[-64:] + piece
        (row,) = await running.rows()
        assert (row["output_tokens"], row["estimated"]) == (200_000, 0)


async def test_a_client_that_stops_reading_is_cut_and_settled(running: Service) -> None:
    running.engine.seconds[Timer.CLIENT_STALLED] = 0.5
    flood = b"x-simulator-output-tokens: 200000\r\nx-simulator-latency-ms: 1\r\n"
    client = await connect(running, limit=4096)
    client.writer.write(chat_request(extra=flood, stream=True))
    (row,) = await running_row(running)
    assert row["error_type"] == "caller_too_slow"
    assert 0 < row["output_tokens"] < 200_000
    client.writer.close()


async def running_row(running: Service) -> list[dict[str, Any]]:
    await until(lambda: running.metric("tenantry_ledger_queued_events") + running.ledger.written)
    return await running.rows()


async def test_a_client_that_leaves_at_any_moment_leaves_nothing_behind(running: Service) -> None:
    request = chat_request(stream=True, extra=b"x-simulator-gap-ms: 1\r\n")
    for sent in (10, len(request) - 3, len(request)):
        for delay in (0, 0.003, 0.01, 0.03):
            client = await connect(running)
            client.writer.write(request[:sent])
            await client.writer.drain()
            await asyncio.sleep(delay)
            client.writer.close()
    await until(lambda: not running.engine.telemetry.connections)
    rows = await running.rows()
    assert running.engine.telemetry.in_flight == 0
    assert len({row["event_id"] for row in rows}) == len(rows)
    await until(lambda: all(busy == 0 for _, busy, _ in running.engine.upstreams.figures()))


async def test_an_upstream_that_closed_an_idle_connection_is_connected_anew(running: Service) -> None:
    client = await connect(running)
    for _ in range(3):
        client.writer.write(chat_request())
        assert (await client.answer())[0] == 200
        for connection in list(running.simulator.connections):
            connection.transport.close()
        await until(lambda: not running.simulator.connections)
        await until(lambda: all(idle == 0 for _, _, idle in running.engine.upstreams.figures()))
    assert running.simulator.accepted == 3


async def test_an_answer_that_ends_with_its_connection_arrives_whole(running: Service) -> None:
    client = await connect(running)
    client.writer.write(chat_request(extra=b"x-simulator-until-close: 1\r\n"))
    status, headers, body = await client.answer()
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    assert json.loads(body)["usage"]["completion_tokens"] == 10


async def test_a_large_answer_passes_byte_for_byte(running: Service) -> None:
    client = await connect(running)
    client.writer.write(chat_request(extra=b"x-simulator-padding: 3000000\r\n"))
    _, headers, body = await client.answer()
    assert len(body) == int(headers["content-length"]) > 3_000_000
    (row,) = await running.rows()
    assert (row["output_tokens"], row["estimated"]) == (10, 0)


async def test_upstreams_speak_many_dialects(running: Service) -> None:
    scripts = {
        b"interim": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"empty": b"HTTP/1.1 204 No Content\r\n\r\n",
        b"garbage": b"SSH-2.0-OpenSSH\r\n\r\n",
        b"two": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"endless": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
    }
    expected = {b"interim": 200, b"empty": 204, b"garbage": 502, b"two": 200, b"endless": 502}

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while request := await reader.readuntil(b"two words"):
                writer.write(next(script for name, script in scripts.items() if b"x-dialect: " + name in request))

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    running.serve(upstreams=(Upstream(name="odd", base_url=f"http://127.0.0.1:{port}"),))
    for name, status in expected.items():
        client = await connect(running)
        client.writer.write(chat_request(extra=b"x-dialect: " + name + b"\r\n"))
        assert (await client.answer())[0] == status, name
        client.writer.close()
    await until(lambda: not running.engine.telemetry.in_flight)
    server.close()


async def test_control_routes_answer_and_everything_else_is_not_found(running: Service) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/docs", 404), ("/", 404)):
        answer = await running.raw(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert statuses(answer) == [status], path
    assert statuses(await running.raw(b"POST /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")) == [405]
    head = await running.raw(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n"


async def test_a_trailer_is_no_header(running: Service) -> None:
    body = json.dumps({"model": "gpt-4o-mini", "messages": []}).encode()
    answers = await running.raw(CHUNKED % (CLOSE, len(body), body) + AUTH + b"\r\n")
    assert statuses(answers) == [401]
    answers = await running.raw(CHUNKED % (AUTH + CLOSE, len(body), body) + b"x-injected: 1\r\n\r\n")
    assert statuses(answers) == [200]
    assert "x-injected" not in json.dumps(running.simulator.last_request)


@pytest.mark.parametrize("endless", [b"x-trailer: 1\r\n", b"y" * 64])
async def test_trailers_without_end_are_refused(running: Service, endless: bytes) -> None:
    client = await connect(running)
    client.writer.write(CHUNKED % (AUTH, 2, b"{}"))
    for _ in range(20):
        client.writer.write(endless * 1000)
        await asyncio.sleep(0.01)
    assert (await client.answer())[0] == 431


@pytest.mark.parametrize("sent", [b"\r\n", b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"])
async def test_a_client_without_a_key_that_sends_half_of_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    async with service(tmp_path, {Timer.REQUEST_BODY: 0.3}) as running:
        client = await connect(running)
        client.writer.write(sent)
        await asyncio.wait_for(client.reader.read(), 60)
        await until(lambda: not running.engine.connections)


async def test_a_full_process_still_answers_its_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 1)
    # The machine may be slower than those who have a second for each.
    monkeypatch.setattr(protocol, "RESERVED_SECONDS", 60.0)
    async with service(tmp_path, PATIENT) as running:
        held = await connect(running)
        await until(lambda: running.engine.connections)
        assert statuses(await running.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")) == [200]
        assert statuses(await running.raw(MODELS)) == [503]
        held.writer.close()


async def test_a_request_behind_answers_that_nobody_reads_waits(running: Service) -> None:
    padded = chat_request(extra=b"x-simulator-padding: 190000\r\n")
    client = await connect(running, limit=4096)
    await until(lambda: running.engine.connections)
    asked = 0

    def paused() -> bool:
        connection = next(iter(running.engine.connections))
        assert isinstance(connection, protocol.ClientConnection)
        return connection._write_paused

    async def stuck() -> bool:
        """Whether the client takes no more of its last answer, not only for some turns of the loop."""
        turns = 0
        while turns < 10:
            if running.simulator.requests.total() == asked and not running.engine.telemetry.in_flight and not paused():
                return False
            turns = turns + 1 if paused() else 0
            await asyncio.sleep(0.01)
        return True

    while not await stuck():
        client.writer.write(padded)
        asked += 1
    client.writer.write(chat_request(extra=b"x-simulator-padding: 12345\r\n"))
    await asyncio.sleep(0.2)
    assert running.simulator.requests.total() == asked
    for _ in range(asked):
        await client.answer()
    assert len((await client.answer())[2]) > 12_345
