"""Bodies that pass through: of any size, in bounded memory, however they are framed, whoever is slow or leaves."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from tenantry_service.policy import Limits, Models, Upstream
from tenantry_service.proxy.messages import Timer

from tests.component.service.harness import (
    KEY,
    SDK_TIMEOUT,
    Service,
    service,
    service_program,
    simulator_program,
    until,
)

HEAD = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()
MIB = 1024 * 1024


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


class Reluctant:
    """An upstream that reads as far as it is told to, and answers at the end of the request or before."""

    def __init__(self) -> None:
        self.seen = b""
        self.read = 0
        self.gate = asyncio.Event()
        self.answer_after_head = b""
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if self.answer_after_head:
                writer.write(self.answer_after_head)
                await writer.drain()
            await self.gate.wait()
            self.seen = head
            while not self.seen.endswith((b"0\r\n\r\n", b"END")):
                data = await reader.read(65536)
                if not data:
                    return
                self.read += len(data)
                self.seen = (self.seen + data)[-65536:] if self.read > MIB else self.seen + data
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
        finally:
            writer.close()


@pytest.fixture
async def reluctant(running: Service) -> AsyncIterator[Reluctant]:
    handler = Reluctant()
    listening = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    running.serve(upstreams=(Upstream(name="reluctant", base_url=f"http://127.0.0.1:{port}/v1"),))
    yield handler
    handler.gate.set()
    listening.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_every_byte_arrives_in_the_framing_that_it_came_in(
    running: Service, reluctant: Reluctant, chunked: bool
) -> None:
    reluctant.gate.set()
    body = bytes(range(256)) * 1000 + b"END"
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    kind = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + kind + b"\r\n\r\n")
    for start in range(0, len(framed), 10_000):
        writer.write(framed[start : start + 10_000])
        await asyncio.sleep(0)
    assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"{}"), 60)
    head, _, sent = reluctant.seen.partition(b"\r\n\r\n")
    assert kind in head.lower()
    if not chunked:
        assert sent == body
    writer.close()


async def test_a_slow_upstream_slows_its_client(running: Service, reluctant: Reluctant) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.transport.set_write_buffer_limits(high=65536)
    writer.write(HEAD + b"content-length: %d\r\n\r\n" % (64 * MIB + 3))
    written = 0

    async def pour() -> None:
        nonlocal written
        for _ in range(64):
            writer.write(bytes(MIB))
            await writer.drain()
            written += MIB
        writer.write(b"END")

    pouring = asyncio.create_task(pour())
    before = -1
    while written != before:
        before = written
        await asyncio.sleep(0.1)
    # What is on its way is in the buffers of two sockets and ours.
    assert written < 32 * MIB
    reluctant.gate.set()
    await pouring
    assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"{}"), 60)
    assert reluctant.read == 64 * MIB + 3
    writer.close()


async def test_an_upstream_that_takes_nothing_is_a_timeout(running: Service, reluctant: Reluctant) -> None:
    running.engine.seconds[Timer.IDLE] = 1.0
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + b"content-length: 100000000\r\n\r\n" + bytes(40 * MIB))
    assert b" 504 " in await asyncio.wait_for(reader.readline(), 60)
    writer.transport.abort()
    assert reluctant.connections == 1
    (row,) = await running.rows()
    assert (row["error_type"], row["nano_usd"]) == ("provider_timeout", 0)


@pytest.mark.parametrize(
    ("leave", "error_type"),
    [("stall", "caller_too_slow"), ("close", "caller_cancelled"), ("reset", "caller_cancelled")],
)
async def test_a_client_that_stops_in_the_middle_ends_its_request_upstream(
    running: Service, leave: str, error_type: str
) -> None:
    if leave == "stall":
        running.engine.seconds[Timer.REQUEST_BODY] = 1.0
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + b"content-length: 100000\r\n\r\n" + bytes(50_000))
    await until(lambda: running.simulator.accepted)
    if leave == "stall":
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 60)
    elif leave == "close":
        writer.close()
    else:
        writer.transport.abort()
    (row,) = await running.rows()
    assert row["error_type"] == error_type
    await until(lambda: not running.simulator.connections)
    assert not running.simulator.requests
    writer.close()


async def test_an_early_answer_of_the_upstream_reaches_the_client(running: Service, reluctant: Reluctant) -> None:
    reluctant.answer_after_head = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}"
    answer = await running.raw(HEAD + b"content-length: 10000000\r\n\r\n" + bytes(20_000))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    (row,) = await running.rows()
    assert row["status"] == 413


async def test_a_caller_who_waits_to_be_asked_is_asked_when_the_upstream_is_there(running: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = b'{"a":1}'
    head = HEAD + b"content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write(head)
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert b"200 OK" in await asyncio.wait_for(reader.readline(), 60)
    writer.close()


async def test_one_that_is_refused_is_never_asked(running: Service) -> None:
    running.serve(limits=Limits(requests_per_minute=1))
    await running.raw(HEAD + b"connection: close\r\ncontent-length: 0\r\n\r\n")
    answer = await running.raw(HEAD + b"expect: 100-continue\r\ncontent-length: 9999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 429 ")


async def test_a_body_over_the_limit_is_refused_as_soon_as_it_is_known(running: Service) -> None:
    running.serve(max_upload_bytes=100_000)
    assert b" 413 " in await running.raw(HEAD + b"content-length: 100001\r\n\r\n")
    piece = b"ffff\r\n" + bytes(65535) + b"\r\n"
    assert b" 413 " in await running.raw(HEAD + b"transfer-encoding: chunked\r\n\r\n" + piece * 3)
    await running.settled()
    assert running.metric("tenantry_in_flight_requests") == 0


def form(first: bytes, second: bytes) -> bytes:
    return b"\r\n".join([first, second, b"--b--\r\n"])


FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(200_000)
MODEL = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n'


@pytest.mark.parametrize(
    ("model", "status"), [(b"whisper-1", 200), (b"gpt-4o-transcribe", 404), (b"ears", 400), (None, 400)]
)
async def test_a_model_that_comes_behind_the_file_is_judged_before_the_form_ends(
    running: Service, model: bytes | None, status: int
) -> None:
    running.serve(models=Models(allow=("whisper-1",), aliases={"ears": "whisper-1"}))
    body = form(FILE, MODEL + model) if model is not None else form(FILE, MODEL.replace(b"model", b"other") + b"x")
    head = HEAD.replace(b"/v1/files", b"/v1/audio/transcriptions") + b"connection: close\r\n"
    answer = await running.raw(
        head + b"content-type: multipart/form-data; boundary=b\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    assert int(answer.split()[1]) == status
    assert running.simulator.requests.total() == (status == 200)
    await running.settled()
    assert running.metric("tenantry_in_flight_requests") == 0


async def test_a_large_file_passes_in_bounded_memory(tmp_path: Path) -> None:
    def memory(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with simulator_program(tmp_path) as upstream:
        flags = ("--upstream", upstream.base_url, "--state-dir", str(tmp_path / "state"))
        with service_program(tmp_path, *flags) as served:
            key = (tmp_path / "state" / "key").read_text().strip()
            await until(lambda: (tmp_path / "state" / "key").exists())
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, memory(served.process.pid))
                    await asyncio.sleep(0.02)

            async with openai.AsyncOpenAI(
                base_url=served.base_url, api_key=key, max_retries=0, timeout=SDK_TIMEOUT
            ) as sdk:
                await sdk.files.create(file=("small", io.BytesIO(b"x")), purpose="batch")
                before = memory(served.process.pid)
                watching = asyncio.create_task(watch())
                stored = await sdk.files.create(file=("large", io.BytesIO(bytes(100 * MIB))), purpose="batch")
                watching.cancel()
            assert stored.bytes == 100 * MIB
            assert most - before < 8 * MIB
