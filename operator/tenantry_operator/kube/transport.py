"""The one way to the API server: requests that are bounded, fenced and counted, and streams that must not fall silent.

Every request has a time limit; writes in flight are capped, so that a cold start of thousands of tenants queues here
and not in the API server's fair queues; a 429 is waited out as told. Nothing else is retried: the caller is
level-triggered and its queue knows when to come back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlencode

from tenantry_operator.kube import errors
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.http import ConnectionEnded, Server

#: Seconds for one request. The API server's own limit is 60; what takes half of that is worth a fresh try.
REQUEST_TIMEOUT = 30.0

#: Writes in flight. One API server in EKS gives `workload-low` 245 seats, shared by all service accounts; a seat
#: serves ~50 writes/s, so 32 are ~1,600 writes/s: more than two cores of API server can do.
WRITES_IN_FLIGHT = 32
READS_IN_FLIGHT = 64

#: How often one request waits out a 429 before the error goes to the caller.
THROTTLED_TRIES = 5


class CallObserver(Protocol):
    """Is told of every request: HTTP verb, kind, status code (0 for no answer) and seconds."""

    def __call__(self, verb: str, kind: str, code: int, seconds: float) -> None: ...


def unobserved(verb: str, kind: str, code: int, seconds: float) -> None:
    """Nobody wants to know."""


class Transport:
    """Connections to one API server. Use as an async context manager.

    ``may_write`` is asked right before each write; False raises ``WritesForbidden``. It fences a leader
    that lost its Lease while it was not running (a stopped process, a blocked loop).
    """

    def __init__(
        self,
        access: Access,
        *,
        observe: CallObserver = unobserved,
        may_write: Callable[[], bool] = lambda: True,
        writes_in_flight: int = WRITES_IN_FLIGHT,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self.access = access
        self._observe = observe
        self.may_write = may_write
        self._writes = asyncio.Semaphore(writes_in_flight)
        self._reads = asyncio.Semaphore(READS_IN_FLIGHT)
        self._timeout = request_timeout
        self._opened: Server | None = None

    async def __aenter__(self) -> Self:
        self._opened = Server(self.access.server, self.access.tls())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _server(self) -> Server:
        assert self._opened is not None, "use it as a context manager"
        return self._opened

    async def call(
        self,
        method: str,
        path: str,
        *,
        kind: str,
        verb: str | None = None,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        """One request; the body of its answer. Raises KubeError."""
        token = await self.access.tokens.token()  # may take long; so before the question whether we may write
        turn = self._reads if method == "GET" else self._writes
        for tries_left in reversed(range(THROTTLED_TRIES)):
            async with turn:
                if method != "GET" and not self.may_write():
                    raise errors.WritesForbidden(f"{method} {path}: this process does not hold the Lease")
                code, answer, retry_after = await self._send(
                    method, path, query, data, _headers(token, accept, content_type), verb or method, kind
                )
            if code < 300:
                return answer
            error = errors.from_response(code, answer, retry_after)
            if isinstance(error, errors.TooManyRequests) and tries_left:
                await asyncio.sleep(error.retry_after)  # outside the semaphore: others may be served meanwhile
                continue
            if isinstance(error, errors.Unauthorized):
                self.access.tokens.invalidate()
            raise error
        raise AssertionError("unreachable: the last try returns or raises")

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        headers: Mapping[str, str],
        verb: str,
        kind: str,
    ) -> tuple[int, bytes, str | None]:
        clock = asyncio.get_running_loop().time
        began, code = clock(), 0
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._server.request(method, _target(path, query), headers, data)
            code = answer.status
            return code, answer.body, answer.headers.get("retry-after")
        except TimeoutError as error:
            raise errors.Unreachable(f"{method} {path}: no answer within {self._timeout:.0f} s") from error
        except ConnectionEnded as error:
            raise errors.Unreachable(f"{method} {path}: {error}") from error
        finally:
            self._observe(verb, kind, code, clock() - began)

    async def lines(
        self,
        path: str,
        *,
        kind: str,
        query: Mapping[str, str],
        silence: float,
        accept: str = "application/json",
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[bytes]:
        """The lines of a stream until its end; ``opened`` is called when the server has granted it. Raises KubeError,
        also when nothing comes for ``silence`` seconds."""
        headers = _headers(await self.access.tokens.token(), accept)
        code = 0
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with self._server.stream(_target(path, query), headers, silence) as (head, chunks):
                code = head.status
                if code >= 300:
                    refusal = b"".join([chunk async for chunk in chunks])
                    error = errors.from_response(code, refusal, head.headers.get("retry-after"))
                    if isinstance(error, errors.Unauthorized):
                        self.access.tokens.invalidate()
                    raise error
                opened()
                rest = b""
                async for chunk in chunks:
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        yield line
        except TimeoutError as error:
            raise errors.Unreachable(f"WATCH {path}: nothing heard for {silence:.0f} s") from error
        except ConnectionEnded as error:
            raise errors.Unreachable(f"WATCH {path}: {error}") from error
        finally:
            self._observe("WATCH", kind, code, clock() - began)


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{_encoded(tuple(query.items()))}" if query else path


@lru_cache(maxsize=256)  # nearly all writes have the same
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query)


def _headers(token: str | None, accept: str, content_type: str | None = None) -> dict[str, str]:
    headers = {"Accept": accept}
    if content_type is not None:
        headers["Content-Type"] = content_type
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers
