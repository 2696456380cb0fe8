"""Requests to the API server: typed in, typed out.

Bodies are plain mappings or msgspec Structs; answers are decoded straight into the Struct that the caller names,
which lists only the fields that it uses. How they travel is ``transport``'s.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from tenantry_operator.kube import errors
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.resources import Resource
from tenantry_operator.kube.transport import REQUEST_TIMEOUT, WRITES_IN_FLIGHT, CallObserver, Transport, unobserved
from tenantry_operator.kube.wire import Code, Envelope, ListMeta, Marked, Versioned, WatchEvent, decode

T = TypeVar("T")
V = TypeVar("V", bound=Versioned)

#: Objects for each page of a list: the size that client-go and Kopf use.
PAGE = 500

#: Seconds until the server is to end a watch, drawn anew for each: client-go's 5-10 minutes.
WATCH_SECONDS = (300, 600)

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML

#: Only ``metadata``: for lists and watches of kinds whose content does not matter. The API server then neither sends
#: nor encodes the rest. https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

Body = Mapping[str, object] | Sequence[Mapping[str, object]] | msgspec.Struct


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page of a list, and the version that the whole list is of."""

    items: list[T]
    metadata: ListMeta


class _Page(msgspec.Struct, Generic[T], frozen=True):
    items: list[T] | None = None  # null, in an empty list of metadata
    metadata: ListMeta = ListMeta()


class Nothing(msgspec.Struct):
    """For answers that the caller does not look at."""


class Client:
    """One API server. Use as an async context manager. ``may_write`` and limits: see ``transport``."""

    def __init__(
        self,
        access: Access,
        *,
        manager: str,
        observe: CallObserver = unobserved,
        may_write: Callable[[], bool] = lambda: True,
        writes_in_flight: int = WRITES_IN_FLIGHT,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self.manager = manager
        self._transport = Transport(
            access,
            observe=observe,
            may_write=may_write,
            writes_in_flight=writes_in_flight,
            request_timeout=request_timeout,
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

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
        metadata_only: bool = False,
    ) -> AsyncIterator[Listing[T]]:
        """All objects that match the selectors, page by page of one consistent snapshot.

        Raises Gone when the snapshot expires between two pages (5 minutes).
        """
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        page_type = _Page[into]  # type: ignore[valid-type]
        while True:
            path = resource.path(namespace=namespace)
            accept = METADATA_LIST if metadata_only else "application/json"
            page = await self._call("GET", resource, path, into=page_type, query=query, verb="LIST", accept=accept)
            yield Listing(page.items or [], page.metadata)
            if not page.metadata.continue_:
                return
            query["continue"] = page.metadata.continue_

    async def list(
        self, resource: Resource, *, namespace: str | None = None, labels: str = "", into: type[T]
    ) -> list[T]:
        """All objects that match, at once: for lists that are known to be short."""
        pages = self.pages(resource, namespace=namespace, labels=labels, into=into)
        return [item async for page in pages for item in page.items]

    async def serves(self, group: str, version: str) -> bool:
        """Whether the API server has this group, be it by an extension. Raises KubeError."""
        try:
            await self._transport.call("GET", f"/apis/{group}/{version}", kind="APIResourceList")
        except (errors.NotFound, errors.ServerError):  # 503: it is registered, and nobody answers for it
            return False
        return True

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
        grace: int | None = None,
    ) -> None:
        """Delete, only if the preconditions hold (else Conflict). Raises NotFound.

        Dependants go in the background, or, with ``dependants_first``, before the object itself is gone. ``grace``:
        seconds that a pod's processes get to end, instead of its own; 0 does not wait for its kubelet.
        """
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in wanted.items() if value is not None}
        body: dict[str, object] = {"propagationPolicy": "Foreground" if dependants_first else "Background"}
        if preconditions:
            body["preconditions"] = preconditions
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        await self._call("DELETE", resource, resource.path(namespace=namespace, name=name), body=body, into=Nothing)

    # Streams

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        since: str,
        into: type[V],
        silence: float,
        metadata_only: bool = False,
        seconds: tuple[int, int] = WATCH_SECONDS,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[WatchEvent[V]]:
        """What happens to a kind from version ``since`` on, until the server ends the stream, after that many seconds.

        ``opened`` is called when the server has granted the stream. Bookmarks, which the server sends once a minute
        when nothing happens, carry the version only. Raises Gone when ``since`` is too old, and Unreachable when
        nothing at all is heard for ``silence`` seconds.
        https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": since}
        query["timeoutSeconds"] = str(random.randint(*seconds))  # noqa: S311 - so that not all end at once
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        path, accept = resource.path(namespace=namespace), METADATA if metadata_only else "application/json"
        lines = self._transport.lines(
            path, kind=resource.kind, query=query, silence=silence, accept=accept, opened=opened
        )
        async for line in lines:
            envelope = decode(line, Envelope, path)
            if envelope.type == "ERROR":
                status = decode(envelope.object, Code, path)
                raise errors.from_response(status.code, bytes(envelope.object), None)
            if envelope.type == "BOOKMARK":
                mark = decode(envelope.object, Marked, path)
                yield WatchEvent(gone=False, object=None, version=mark.metadata.resource_version)
            else:
                found = decode(envelope.object, into, path)
                version = found.metadata.resource_version
                yield WatchEvent(gone=envelope.type == "DELETED", object=found, version=version)

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
        accept: str = "application/json",
    ) -> T:
        data = None if body is None else msgspec.json.encode(body)
        answer = await self._transport.call(
            method,
            path,
            kind=resource.kind,
            verb=verb,
            query=query,
            data=data,
            content_type=content_type,
            accept=accept,
        )
        return decode(answer, into, path)
