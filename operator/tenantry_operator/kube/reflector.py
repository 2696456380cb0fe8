"""One kind as it is in the cluster: listed once, then followed.

A list and the watch that goes on from its version miss nothing in between, so what is held is complete from the first
list on. A watch that ends (the server ends each after some minutes) goes on from the last version that it told of;
only when that version is too old is everything listed again, which also finds what went away unseen.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from tenantry_operator.kube import errors
from tenantry_operator.kube.client import WATCH_SECONDS, Client
from tenantry_operator.kube.resources import Resource
from tenantry_operator.kube.wire import Versioned

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Versioned)
K = TypeVar("K")

#: Seconds of silence after which a stream counts as dead. The server sends a bookmark every minute.
SILENCE = 75.0
#: Seconds until the server is to end a stream of a kind without bookmarks: it is made anew before it counts as dead.
UNMARKED_SECONDS = (40, 60)
#: Seconds until the next attempt after a failure; they double, with jitter.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
#: Seconds between looks for a kind that the cluster does not know.
MISSING_PAUSE = 10.0


class Sink(Protocol[K]):
    """Where a kind's objects go."""

    def listed(self, found: list[K], as_of: str) -> None:
        """All that there were at that version."""

    def changed(self, item: K, gone: bool) -> None:
        """One was added or changed, or is gone."""


class Reflector(Generic[T, K]):
    """Follows one kind, across the cluster or in one namespace. ``keep`` gives what is kept of an object, at once: long
    lists stay small. ``bookmarks``: False for Events, which the API server does not hold in its watch cache, so that a
    stream is silent as long as nothing happens."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        sink: Sink[K],
        *,
        labels: str,
        into: type[T],
        keep: Callable[[T], K],
        metadata_only: bool = False,
        missing: Callable[[], None] | None = None,
        namespace: str | None = None,
        fields: str = "",
        bookmarks: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._resource, self._sink = client, resource, sink
        self._labels, self._into, self._keep = labels, into, keep
        self._metadata_only, self._missing = metadata_only, missing
        self._namespace, self._fields, self._bookmarks = namespace, fields, bookmarks
        self._clock, self._heard = clock, clock()
        self._version = ""
        self._failures = 0
        #: Set once the first list is complete, or it is certain that there can be none.
        self.synced = asyncio.Event()

    def age(self) -> float:
        """Seconds since anything was heard, bookmarks included; where there are none, since a stream was granted."""
        return self._clock() - self._heard

    async def run(self) -> None:
        """List and follow until cancelled. What goes wrong is tried again, with growing pauses."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except errors.KubeError as error:
                if isinstance(error, errors.NotFound) and self._missing is not None:
                    self._version, self._failures, self._heard = "", 0, self._clock()
                    self._missing()
                    self.synced.set()
                    await asyncio.sleep(MISSING_PAUSE * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                    continue
                if isinstance(error, errors.Gone):
                    self._version = ""
                else:
                    log.warning("watch of %s interrupted: %s", self._resource.plural, error)
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 16))
                self._failures += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    async def _list(self) -> None:
        found: list[K] = []
        version = ""
        pages = self._client.pages(
            self._resource,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            into=self._into,
            metadata_only=self._metadata_only,
        )
        async for page in pages:
            found += [self._keep(item) for item in page.items]
            version = page.metadata.resource_version
            self._heard = self._clock()
        self._sink.listed(found, version)
        self._version = version
        self.synced.set()

    async def _follow(self) -> None:
        events = self._client.watch(
            self._resource,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            since=self._version,
            into=self._into,
            silence=SILENCE,
            metadata_only=self._metadata_only,
            seconds=WATCH_SECONDS if self._bookmarks else UNMARKED_SECONDS,
            opened=(lambda: None) if self._bookmarks else self._alive,
        )
        async for event in events:
            self._alive()
            self._version = event.version
            if event.object is not None:
                self._sink.changed(self._keep(event.object), event.gone)

    def _alive(self) -> None:
        self._heard, self._failures = self._clock(), 0
