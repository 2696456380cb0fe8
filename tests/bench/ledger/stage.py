"""What a soak of the ledger plays on: an upstream that counts, services that can be killed, clients that never stop."""

import asyncio
import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from localcluster.controlplane import free_ports
from localcluster.datastores import Redis
from tenantry_service import policy as policies
from tenantry_service.policy import Key, Limits, Policy, Upstream

KEY = "tn_soaksoaksoak_" + "s" * 43
PROMPT, COMPLETION = 100, 20
#: By the rates of a model that nobody has priced.
COST = PROMPT * 2500 + COMPLETION * 10_000
START_SECONDS = 60.0
REQUEST_SECONDS = 30.0
_NO_FAULT_OF_POSTGRES = ("limits_unavailable", "rate_limit_exceeded")


class Counting:
    """Answers chats and remembers whom: the marker is the model's name."""

    def __init__(self) -> None:
        self.served: set[str] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, sender: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                asked = json.loads(await reader.readexactly(length))
                await asyncio.sleep(random.random() * 0.03)
                await self._answer(sender, asked)
                # Only now: what was not written was not served.
                self.served.add(asked["model"])
        sender.close()

    async def _answer(self, sender: asyncio.StreamWriter, asked: dict[str, object]) -> None:
        usage = {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION}
        if asked.get("stream"):
            sender.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for number in range(4):
                chunk = {"choices": [{"index": 0, "delta": {"content": f"word {number} "}}]}
                _chunk(sender, b"data: %b\n\n" % json.dumps(chunk).encode())
                await sender.drain()
                await asyncio.sleep(random.random() * 0.005)
            _chunk(sender, b"data: %b\n\n" % json.dumps({"choices": [], "usage": usage}).encode())
            _chunk(sender, b"data: [DONE]\n\n")
            sender.write(b"0\r\n\r\n")
        else:
            body = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}).encode()
            sender.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
        await sender.drain()


def _chunk(sender: asyncio.StreamWriter, data: bytes) -> None:
    sender.write(b"%x\r\n%b\r\n" % (len(data), data))


class Serving:
    """One `tenantry serve` that may be killed and started again, at the same port and with the same state."""

    def __init__(self, directory: Path, number: int, policy: Path, redis_file: Path | None) -> None:
        self.port = free_ports(1)[0]
        self._command = [
            *(sys.executable, "-m", "tenantry", "serve", "--policy", str(policy), "--host", "127.0.0.1"),
            *("--port", str(self.port), "--state-dir", str(directory / f"state-{number}"), "--log-level", "error"),
            *(() if redis_file is None else ("--redis-file", str(redis_file))),
        ]
        self.state_dir = directory / f"state-{number}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start, and return when it takes requests."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)  # noqa: ASYNC220 - a millisecond
        deadline = time.monotonic() + START_SECONDS
        while not await self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("tenantry serve does not start")
            await asyncio.sleep(0.05)

    async def _ready(self) -> bool:
        try:
            reader, sender = await asyncio.open_connection("127.0.0.1", self.port)
            sender.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            said = await asyncio.wait_for(reader.read(), 2)
            sender.close()
        except (OSError, TimeoutError):
            return False
        return said.startswith(b"HTTP/1.1 200")

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """In good order; to be called again without harm."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


class Load:
    """Clients that never stop."""

    def __init__(self, serving: list[Serving]) -> None:
        self._serving = serving
        self.sent: set[str] = set()
        #: Marker -> the id that the client was told, for answers that came whole.
        self.answered: dict[str, str] = {}
        #: Answers that were no 200, and neither for want of Redis nor of slots, which the dead hold until their leases
        #: end: while PostgreSQL is away, nobody may feel it.
        self.failed: list[str] = []
        self.watched = False
        self.stopping = False
        self._count = 0

    async def run(self) -> None:
        """One client."""
        while not self.stopping:
            self._count += 1
            marker = f"m{self._count}"
            self.sent.add(marker)
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    status, said = await self._ask(random.choice(self._serving).port, marker)
            except (OSError, EOFError, ValueError, TimeoutError):
                # Killed under us, or not there.
                await asyncio.sleep(0.01)
                continue
            if status == 200:
                self.answered[marker] = said
                continue
            if self.watched and not any(code in said for code in _NO_FAULT_OF_POSTGRES):
                self.failed.append(f"{marker}: {status} {said}")
            await asyncio.sleep(0.02)

    async def _ask(self, port: int, marker: str) -> tuple[int, str]:
        """Status, and the request's id or what else is said."""
        reader, sender = await asyncio.open_connection("127.0.0.1", port)
        try:
            stream = random.random() < 0.5
            body = json.dumps({"model": marker, "messages": [], "max_tokens": 200, "stream": stream}).encode()
            sender.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\nconnection: close\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
            )
            said = await reader.read()
        finally:
            sender.close()
        head, _, rest = said.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            raise EOFError("no answer")
        status = int(head[9:12])
        if status != 200:
            return status, rest.decode(errors="replace")
        if not (b"[DONE]" in rest if stream else b'"usage"' in rest):
            raise EOFError("half an answer")
        request_id = head.lower().partition(b"x-request-id:")[2].split(b"\r\n")[0].strip().decode()
        return status, request_id


def write_policy(path: Path, port: int) -> None:
    """One tenant with an upstream."""
    policy = Policy(
        tenant="soak",
        generation=1,
        keys=(Key(id=KEY.split("_")[1], name="soak", sha256=hashlib.sha256(KEY.encode()).hexdigest()),),
        limits=Limits(concurrent_requests=200),
        upstreams=(Upstream(name="main", base_url=f"http://127.0.0.1:{port}/v1"),),
    )
    path.write_bytes(policies.encode(policies.sealed(policy)))


@asynccontextmanager
async def load(
    directory: Path, redis: Redis | None, processes: int, clients: int
) -> AsyncIterator[tuple[Load, list[Serving], Counting]]:
    """Processes under load; on leaving, the load has ended and the processes have, too."""
    upstream = Counting()
    await upstream.start()
    policy = directory / "policy.json"
    write_policy(policy, upstream.port)
    redis_file: Path | None = None
    if redis is not None:
        redis_file = directory / "serve-redis-url"
        redis_file.write_text(redis.url)
    serving = [Serving(directory, number, policy, redis_file) for number in range(processes)]
    asking = Load(serving)
    try:
        for each in serving:
            await each.start()
        tasks = [asyncio.create_task(asking.run()) for _ in range(clients)]
        yield asking, serving, upstream
        asking.stopping = True
        await asyncio.gather(*tasks)
    finally:
        asking.stopping = True
        for each in serving:
            await asyncio.to_thread(each.stop)
        await upstream.stop()
