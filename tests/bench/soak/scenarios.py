"""What happens to the service: each scenario is one connection of a client, from its beginning to its end.

A scenario says what must come of it: an answer with a status, or nothing in particular because the client does not
wait for it.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

MODEL = "gpt-4o-mini"
#: Served by an upstream of its own, which fails in every way: the breaker of the good one shall stay closed.
BAD_MODEL = "gpt-4o"
GOOD_MODELS = (MODEL, "gpt-realtime", "text-embedding-*", "whisper-1")
#: Seconds until an answer that must come is missed.
ANSWER_S = 30.0
#: Bytes of an answer that is larger than all the buffers on its way.
LARGE = 16_000_000
#: What an upstream that is away for a moment makes of any request, and what else may become of a good one.
AWAY = (502, 503)
GOOD = (200, *AWAY)
#: Seconds until a client repeats what it was told to repeat: what `retry-after` says.
AWAY_WAIT_S = 1.0


class Missing(Exception):  # noqa: N818 - says what happened
    """An answer did not come, or was not the one that must come."""


@dataclass(frozen=True)
class Site:
    """Where the service is, the key that it takes, and what its clients have sent and heard."""

    port: int
    key: str
    #: Set while the upstream is there: a client that was told to come back does so when there is somebody to ask.
    upstream: asyncio.Event = field(default_factory=asyncio.Event)
    #: Requests to routes whose requests are counted: that were sent with their whole head, whose answer came to its
    #: end, and among those the ones that an open circuit breaker answered.
    seen: Counter[str] = field(default_factory=Counter)


Scenario = Callable[[Site, random.Random], Awaitable[None]]


def request(
    site: Site,
    body: bytes | Mapping[str, object],
    path: str = "/v1/chat/completions",
    **simulated: int,
) -> bytes:
    """A whole request. ``simulated``: how its upstream shall behave (`die_after=2`)."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"x-simulator-{name.replace('_', '-')}: {value}\r\n" for name, value in simulated.items()]
    return (
        f"POST {path} HTTP/1.1\r\nhost: soak\r\nauthorization: Bearer {site.key}\r\n"
        f"content-type: application/json\r\n{''.join(lines)}content-length: {len(payload)}\r\n\r\n"
    ).encode() + payload


def chat(**more: object) -> dict[str, object]:
    """The body of a chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": "a few words of a soak"}], **more}


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, site: Site) -> Client:
        """Connect; a service that takes no connection has failed."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return cls(*await asyncio.open_connection("127.0.0.1", site.port))
        except (OSError, TimeoutError) as error:
            raise Missing(f"no connection: {error}") from error

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of an answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            raise Missing(f"no head: {error!r}") from error
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), headers

    async def answer(self) -> tuple[int, bytes]:
        """A whole answer: its status and its body, chunks taken apart."""
        status, headers = await self.head()
        try:
            async with asyncio.timeout(ANSWER_S):
                if "content-length" in headers:
                    return status, await self.reader.readexactly(int(headers["content-length"]))
                body = b""
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, ValueError) as error:
            raise Missing(f"half an answer ({status}): {error!r}") from error
        return status, body

    def leave(self, dice: random.Random) -> None:
        """Close, in one of the two ways in which clients do: in good order, or by a reset."""
        if dice.random() < 0.5:
            own: socket.socket = self.writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


def answered(*statuses: int, count: int = 1, holds: bytes = b"") -> Callable[..., Scenario]:
    """A scenario of requests on one kept connection, each of which gets one of these statuses, and what a good answer
    ``holds``."""

    def of(body: bytes | Mapping[str, object], path: str = "/v1/chat/completions", **simulated: int) -> Scenario:
        async def run(site: Site, dice: random.Random) -> None:
            client = await Client.connect(site)
            try:
                for _ in range(count):
                    client.writer.write(request(site, body, path, **simulated))
                    site.seen["sent"] += 1
                    status, got = await client.answer()
                    site.seen["answered"] += 1
                    site.seen["suspended"] += b"upstream_suspended" in got
                    if status not in statuses:
                        raise Missing(f"{status} instead of {statuses} for {path} with {simulated}: {got[:200]!r}")
                    # An upstream that goes away in the middle of a stream is one of the faults.
                    if status == 200 and holds not in got and b"upstream_interrupted" not in got:
                        raise Missing(f"an answer without {holds!r}: {got[-200:]!r}")
                    if status in AWAY:
                        await come_back(site)
            finally:
                client.leave(dice)

        return run

    return of


async def come_back(site: Site) -> None:
    """Wait as clients do that were told to repeat a request shortly, and until the upstream is there again."""
    await asyncio.sleep(AWAY_WAIT_S)
    await site.upstream.wait()


def leaving(cut: float, *, wait_for: bytes = b"", **simulated: int) -> Callable[..., Scenario]:
    """A client that leaves: when this share of its request is sent, or as soon as it has read ``wait_for``."""

    def of(body: Mapping[str, object], path: str = "/v1/chat/completions") -> Scenario:
        async def run(site: Site, dice: random.Random) -> None:
            client = await Client.connect(site)
            whole = request(site, body, path, **simulated)
            client.writer.write(whole[: round(len(whole) * cut)])
            site.seen["sent"] += 1
            try:
                if wait_for:
                    async with asyncio.timeout(ANSWER_S):
                        await client.reader.readuntil(wait_for)
                else:
                    await asyncio.sleep(dice.choice((0, 0.002, 0.05, 0.3)))
            except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
                raise Missing(f"{wait_for!r} did not come: {error!r}") from error
            finally:
                client.leave(dice)

        return run

    return of


async def slow_reader(site: Site, dice: random.Random) -> None:
    """Asks for much, reads little, then reads on or leaves."""
    client = await Client.connect(site)
    try:
        client.writer.write(request(site, chat(), padding=LARGE))
        site.seen["sent"] += 1
        status, _ = await client.head()
        await asyncio.sleep(dice.uniform(0.2, 1.0))
        if status == 200 and dice.random() < 0.5:
            async with asyncio.timeout(ANSWER_S):
                await client.reader.readexactly(LARGE)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the upstream went away
    except TimeoutError as error:
        raise Missing("a large answer stopped") from error
    finally:
        client.leave(dice)


async def upload(site: Site, dice: random.Random) -> None:
    """A form that passes through, whole or cut."""
    edge = "edge"
    fields = f'--{edge}\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    file = f'--{edge}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = (fields + file).encode() + b"\0" * dice.choice((1_000, 300_000)) + f"\r\n--{edge}--\r\n".encode()
    whole = request(site, body, "/v1/audio/transcriptions").replace(
        b"application/json", f"multipart/form-data; boundary={edge}".encode()
    )
    client = await Client.connect(site)
    site.seen["sent"] += 1
    try:
        if dice.random() < 0.3:
            client.writer.write(whole[: len(whole) * 2 // 3])
            await asyncio.sleep(0.05)
            return
        client.writer.write(whole)
        status, got = await client.answer()
        site.seen["answered"] += 1
        # The upstream may be away at this moment.
        if status not in GOOD:
            raise Missing(f"{status} for a form: {got[:200]!r}")
        if status in AWAY:
            await come_back(site)
    finally:
        client.leave(dice)


async def socket_left(site: Site, dice: random.Random) -> None:
    """A WebSocket that is opened and left."""
    client = await Client.connect(site)
    lines = [
        "GET /v1/realtime?model=gpt-realtime HTTP/1.1",
        "host: soak",
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        f"authorization: Bearer {site.key}",
    ]
    client.writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        if dice.random() < 0.7:
            status, _ = await client.head()
            if status not in (101, *AWAY):
                raise Missing(f"{status} for a WebSocket")
            if status in AWAY:
                await come_back(site)
    finally:
        client.leave(dice)


async def nonsense(site: Site, dice: random.Random) -> None:
    """What is no HTTP is answered by an error, and cut."""
    client = await Client.connect(site)
    try:
        client.writer.write(
            dice.choice((b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\nPOST\r\n\r\n"))
        )
        status, _ = await client.answer()
        if status < 400:
            raise Missing(f"{status} for nonsense")
    finally:
        client.leave(dice)


#: Name, weight, scenario. Most of what a service does is to serve: the faults are as many kinds as there are, and each
#: is rare, so that a breaker opens now and then and does not stay open.
SCENARIOS: Sequence[tuple[str, int, Scenario]] = (
    ("chat", 20, answered(*GOOD, count=10, holds=b"usage")(chat())),
    ("stream", 15, answered(*GOOD, count=3, holds=b"[DONE]")(chat(stream=True), gap_ms=3)),
    (
        "responses",
        5,
        answered(*GOOD, holds=b"completed")({"model": MODEL, "input": "words", "stream": True}, "/v1/responses"),
    ),
    ("embeddings", 5, answered(*GOOD)({"model": "text-embedding-3-small", "input": "words"}, "/v1/embeddings")),
    ("upload", 5, upload),
    ("WebSocket", 3, socket_left),
    ("large answer, slow reader", 1, slow_reader),
    ("upstream: error", 2, answered(500, *AWAY)(chat(model=BAD_MODEL), error_status=500)),
    ("upstream: refuses", 1, answered(429, *AWAY)(chat(model=BAD_MODEL), error_status=429)),
    ("upstream: asks to wait", 1, answered(503, *AWAY)(chat(model=BAD_MODEL), error_status=503, retry_after_ms=50)),
    ("upstream: cuts before its answer", 1, answered(*AWAY)(chat(model=BAD_MODEL), die_after=0)),
    (
        "upstream: cuts a stream",
        2,
        answered(*GOOD, holds=b"error")(chat(model=BAD_MODEL, stream=True), die_after=3, gap_ms=2),
    ),
    ("upstream: stalls, client leaves", 2, leaving(1, stall_after=0)(chat(model=BAD_MODEL))),
    ("upstream: stalls in a stream, client leaves", 2, leaving(1, stall_after=3)(chat(model=BAD_MODEL, stream=True))),
    ("client: leaves with half a head", 1, leaving(0.3)(chat())),
    ("client: leaves with half a body", 1, leaving(0.9)(chat())),
    ("client: leaves at once", 2, leaving(1, latency_ms=30)(chat())),
    ("client: leaves after the head", 1, leaving(1, wait_for=b"HTTP/1.1", gap_ms=5)(chat(stream=True))),
    ("client: leaves within a stream", 2, leaving(1, latency_ms=5, gap_ms=5)(chat(stream=True))),
    ("client: nonsense", 1, nonsense),
    ("client: no JSON", 1, answered(400)(b"{no json")),
    ("client: unknown model", 1, answered(404)({"model": "nobody's", "messages": []})),
)
