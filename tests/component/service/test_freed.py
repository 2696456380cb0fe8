"""What a connection held is free when it is lost, by reference counts alone: the collector looks for it seldom."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tenantry_service.policy import Upstream
from tenantry_service.proxy import websocket_upstream
from tenantry_service.proxy.asgi import ControlCall
from tenantry_service.proxy.call import Call
from tenantry_service.proxy.incoming import Requests
from tenantry_service.proxy.protocol import ClientConnection
from tenantry_service.proxy.upstream import Connection
from tenantry_service.proxy.websocket import Socket

from tests.component.service.harness import KEY, Service, chat_request, service, until

COUNTED = {ClientConnection, Requests, Call, ControlCall, Connection, Socket, websocket_upstream.Upstream}
CLOSE = b"connection: close\r\n"
AUTH = f"authorization: Bearer {KEY}\r\n".encode()
WEBSOCKET = (
    b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + AUTH + b"\r\n"
)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def there() -> Counter[str]:
    """The objects of a connection that are there, by their classes."""
    return Counter(type(found).__qualname__ for found in gc.get_objects() if type(found) in COUNTED)


def whole(*requests: bytes) -> Callable[[Service], Awaitable[None]]:
    """A client that reads its answers to their end; the last one ends the connection."""

    async def come_and_go(running: Service) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for request in requests[:-1]:
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
        writer.write(requests[-1])
        await asyncio.wait_for(reader.read(), 60)
        writer.close()

    return come_and_go


def connected(running: Service) -> object:
    return running.engine.telemetry.connections


def begun(running: Service) -> object:
    return running.engine.telemetry.in_flight


def asked(running: Service) -> object:
    return [name for name, busy, _ in running.engine.upstreams.figures() if busy]


def gone(
    request: bytes, reads: bytes = b"", when: Callable[[Service], object] = connected
) -> Callable[[Service], Awaitable[None]]:
    """A client that sends this, and is gone when it has read that and the service is so far."""

    async def come_and_go(running: Service) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request)
        if reads:
            await asyncio.wait_for(reader.readuntil(reads), 60)
        await until(lambda: when(running))
        writer.transport.abort()

    return come_and_go


def unreachable(way: Callable[[Service], Awaitable[None]]) -> Callable[[Service], Awaitable[None]]:
    """That way, where nobody listens at the upstream's address."""

    async def come_and_go(running: Service) -> None:
        running.serve(upstreams=(Upstream(name="main", base_url="http://127.0.0.1:1/v1"),))
        await way(running)

    return come_and_go


WAYS = {
    "a request": whole(chat_request(extra=CLOSE)),
    "requests": whole(chat_request(), chat_request(), chat_request(extra=CLOSE)),
    "a stream": whole(chat_request(extra=CLOSE, stream=True)),
    "a control route": whole(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n"),
    "no request": whole(b"\x00 nonsense\r\n\r\n"),
    "a websocket refused": whole(WEBSOCKET.replace(AUTH, b"")),
    "nothing": gone(b""),
    "half a head": gone(chat_request() + chat_request()[:70], b"\r\n\r\n"),
    "half a body": gone(chat_request()[:-9], when=begun),
    "gone before its answer": gone(chat_request(extra=b"x-simulator-latency-ms: 60000\r\n"), when=asked),
    "gone within a stream": gone(
        chat_request(extra=b"x-simulator-gap-ms: 50\r\nx-simulator-output-tokens: 1000\r\n", stream=True), b"data: "
    ),
    "gone from a control route": gone(
        b"POST /healthz HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n", b"100 Continue"
    ),
    "gone from a websocket": gone(WEBSOCKET, b"session.created"),
    "a request to nobody": unreachable(whole(chat_request(extra=CLOSE))),
    "a websocket to nobody": unreachable(whole(WEBSOCKET)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_lost_connection_is_freed_without_the_collector(running: Service, uncollected: None, way: str) -> None:
    async def come_and_go() -> None:
        await WAYS[way](running)
        await until(lambda: not running.engine.telemetry.connections and not running.engine.telemetry.in_flight)

    # What a pool keeps for the next request is there from now on.
    await come_and_go()
    gc.collect()
    before = there()
    for _ in range(3):
        await come_and_go()
    # What has closed goes within a turn of the loop or two (and some of that may have been there before); a slow
    # machine may need more of them.
    for _ in range(500):
        if not there() - before:
            break
        await asyncio.sleep(0.01)
    assert not there() - before
