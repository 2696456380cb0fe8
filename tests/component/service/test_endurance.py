"""What keeps a connection open, and what bounds the memory of all of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tenantry_service.proxy.messages import Timer

from tests.component.service.harness import KEY, Service, chat_request, service, until

QUIET = {Timer.QUIET: 0.3, Timer.IDLE: 2.0}
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path, QUIET) as found:
        yield found


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
async def test_a_silent_stream_is_kept_alive_by_comments_and_is_still_given_up_in_time(
    running: Service, path: str
) -> None:
    request = chat_request(extra=b"x-simulator-stall-after: 3\r\nconnection: close\r\n", stream=True)
    running.steady()
    answer = await running.raw(request.replace(b"chat/completions", path.encode()))
    assert 2 <= answer.count(b": keep-alive\n\n") <= 8
    head, _, rest = answer.partition(b": keep-alive\n\n")
    assert head.count(b"data: ") == 3
    assert rest.count(b"data: ") == 1
    assert b"upstream_timeout" in rest


async def test_a_stream_that_speaks_gets_no_comment(running: Service) -> None:
    running.steady()
    answer = await running.raw(chat_request(extra=b"x-simulator-gap-ms: 60\r\nconnection: close\r\n", stream=True))
    assert b"[DONE]" in answer
    assert b"keep-alive\n" not in answer


async def test_bodies_that_are_held_are_bounded_for_the_process(running: Service) -> None:
    running.engine.max_held_bytes = 300_000
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 250_000}]}).encode()
    head = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(head)
    # What comes with the head is not counted.
    await until(lambda: running.engine.telemetry.in_flight == 1)
    writer.write(body[:-1])
    await until(lambda: running.engine.held_bytes > 200_000)
    refused_reader, refused = await asyncio.open_connection("127.0.0.1", running.port)
    refused.write(head)
    await until(lambda: running.engine.telemetry.in_flight == 2)
    refused.write(body[:-1])
    answer = await asyncio.wait_for(refused_reader.read(), 60)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer
    writer.write(body[-1:])
    assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 200 ")
    await running.settled()
    assert running.engine.held_bytes == 0
    for closed in (writer, refused):
        closed.close()


async def test_a_body_in_tiny_pieces_is_understood(running: Service) -> None:
    body = chat_request().partition(b"\r\n\r\n")[2]
    chunks = b"".join(b"1\r\n%b\r\n" % body[index : index + 1] for index in range(len(body)))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n")
    for start in range(0, len(chunks), 50):
        writer.write(chunks[start : start + 50])
        await asyncio.sleep(0)
    writer.write(b"0\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 200 ")
    writer.close()
