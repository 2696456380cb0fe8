"""Requests to the API server: typed in, typed out, bounded, and counted.

Bodies are plain mappings or msgspec Structs; answers are decoded straight into the Struct that the caller names,
which lists only the fields that it uses. Every call has a time limit; writes in flight are capped, so that a cold
start of thousands of tenants queues here and not in the API server's fair queues; a 429 is waited out as told.
Nothing else is retried: the caller is level-triggered and its queue knows when to come back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import aiohttp
import msgspec

from tenantry_operator.kube import errors
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.resources import Resource

T = TypeVar("T")

#: Seconds for one request. The API server's own limit is 60; what takes half of that is worth a fresh try.
REQUEST_TIMEOUT = 30.0
CONNECT_TIMEOUT = 5.0

#: Writes in flight. One API server in EKS gives `workload-low` 245 seats, shared by all service accounts; a seat
#: serves ~50 writes/s, so 32 are ~1,600 writes/s: more than two cores of API server can do.
WRITES_IN_FLIGHT = 32
READS_IN_FLIGHT = 64

#: How often one request waits out a 429 before the error goes to the caller.
THROTTLED_TRIES = 5

#: Objects for each page of a list: the size that client-go and Kopf use.
PAGE = 500

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML

Body = Mapping[str, object] | Sequence[Mapping[str, object]] | msgspec.Struct


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """``metadata`` of a list."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Listing(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list, and the version that the whole list is of."""

    items: list[T]
    metadata: ListMeta = ListMeta()


class Nothing(msgspec.Struct):
    """For answers that the caller does not look at."""


class CallObserver(Protocol):
    """Is told of every request: HTTP verb, kind, status code (0 for no answer) and seconds."""

    def __call__(self, verb: str, kind: str, code: int, seconds: float) -> None: ...


def _unobserved(verb: str, kind: str, code: int, seconds: float) -> None:
    return None


class Client:
    """One API server. Use as an async context manager.

    ``may_write`` is asked right before each write; False raises ``WritesForbidden``. It fences a leader
    that lost its Lease while it was not running (a stopped process, a blocked loop).
    """

    def __init__(
        self,
        access: Access,
        *,
        manager: str,
        observe: CallObserver = _unobserved,
        may_write: Callable[[], bool] = lambda: True,
        writes_in_flight: int = WRITES_IN_FLIGHT,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self.access = access
        self.manager = manager
        self._observe = observe
        self.may_write = may_write
        self._writes = asyncio.Semaphore(writes_in_flight)
        self._reads = asyncio.Semaphore(READS_IN_FLIGHT)
        self._timeout = aiohttp.ClientTimeout(total=request_timeout, sock_connect=CONNECT_TIMEOUT)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No connection limit here: the semaphores are the limit, and a read must not wait behind the writes.
        connector = aiohttp.TCPConnector(ssl=self.access.tls(), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # Reads

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None, into: type[T]) -> T:
        """One object. Raises NotFound."""
        return await self._call("GET", resource, resource.path(namespace=namespace, name=name), into=into)

    async def find(self, resource: Resource, name: str, *, namespace: str | None = None, into: type[T]) -> T | None:
        """One object, or None when there is none."""
        try:
            return await self.get(resource, name, namespace=namespace, into=into)
        except errors.NotFound:
            return None

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        into: type[T],
    ) -> AsyncIterator[Listing[T]]:
        """All objects that match the selectors, page by page of one consistent snapshot.

        Raises Gone when the snapshot expires between two pages (5 minutes).
        """
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        page_type = Listing[into]  # type: ignore[valid-type]
        while True:
            path = resource.path(namespace=namespace)
            page = await self._call("GET", resource, path, into=page_type, query=query, verb="LIST")
            yield page
            if not page.metadata.continue_:
                return
            query["continue"] = page.metadata.continue_

    async def list(
        self, resource: Resource, *, namespace: str | None = None, labels: str = "", into: type[T]
    ) -> list[T]:
        """All objects that match, at once: for lists that are known to be short."""
        pages = self.pages(resource, namespace=namespace, labels=labels, into=into)
        return [item async for page in pages for item in page.items]

    # Writes

    async def create(self, resource: Resource, body: Body, *, namespace: str | None = None, into: type[T]) -> T:
        """Create-only: raises AlreadyExists when the name is taken, NamespaceTerminating in a dying namespace."""
        path = resource.path(namespace=namespace)
        return await self._call("POST", resource, path, body=body, into=into, query={"fieldManager": self.manager})

    async def replace(
        self, resource: Resource, name: str, body: Body, *, namespace: str | None = None, into: type[T]
    ) -> T:
        """PUT. With ``metadata.resourceVersion`` in the body it is a compare-and-swap: raises Conflict."""
        path = resource.path(namespace=namespace, name=name)
        return await self._call("PUT", resource, path, body=body, into=into, query={"fieldManager": self.manager})

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: Body,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        force: bool = True,
        into: type[T],
    ) -> T:
        """Server-side apply as our field manager.

        Creates what is missing, except for a subresource (NotFound). With ``force`` it takes over fields that other
        managers hold with another value, without it raises Conflict. A ``metadata.uid`` in the body is a
        precondition: raises Conflict when the object is another one or gone.
        https://kubernetes.io/docs/reference/using-api/server-side-apply/
        """
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        query = {"fieldManager": self.manager, "force": "true" if force else "false"}
        return await self._call(
            "PATCH", resource, path, body=body, into=into, query=query, content_type=APPLY_PATCH, verb="APPLY"
        )

    async def merge_patch(
        self, resource: Resource, name: str, body: Body, *, namespace: str | None = None, into: type[T]
    ) -> T:
        """RFC 7396. Raises NotFound; Conflict when the body carries another resourceVersion or uid."""
        path = resource.path(namespace=namespace, name=name)
        query = {"fieldManager": self.manager}
        return await self._call("PATCH", resource, path, body=body, into=into, query=query, content_type=MERGE_PATCH)

    async def json_patch(
        self,
        resource: Resource,
        name: str,
        operations: Sequence[Mapping[str, object]],
        *,
        namespace: str | None = None,
        into: type[T],
    ) -> T:
        """RFC 6902. A ``test`` that does not hold raises Invalid; so put one before a change to a shared list."""
        path = resource.path(namespace=namespace, name=name)
        query = {"fieldManager": self.manager}
        return await self._call(
            "PATCH", resource, path, body=operations, into=into, query=query, content_type=JSON_PATCH
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        dependants_first: bool = False,
    ) -> None:
        """Delete, only if the preconditions hold (else Conflict). Raises NotFound.

        Dependants go in the background, or, with ``dependants_first``, before the object itself is gone.
        """
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in wanted.items() if value is not None}
        body: dict[str, object] = {"propagationPolicy": "Foreground" if dependants_first else "Background"}
        if preconditions:
            body["preconditions"] = preconditions
        await self._call("DELETE", resource, resource.path(namespace=namespace, name=name), body=body, into=Nothing)

    # The one way out of the process

    async def _call(
        self,
        method: str,
        resource: Resource,
        path: str,
        *,
        into: type[T],
        body: Body | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        verb: str | None = None,
    ) -> T:
        data = None if body is None else msgspec.json.encode(body)
        token = await self.access.tokens.token()  # may take long; so before the question whether we may write
        turn = self._reads if method == "GET" else self._writes
        for tries_left in reversed(range(THROTTLED_TRIES)):
            async with turn:
                if method != "GET" and not self.may_write():
                    raise errors.WritesForbidden(f"{method} {path}: this process does not hold the Lease")
                code, answer, retry_after = await self._send(
                    method, path, query, data, content_type, verb, resource, token
                )
            if code < 300:
                return _decode(answer, into, path)
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
        content_type: str,
        verb: str | None,
        resource: Resource,
        token: str | None,
    ) -> tuple[int, bytes, str | None]:
        assert self._session is not None, "use the client as a context manager"
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        clock = asyncio.get_running_loop().time
        began, code = clock(), 0
        try:
            url = self.access.server + path
            async with self._session.request(method, url, params=query, data=data, headers=headers) as response:
                code = response.status
                return code, await response.read(), response.headers.get("Retry-After")
        except TimeoutError as error:
            raise errors.Unreachable(f"{method} {path}: no answer within {self._timeout.total:.0f} s") from error
        except aiohttp.ClientError as error:
            raise errors.Unreachable(f"{method} {path}: {error}") from error
        finally:
            self._observe(verb or method, resource.kind, code, clock() - began)


_decoders: dict[object, object] = {}


def _decode(answer: bytes, into: type[T], path: str) -> T:
    decoder = _decoders.get(into)
    if decoder is None:
        decoder = _decoders[into] = msgspec.json.Decoder(into)
    assert isinstance(decoder, msgspec.json.Decoder)
    try:
        decoded: T = decoder.decode(answer)
    except msgspec.DecodeError as error:
        raise errors.Unreadable(f"{path}: {error}") from error
    return decoded
