"""The upstream pool on real sockets: bounds, order, cancellation, TLS."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from tenantry_service.policy import Upstream
from tenantry_service.proxy import pool as pool_module
from tenantry_service.proxy import upstream as upstream_module
from tenantry_service.proxy.messages import Gone, ResponseHead
from tenantry_service.proxy.pool import Pool, Upstreams
from tenantry_service.proxy.sides import Handle, Listener
from tenantry_service.proxy.snapshot import Endpoint, endpoint

from tests.component.service.harness import NOBODY, until


class Server:
    """Answers each request with its own path, when it is told to."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.open = self.most = 0
        self.gate = asyncio.Event()
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
                self.seen.append(path)
                await self.gate.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    handler = Server()
    listening = await asyncio.start_server(handler, "127.0.0.1", 0)
    handler.port = listening.sockets[0].getsockname()[1]
    yield handler
    handler.gate.set()
    listening.close()


class Waiter(Listener):
    """A listener that remembers what it was told."""

    def __init__(self, path: str) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        self.handle: Handle | None = None
        self.told: list[object] = []
        self.body = b""

    def send(self, pool: Pool | Upstreams, where: Endpoint | None = None) -> "Waiter":
        if isinstance(pool, Pool):
            pending = pool.send(self.request, self)
        else:
            assert where is not None
            pending = pool.send(where, self.request, self)
        self.handle = pending or self.handle
        return self

    def upstream_sent(self, handle: Handle) -> None:
        self.handle = handle

    def upstream_full(self) -> None:
        pass

    def upstream_drained(self) -> None:
        pass

    def upstream_read(self, head: ResponseHead | None, data: bytes, *, end: bool) -> None:
        self.body += data
        if end:
            self.told.append("end")

    def upstream_closed(self) -> None:
        self.told.append("closed")

    def upstream_gone(self, gone: Gone) -> None:
        self.told.append(gone)


def where(port: int, scheme: str = "http", host: str = "127.0.0.1") -> Endpoint:
    return endpoint(Upstream(name="u", base_url=f"{scheme}://{host}:{port}"), None)


async def test_no_more_connections_than_allowed_and_who_came_first_is_served_first(server: Server) -> None:
    pool = Pool(where(server.port), None, max_connections=2)
    waiters = [Waiter(f"/{number}").send(pool) for number in range(6)]
    await until(lambda: len(server.seen) == 2)
    server.gate.set()
    await until(lambda: all(waiter.told for waiter in waiters))
    assert [waiter.body for waiter in waiters] == [f"/{number}".encode() for number in range(6)]
    assert sorted(server.seen[:2]) + server.seen[2:] == [f"/{number}".encode() for number in range(6)]
    assert server.most == 2
    assert (pool.busy, pool.idle) == (0, 2)


async def test_whoever_leaves_the_line_hears_nothing_and_holds_up_nobody(server: Server) -> None:
    pool = Pool(where(server.port), None, max_connections=1)
    first, second, third = (Waiter(f"/{number}").send(pool) for number in range(3))
    await until(lambda: server.seen)
    assert second.handle is not None
    second.handle.cancel()
    assert first.handle is not None
    first.handle.cancel()
    server.gate.set()
    await until(lambda: third.told)
    assert (first.told, second.told, third.told) == ([], [], ["end"])
    await until(lambda: (pool.busy, pool.idle) == (0, 1))


async def test_leaving_at_once_leaves_the_pool_clean(server: Server) -> None:
    pool = Pool(where(server.port), None)
    for rounds in range(20):
        waiter = Waiter("/x").send(pool)
        for _ in range(rounds % 5):
            await asyncio.sleep(0)
        assert waiter.handle is not None
        waiter.handle.cancel()
        assert waiter.told == []
    server.gate.set()
    last = Waiter("/last").send(pool)
    await until(lambda: last.told)
    assert last.body == b"/last"
    await until(lambda: pool.busy == 0)


async def test_an_address_where_nobody_listens_fails_everybody_who_waits() -> None:
    pool = Pool(where(NOBODY), None, max_connections=1)
    waiters = [Waiter(f"/{number}").send(pool) for number in range(3)]
    await until(lambda: all(waiter.told for waiter in waiters))
    assert all(waiter.told == [Gone.UNREACHABLE] for waiter in waiters)
    assert pool.busy == 0


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "x" * 70 + ".invalid"])
async def test_a_name_that_means_nothing_is_unreachable(host: str) -> None:
    waiter = Waiter("/x").send(Pool(where(80, host=host), None))
    await until(lambda: waiter.told)
    assert waiter.told == [Gone.UNREACHABLE]


async def test_idle_connections_are_closed_in_time(server: Server) -> None:
    server.gate.set()
    pool = Pool(where(server.port), None)
    waiter = Waiter("/x").send(pool)
    await until(lambda: waiter.told)
    pool.close_idle(0.0)
    assert pool.idle == 1
    pool.close_idle(float("inf"))
    assert pool.idle == 0
    await until(lambda: server.open == 0)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    command = ["openssl", *options.split(), *names.split()]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    return tmp_path


async def test_an_upstream_speaks_tls_and_its_certificate_is_checked(certificate: Path) -> None:
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    handler = Server()
    handler.gate.set()
    listening = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=ours)
    address = where(listening.sockets[0].getsockname()[1], "https", "localhost")
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    served = Waiter("/tls").send(Upstreams(trusting), address)
    distrusted = Waiter("/tls").send(Upstreams(), address)
    await until(lambda: served.told and distrusted.told)
    assert (served.body, served.told) == (b"/tls", ["end"])
    assert distrusted.told == [Gone.UNREACHABLE]
    listening.close()


class Fickle:
    """Answers so many requests on each connection, then resets it when the next one comes."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.seen: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self.answers):
            self.seen.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()


async def test_a_request_to_a_connection_that_was_being_closed_goes_to_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # That it is lost at once is seen late on a slow machine.
    monkeypatch.setattr(upstream_module, "STALE_SECONDS", 60.0)
    fickle = Fickle(1)
    listening = await asyncio.start_server(fickle, "127.0.0.1", 0)
    pool = Pool(where(listening.sockets[0].getsockname()[1]), None)
    for path in ("/0", "/1", "/2"):
        waiter = Waiter(path).send(pool)
        await until(partial(bool, waiter.told))
        assert (waiter.told, waiter.body) == (["end"], b"ok")
    assert fickle.seen == [b"/0", b"/1", b"/2"]
    listening.close()


async def test_a_request_that_may_be_sent_once_gets_a_connection_that_cannot_be_stale() -> None:
    fickle = Fickle(1)
    listening = await asyncio.start_server(fickle, "127.0.0.1", 0)
    pool = Pool(where(listening.sockets[0].getsockname()[1]), None)
    first = Waiter("/0").send(pool)
    await until(lambda: first.told)
    assert pool.idle == 1
    once = Waiter("/1")
    once.handle = pool.send(once.request, once, once=True)
    await until(lambda: once.told)
    assert (once.told, fickle.seen) == (["end"], [b"/0", b"/1"])
    assert (pool.idle, pool.busy) == (2, 0)
    listening.close()


async def test_a_request_that_may_be_sent_once_is_lost_with_its_connection() -> None:
    fickle = Fickle(1)
    listening = await asyncio.start_server(fickle, "127.0.0.1", 0)
    # No room for another connection: it has to take the one that there is.
    pool = Pool(where(listening.sockets[0].getsockname()[1]), None, max_connections=1)
    first = Waiter("/0").send(pool)
    await until(lambda: first.told)
    once = Waiter("/1")
    once.handle = pool.send(once.request, once, once=True)
    await until(lambda: once.told)
    assert (once.told, fickle.seen) == ([Gone.INTERRUPTED], [b"/0"])
    listening.close()


async def test_a_name_is_asked_again_when_a_connection_has_had_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Server(), Server()
    listening: list[asyncio.Server] = []
    for number, handler in enumerate((old, new), 1):
        handler.gate.set()
        port = listening[0].sockets[0].getsockname()[1] if listening else 0
        listening.append(await asyncio.start_server(handler, f"127.0.0.{number}", port))
    loop = asyncio.get_running_loop()
    address = "127.0.0.1"

    async def resolve(host: str, port: int, **_: object) -> list[object]:
        assert host == "moves.test"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(pool_module, "MAX_AGE_SECONDS", 3600.0)
    pool = Pool(where(listening[0].sockets[0].getsockname()[1], host="moves.test"), None)

    async def ask(path: str) -> None:
        waiter = Waiter(path).send(pool)
        await until(lambda: waiter.told)
        assert waiter.body == path.encode()

    await ask("/0")
    address = "127.0.0.2"
    await ask("/1")
    # A kept connection is as good as its host, for a while.
    assert (old.seen, new.seen) == ([b"/0", b"/1"], [])
    pool.close_idle(float("inf"))
    monkeypatch.setattr(pool_module, "MAX_AGE_SECONDS", 0.0)
    address = "127.0.0.1"
    await ask("/2")
    # It has served its request, and is not kept for another one.
    assert pool.idle == 0
    address = "127.0.0.2"
    await ask("/3")
    assert (old.seen, new.seen) == ([b"/0", b"/1", b"/2"], [b"/3"])
    for server in listening:
        server.close()


async def test_a_new_connection_that_is_reset_is_no_stale_one() -> None:
    listening = await asyncio.start_server(Fickle(0), "127.0.0.1", 0)
    waiter = Waiter("/x").send(Pool(where(listening.sockets[0].getsockname()[1]), None))
    await until(lambda: waiter.told)
    assert waiter.told == [Gone.INTERRUPTED]
    listening.close()


async def test_what_comes_behind_an_answer_is_not_taken_for_the_next_one(server: Server) -> None:
    async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-le")

    listening = await asyncio.start_server(chatty, "127.0.0.1", 0)
    pool = Pool(where(listening.sockets[0].getsockname()[1]), None)
    waiter = Waiter("/x").send(pool)
    await until(lambda: waiter.told)
    assert (waiter.body, pool.idle) == (b"ok", 0)
    listening.close()
