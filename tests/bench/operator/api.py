"""The bare client: aiohttp and nothing else. Bytes out, status in, answers mostly unread."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec
from tenantry_operator.kube.config import Access

T = TypeVar("T")

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class Failed(Exception):  # noqa: N818 - names what happened
    """The API server refused, with this status code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Api:
    """One API server, spoken to with as many connections as there are requests."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._access.tls(), limit=0)
        headers = {"Accept": "application/json"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, method: str, path: str, body: bytes | None = None, content: str = "application/json") -> bytes:
        """One request. Raises Failed; a 429 is waited out as told."""
        assert self._session is not None
        while True:
            url = self._access.server + path
            async with self._session.request(method, url, data=body, headers={"Content-Type": content}) as response:
                answer = await response.read()
                if response.status < 300:
                    return answer
                if response.status != 429:
                    raise Failed(response.status, f"{method} {path}: {answer[:500].decode(errors='replace')}")
                pause = float(response.headers.get("Retry-After", "1"))
            await asyncio.sleep(pause)

    async def apply(self, path: str, body: bytes, manager: str) -> None:
        """Server-side apply."""
        await self.send("PATCH", f"{path}?fieldManager={manager}&force=true", body, APPLY)

    async def get(self, path: str, into: type[T]) -> T:
        """One object or list."""
        return msgspec.json.decode(await self.send("GET", path), type=into)

    async def events(self, path: str, into: type[T], *, query: Mapping[str, str]) -> AsyncIterator[T]:
        """A watch, decoded line by line; without a ``resourceVersion`` what is there comes first."""
        assert self._session is not None
        decoder = msgspec.json.Decoder(into)
        parameters = {"watch": "1", **query}
        async with self._session.get(self._access.server + path, params=parameters) as response:
            if response.status != 200:
                raise Failed(response.status, f"watch {path}: {await response.text()}")
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield decoder.decode(line)


async def pooled(limit: int, work: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all of ``work``, ``limit`` at a time. Raises the first failure, after which nothing goes on."""
    todo = iter(work)

    async def worker() -> None:
        for each in todo:
            await each()

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
