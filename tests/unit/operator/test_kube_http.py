"""Connections to one server, against real sockets that do what servers and networks do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from unittest import mock

import pytest
import uvloop
from tenantry_operator.kube import http
from tenantry_operator.kube.http import ConnectionEnded, Server

PATIENCE = 60.0
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The operator runs on the one, tests and tools on the other."""
    made: asyncio.AbstractEventLoopPolicy = request.param()
    return made


HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Some: Thing\r\n\r\nhello"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Served:
    """A server whose n-th connection is served by the n-th of these, and all further ones by the last."""

    def __init__(self, *serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.asked: list[bytes] = []
        self.gone = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        serve = self._serve[min(self.connections, len(self._serve) - 1)]
        self.connections += 1
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            self.gone.set()
            writer.close()

    async def head(self, reader: asyncio.StreamReader) -> None:
        """Read the head of a request."""
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))


@asynccontextmanager
async def serving(served: Served) -> AsyncIterator[Server]:
    """Serve, and a client of it."""
    listening = await asyncio.start_server(served, "127.0.0.1", 0)
    client = Server(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/base/", True)
    try:
        with mock.patch.object(http, "CONNECT_TIMEOUT", PATIENCE):
            async with asyncio.timeout(PATIENCE):
                yield client
    finally:
        client.close()
        listening.close()


def answering(*answers: bytes, served: list[Served]) -> Serve:
    """Each request is answered so; after the last the connection is closed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await served[0].head(reader)
            writer.write(answer)
            await writer.drain()

    return serve


def server(*connections: tuple[bytes, ...]) -> Served:
    """A server that gives these answers on its first, second … connection."""
    box: list[Served] = []
    box.append(Served(*(answering(*answers, served=box) for answers in connections)))
    return box[0]


async def test_requests_go_over_one_connection_and_carry_what_they_are_given() -> None:
    served = server((HELLO, HELLO, HELLO))
    async with serving(served) as client:
        for _ in range(3):
            answer = await client.request("GET", "/a?b=c", {"Accept": "x/y"}, None)
            assert (answer.status, answer.body, answer.headers["x-some"]) == (200, b"hello", "Thing")
    assert served.connections == 1
    lines = served.asked[0].decode().split("\r\n")
    assert lines[0] == "GET /base/a?b=c HTTP/1.1"
    assert {"Accept: x/y", "Accept-Encoding: identity"} <= set(lines)
    assert lines[1].startswith("Host: 127.0.0.1:")


async def test_requests_side_by_side_have_a_connection_each() -> None:
    both = asyncio.Event()
    served = Served()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.head(reader)
        if served.connections == 2:
            both.set()
        await both.wait()
        writer.write(HELLO)
        await writer.drain()

    served._serve = (serve,)
    async with serving(served) as client:
        answers = await asyncio.gather(*(client.request("GET", "/", {}, None) for _ in range(2)))
    assert [answer.body for answer in answers] == [b"hello", b"hello"]


async def test_an_answer_in_chunks_and_what_is_said_before_it_are_put_together() -> None:
    before = b"HTTP/1.1 103 Early Hints\r\nX-Early: yes\r\n\r\n"
    chunked = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with serving(server((before + chunked, HELLO))) as client:
        answer = await client.request("POST", "/", {}, b"{}")
        assert (answer.status, answer.body, "x-early" in answer.headers) == (201, b"abcde", False)
        assert (await client.request("GET", "/", {}, None)).body == b"hello"


async def test_a_server_that_will_not_be_asked_again_is_not() -> None:
    last = HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    served = server((last,), (HELLO,))
    async with serving(served) as client:
        for _ in range(2):
            assert (await client.request("PATCH", "/", {}, b"{}")).body == b"hello"
    assert served.connections == 2


async def test_a_kept_connection_that_ends_as_we_ask_costs_a_read_nothing_and_leaves_a_write_in_doubt() -> None:
    box: list[Served] = []

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(HELLO, served=box)(reader, writer)
        await box[0].head(reader)  # and nothing is ever said to it

    box.append(Served(hangs_up, answering(HELLO, served=box), hangs_up))
    async with serving(box[0]) as client:
        await client.request("GET", "/", {}, None)
        assert (await client.request("GET", "/", {}, None)).body == b"hello"
        assert box[0].connections == 2
    box[:] = [Served(hangs_up)]
    async with serving(box[0]) as client:
        await client.request("GET", "/", {}, None)
        with pytest.raises(ConnectionEnded):
            await client.request("PATCH", "/", {}, b"{}")
        assert box[0].connections == 1


async def test_connections_that_were_kept_too_long_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEPT", 0.0)
    served = server((HELLO, HELLO))
    async with serving(served) as client:
        await client.request("PATCH", "/", {}, b"{}")
        await client.request("PATCH", "/", {}, b"{}")
    assert served.connections == 2


@pytest.mark.parametrize(
    "answer", [HELLO[:-2], HELLO[:20], b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_no_whole_answer_is_an_error_and_the_connection_is_not_used_again(answer: bytes) -> None:
    served = server((answer,), (HELLO,))
    async with serving(served) as client:
        with pytest.raises(ConnectionEnded):
            await client.request("PATCH", "/", {}, b"{}")
        assert (await client.request("PATCH", "/", {}, b"{}")).body == b"hello"
    assert served.connections == 2


async def test_who_gives_up_waiting_takes_the_connection_along() -> None:
    served = Served()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.head(reader)
        await reader.read()  # until the other side has gone

    served._serve = (silent,)
    async with serving(served) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.request("GET", "/", {}, None)
        await served.gone.wait()
        assert not client._open


async def test_nobody_there_is_said_at_once() -> None:
    async with serving(server((HELLO,))) as client:
        client._port = 1
        with pytest.raises(ConnectionEnded, match="cannot connect"):
            await client.request("GET", "/", {}, None)


@pytest.mark.parametrize(("target", "value"), [("/a b", "x"), ("/a\r\nX: y", "x"), ("/a", "x\r\nX: y"), ("/ä", "x")])
async def test_nothing_can_be_smuggled_into_a_head(target: str, value: str) -> None:
    served = server((HELLO,))
    async with serving(served) as client:
        with pytest.raises(ValueError, match="cannot stand in its head"):
            await client.request("GET", target, {"Accept": value}, None)
    assert served.asked == []


STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def streamed(client: Server, silence: float = PATIENCE) -> tuple[int, list[bytes]]:
    """The whole of a stream."""
    async with client.stream("/", {}, silence) as (head, chunks):
        return head.status, [chunk async for chunk in chunks]


async def test_a_stream_is_told_as_it_comes_until_its_end() -> None:
    async with serving(server((STREAM + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",))) as client:
        status, chunks = await streamed(client)
        assert (status, b"".join(chunks)) == (200, b"abc")
        assert not client._open


async def test_a_stream_that_is_cut_off_is_an_error_after_what_had_come() -> None:
    cut = server((STREAM + b"1\r\na\r\n",))
    async with serving(cut) as client, client.stream("/", {}, PATIENCE) as (_, chunks):
        assert await anext(chunks) == b"a"
        with pytest.raises(ConnectionEnded):
            await anext(chunks)


async def test_a_stream_that_falls_silent_is_given_up() -> None:
    served = Served()

    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.head(reader)
        writer.write(STREAM + b"1\r\na\r\n")
        await reader.read()

    served._serve = (stalls,)
    async with serving(served) as client:
        with pytest.raises(TimeoutError):
            await streamed(client, silence=0.05)
        await served.gone.wait()


async def test_a_slow_reader_of_a_stream_slows_the_server_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HIGH_WATER", 1 << 16)
    block, many = b"x" * (1 << 16), 400
    served, sent = Served(), 0

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await served.head(reader)
        writer.write(STREAM)
        for _ in range(many):
            writer.write(b"10000\r\n" + block + b"\r\n")
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    served._serve = (pours,)
    async with serving(served) as client, client.stream("/", {}, PATIENCE) as (_, chunks):
        total = 0
        async for chunk in chunks:
            if not total:
                for _ in range(50):  # as many turns of the loop as the server likes
                    await asyncio.sleep(0.01)
                assert sent < many, "all of it was taken in unread"
            total += len(chunk)
    assert total == many * len(block)
