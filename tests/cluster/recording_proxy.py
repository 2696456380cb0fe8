"""Proxies before the API server: they remember what an operator writes, and can harm it as networks and servers do."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from aiohttp import web
from tenantry_operator.kube import config

from tests.cluster.cluster import TENANTS, TIERS

T = TypeVar("T")

_HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Asked:
    """A request: its verb as the API server names it, and its path without the query."""

    verb: str
    path: str

    @property
    def is_write(self) -> bool:
        """Whether it may change something. Renewals of Leases do not count: they go on whatever happens."""
        return self.verb not in ("get", "list", "watch") and "/leases" not in self.path


@dataclass(frozen=True)
class Write:
    """A write and its answer: of which object (a create's, too), and with which uid, as far as the answer tells."""

    method: str
    path: str
    status: int
    uid: str
    at: float


class Harm(Enum):
    """What can happen to a request."""

    REFUSE = auto()  # the server says no, and does nothing
    LOSE_ANSWER = auto()  # the server does it, and nobody hears of it
    CUT = auto()  # the connection breaks before the server has read anything
    STALE = auto()  # the answer of a server that is behind: what it said when this was asked for the first time


@dataclass(frozen=True)
class Fault:
    """One thing that happens to a request."""

    harm: Harm
    status: int = 500
    retry_after: int | None = None


@dataclass
class Proxy:
    """One way to the API server. It passes on who asks, and adds no right of its own.

    ``only``: the Tenant that can be seen through it, with its objects, and ``tier`` its tier; all others look as if
    they did not exist.
    ``fault``: asked about each request, says what is to happen to it. Everything is called in the proxies' thread.
    """

    kubeconfig: Path
    only: str | None = None
    tier: str = ""
    fault: Callable[[Asked], Fault | None] = lambda _: None
    writes: list[Write] = field(default_factory=list)
    reads: int = 0
    asked: list[Asked] = field(default_factory=list)
    _kill_after: int = 0
    _victim: int | None = None
    _counts: Callable[[Asked], bool] = lambda _: True
    _counted: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _streams: set[asyncio.Task[Any]] = field(default_factory=set)
    _first: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)

    def kill_after(self, writes: int, victim: int, of: Callable[[Asked], bool] = lambda _: True) -> None:
        """Kill this process right after the server has done that many writes, and pass nothing on from then on.

        ``of``: the writes that count; by default all of them do.

        It has no answer to the last of them: for it, that may or may not have happened. Writes that it has sent side
        by side are passed on one by one, so exactly so many have happened.
        """
        self.writes.clear()
        self._counts, self._counted = of, 0
        self._kill_after, self._victim = writes, victim

    def aim_at(self, victim: int) -> None:
        """Another process has taken the place of the one that is to be killed."""
        self._victim = victim

    @property
    def has_killed(self) -> bool:
        """Whether it came to that."""
        return bool(self._kill_after) and self._counted >= self._kill_after

    def query(self, path: str, query: dict[str, str]) -> dict[str, str]:
        """The query of a list or watch, so that it shows nothing but the one Tenant."""
        if self.tier and path.endswith("/controllerrevisions"):
            return {**query, "labelSelector": f"{query['labelSelector']},tenantry.dev/tier={self.tier}"}
        if self.only is None or "/namespaces/" in path:
            return query
        if path == TENANTS:
            return {**query, "fieldSelector": f"metadata.name={self.only}"}
        if path == TIERS and self.tier:
            return {**query, "fieldSelector": f"metadata.name={self.tier}"}
        if "tenantry.dev/tenant" in query.get("labelSelector", ""):
            return {**query, "labelSelector": f"{query['labelSelector']},tenantry.dev/tenant={self.only}"}
        return query

    def note(self, asked: Asked, method: str, status: int, body: bytes) -> None:
        """Remember a write, and kill if it was the one."""
        name, uid = _identity(body)
        path = f"{asked.path}/{name}" if method == "POST" and name else asked.path
        self.writes.append(Write(method, path, status, uid, time.monotonic()))
        if not self._counts(asked):
            return
        self._counted += 1
        if self._victim is not None and self._counted == self._kill_after:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._victim, signal.SIGKILL)


class Proxies:
    """Proxies in a thread of their own, each on a port of its own."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        self._source, self._directory = kubeconfig, directory
        self._access = config.from_kubeconfig(kubeconfig)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runners: list[web.AppRunner] = []
        self._session: aiohttp.ClientSession | None = None

    def open(self, only: str | None = None, tier: str = "") -> Proxy:
        """A new proxy; an operator gets there by its kubeconfig."""
        return self._call(self._open(only, tier))

    def cut_streams(self, proxy: Proxy) -> None:
        """Break every watch that is open."""

        async def cut() -> None:
            for stream in list(proxy._streams):
                stream.cancel()

        self._call(cut())

    def _call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End all of them."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        if self._session is not None:
            await self._session.close()

    async def _open(self, only: str | None, tier: str) -> Proxy:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._access.tls(), limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        proxy = Proxy(self._directory / f"proxy-{len(self._runners)}.kubeconfig", only, tier)
        app = web.Application(client_max_size=1 << 24)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._handle(proxy, request)

        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._runners.append(runner)
        document = yaml.safe_load(self._source.read_text())
        for each in document["clusters"]:
            each["cluster"] = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        proxy.kubeconfig.write_text(yaml.safe_dump(document))
        return proxy

    async def _handle(self, proxy: Proxy, request: web.Request) -> web.StreamResponse:
        asked = Asked(_verb(request), request.path)
        proxy.asked.append(asked)
        if asked.verb == "watch":
            return await self._stream(proxy, request)
        body = await request.read()
        if not asked.is_write:
            return await self._exchange(proxy, asked, request, body)
        async with proxy._turn:
            if proxy.has_killed:
                raise _cut(request)
            return await self._exchange(proxy, asked, request, body)

    async def _exchange(self, proxy: Proxy, asked: Asked, request: web.Request, body: bytes) -> web.StreamResponse:
        fault = proxy.fault(asked)
        key = f"{request.method} {request.raw_path}"
        if fault is not None and fault.harm is Harm.CUT:
            raise _cut(request)
        if fault is not None and fault.harm is Harm.REFUSE:
            return _refusal(fault)
        if fault is not None and fault.harm is Harm.STALE and key in proxy._first:
            status, headers, answer = proxy._first[key]
            return web.Response(status=status, headers=headers, body=answer)
        async with self._asking(proxy, request, body) as upstream:
            answer = await upstream.read()
            headers = _passed(upstream.headers.items())
            status = upstream.status
        if request.method == "GET":
            proxy._first.setdefault(key, (status, headers, answer))
        if asked.is_write:
            proxy.note(asked, request.method, status, answer)
        if fault is not None and fault.harm is Harm.LOSE_ANSWER:
            raise _cut(request)
        return web.Response(status=status, headers=headers, body=answer)

    async def _stream(self, proxy: Proxy, request: web.Request) -> web.StreamResponse:
        fault = proxy.fault(Asked("watch", request.path))
        if fault is not None and fault.harm is Harm.REFUSE:
            return _refusal(fault)
        if fault is not None:
            raise _cut(request)
        task = asyncio.current_task()
        assert task is not None
        proxy._streams.add(task)
        try:
            async with self._asking(proxy, request, b"") as upstream:
                answer = web.StreamResponse(status=upstream.status, headers=_passed(upstream.headers.items()))
                await answer.prepare(request)
                with contextlib.suppress(ConnectionResetError):  # nobody listens any more
                    async for chunk in upstream.content.iter_any():
                        await answer.write(chunk)
                return answer
        finally:
            proxy._streams.discard(task)

    @contextlib.asynccontextmanager
    async def _asking(self, proxy: Proxy, request: web.Request, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        query = proxy.query(request.path, dict(request.query)) if request.method == "GET" else dict(request.query)
        async with self._session.request(
            request.method,
            self._access.server + request.path,
            params=query,
            data=body or None,
            headers=_passed(request.headers.items()),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            yield upstream


@contextlib.contextmanager
def proxies(kubeconfig: Path, directory: Path) -> Iterator[Proxies]:
    """Proxies before the API server of this kubeconfig, for the length of a test."""
    running = Proxies(kubeconfig, directory)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def _passed(headers: Any) -> dict[str, str]:
    return {key: value for key, value in headers if key.lower() not in _HOP_BY_HOP}


def _verb(request: web.Request) -> str:
    if request.method == "GET":
        if request.query.get("watch") in ("true", "1"):
            return "watch"
        return "get"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[request.method]


def _refusal(fault: Fault) -> web.Response:
    reason = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}.get(fault.status, "ServiceUnavailable")
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": "as arranged"}
    return web.json_response({**status, "code": fault.status}, status=fault.status, headers=headers)


def _cut(request: web.Request) -> Exception:
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError("as arranged")


def _identity(body: bytes) -> tuple[str, str]:
    """Name and uid in the answer to a write: of the object, or of what a finished deletion reports."""
    try:
        document = json.loads(body)
    except ValueError:
        return "", ""
    metadata, details = document.get("metadata", {}), document.get("details", {})
    return str(metadata.get("name", "")), str(metadata.get("uid") or details.get("uid") or "")
