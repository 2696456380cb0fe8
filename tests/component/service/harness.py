"""The service on real sockets, in this process or as one of its own, in front of a simulator."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import uvicorn
from openai import AsyncOpenAI, OpenAI, Timeout
from tenantry_service import app
from tenantry_service import policy as policies
from tenantry_service.ledger.sqlite import SqliteLedger
from tenantry_service.limits.memory import MemoryLimiter
from tenantry_service.policy import Key, Policy, Upstream
from tenantry_service.proxy.engine import SWEEP_SECONDS, Engine
from tenantry_service.proxy.messages import Timer
from tenantry_service.proxy.pool import Upstreams
from tenantry_service.proxy.protocol import protocol_class
from tenantry_service.proxy.snapshot import Snapshot, TenantView
from tenantry_service.telemetry import Telemetry
from tenantry_simulator.behaviour import Behaviour
from tenantry_simulator.server import Connection, Simulator
from uvicorn.server import ServerState

from tests.ports import free_port

ROOT = Path(__file__).parents[3]
KEY = "tn_abcdefghijkl_0123456789012345678901234567890123456789"
CREDENTIAL = "sk-the-platforms-own-credential"

#: Longer than a machine stands still at times: who wants to see one of these pass sets it shorter.
PATIENT: Mapping[Timer, float] = {Timer.CONNECT: 60.0, Timer.REQUEST_BODY: 60.0}
#: The SDK's own, but for the five seconds that it has for connecting.
SDK_TIMEOUT = Timeout(600, connect=60)
#: A port at which nobody listens, and which no kernel gives to anybody.
NOBODY = 1


def key_record(key: str = KEY, **more: Any) -> Key:
    """The record of a key."""
    return Key(id=key.split("_")[1], name="default", sha256=hashlib.sha256(key.encode()).hexdigest(), **more)


def policy(upstream_port: int, **changes: Any) -> Policy:
    """An open policy for an upstream on this machine."""
    given: dict[str, Any] = {
        "tenant": "acme",
        "generation": 1,
        "keys": (key_record(),),
        "upstreams": (Upstream(name="main", base_url=f"http://127.0.0.1:{upstream_port}/v1"),),
        **changes,
    }
    return policies.sealed(Policy(**given))


@dataclass
class Service:
    """A service in this process."""

    port: int
    engine: Engine
    ledger: SqliteLedger
    ledger_path: Path
    simulator: Simulator
    simulator_port: int

    @property
    def base_url(self) -> str:
        """What the SDK is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    def sdk(self, key: str = KEY, **options: Any) -> AsyncOpenAI:
        """An asynchronous SDK client that does not retry unless told to."""
        return AsyncOpenAI(base_url=self.base_url, api_key=key, **{"max_retries": 0, "timeout": SDK_TIMEOUT, **options})

    def sync_sdk(self, key: str = KEY, **options: Any) -> OpenAI:
        """The synchronous one; call it in a thread."""
        return OpenAI(base_url=self.base_url, api_key=key, **{"max_retries": 0, "timeout": SDK_TIMEOUT, **options})

    def serve(self, **changes: Any) -> None:
        """Take over another policy."""
        document = policy(self.simulator_port, **changes)
        credentials = {upstream.name: CREDENTIAL for upstream in document.upstreams}
        self.engine.swap(Snapshot([TenantView(document, credentials)]))

    def steady(self) -> None:
        """From now on no pause of the machine is taken for an upstream or a client that lets us wait."""
        self.engine._loop = Steady(asyncio.get_running_loop())  # type: ignore[assignment]

    async def raw(self, request: bytes, *, eof: bool = False) -> bytes:
        """Send bytes, return everything until the service closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        if eof:
            writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.engine.telemetry.render().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))

    async def settled(self) -> None:
        """Wait until nothing is in flight and every event is written."""
        await until(lambda: not self.engine.telemetry.in_flight and not self.ledger.queued)

    async def rows(self) -> list[dict[str, Any]]:
        """The ledger."""
        await self.settled()
        return ledger_rows(self.ledger_path)


class Steady:
    """A loop by whose clock not more passes between two looks at deadlines than passes between them by rights."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._looked = self._now = loop.time()

    def time(self) -> float:
        """The loop's time, without the pauses."""
        now = self._loop.time()
        self._now += min(now - self._looked, SWEEP_SECONDS)
        self._looked = now
        return self._now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something that gives no sign when it happens."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ledger_rows(path: Path) -> list[dict[str, Any]]:
    """All events of a ledger file, in order of time."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        found = connection.execute("SELECT * FROM usage_events ORDER BY occurred_at_ms, length(event_id), event_id")
        return [dict(row) for row in found]
    finally:
        connection.close()


@asynccontextmanager
async def service(
    directory: Path, timeouts: Mapping[Timer, float] | None = None, **changes: Any
) -> AsyncIterator[Service]:
    """A simulator and a service in front of it, both in this process."""
    loop = asyncio.get_running_loop()
    simulator = Simulator(Behaviour(), f"Bearer {CREDENTIAL}")
    upstream = await loop.create_server(lambda: Connection(simulator), "127.0.0.1", 0)
    upstream_port = upstream.sockets[0].getsockname()[1]
    ledger = SqliteLedger(directory / "ledger.sqlite", batch_seconds=0.02)
    telemetry = Telemetry()
    engine = Engine(MemoryLimiter(), ledger, telemetry, Upstreams(), {**PATIENT, **(timeouts or {})})
    http = protocol_class(engine)
    protocol: Callable[..., asyncio.Protocol] = http
    config = uvicorn.Config(app.build(engine), http=http, log_config=None, lifespan="off")
    config.load()
    state = ServerState()
    server = await loop.create_server(lambda: protocol(config, state, {}, loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sweeper = asyncio.create_task(engine.sweep())
    running = Service(port, engine, ledger, directory / "ledger.sqlite", simulator, upstream_port)
    running.serve(**changes)
    try:
        yield running
    finally:
        server.close()
        upstream.close()
        for connection in list(state.connections):
            connection.shutdown()
        sweeper.cancel()
        ledger.close()


@dataclass
class Program:
    """A process of ours."""

    process: subprocess.Popen[str]
    port: int
    stderr: Path

    @property
    def base_url(self) -> str:
        """What the SDK is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a control route."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextmanager
def program(
    directory: Path,
    name: str,
    argv: list[str],
    port: int,
    env: Mapping[str, str] | None = None,
    *,
    patience: float = 60,
) -> Iterator[Program]:
    """Run one of our programs until the block ends; wait until it listens."""
    errors_path = directory / f"{name}.stderr"
    environment = {
        **{k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"},
        "PYTHONPATH": str(ROOT / "tests" / "simulator"),
        **(env or {}),
    }
    with errors_path.open("w") as errors_file, _popen(argv, environment, errors_file) as process:
        try:
            _wait_for(port, process, errors_path, patience)
            yield Program(process, port, errors_path)
        finally:
            if process.poll() is None:
                process.kill()


def _popen(argv: list[str], environment: Mapping[str, str], errors_file: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=errors_file, text=True, cwd=ROOT)


def _wait_for(port: int, process: subprocess.Popen[str], errors_path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"did not start: {errors_path.read_text()}") from None
            time.sleep(0.02)
        else:
            return


@contextmanager
def simulator_program(directory: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """The simulator as a process."""
    port = free_port()
    argv = [sys.executable, "-m", "tenantry_simulator", "--host", "127.0.0.1", "--port", str(port), *flags]
    with program(directory, "simulator", argv, port, env) as running:
        yield running


@contextmanager
def service_program(directory: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """`tenantry serve` as a process."""
    port = free_port()
    argv = [sys.executable, "-m", "tenantry", "serve", "--host", "127.0.0.1", "--port", str(port), *flags]
    with program(directory, "service", argv, port, env) as running:
        yield running


def chat_request(key: str = KEY, *, extra: bytes = b"", **fields: object) -> bytes:
    """A chat request as bytes."""
    body = json.dumps(
        {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "two words"}], **fields}
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n%bcontent-length: %d\r\n\r\n%b"
        % (key.encode(), extra, len(body), body)
    )
