"""What Karpenter tells of nodes in Events, before it does anything to them.

They live in the namespace ``default``, as all Events of cluster-scoped objects.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from tenantry_operator import metrics
from tenantry_operator.interruption.nodes import EVENT_REASONS
from tenantry_operator.interruption.signals import Signal, Source
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.reflector import Reflector
from tenantry_operator.kube.resources import EVENTS

NAMESPACE = "default"
#: Fields that the API server can select Events by (its pkg/apis/events/v1/conversion.go).
FIELDS = "regarding.kind=Node"
KARPENTER = "karpenter"
#: Older ones are history.
RECENT = timedelta(minutes=3)


class _Meta(Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    creation_timestamp: datetime | None = None


class _Named(Struct, frozen=True):
    kind: str = ""
    name: str = ""
    component: str = ""


class _Series(Struct, frozen=True, rename="camel"):
    last_observed_time: datetime | None = None


class LiveEvent(Struct, frozen=True, rename="camel"):
    """An Event, as far as it is read. Recorders of the old kind fill in the deprecated fields."""

    metadata: _Meta
    reason: str = ""
    regarding: _Named = _Named()
    reporting_controller: str = ""
    deprecated_source: _Named = _Named()
    event_time: datetime | None = None
    deprecated_last_timestamp: datetime | None = None
    series: _Series | None = None

    @property
    def at(self) -> datetime | None:
        """When it was told last."""
        last = self.series.last_observed_time if self.series is not None else None
        return last or self.deprecated_last_timestamp or self.event_time or self.metadata.creation_timestamp


def signal(event: LiveEvent) -> Signal | None:
    """What an Event says of a node, if it is one of Karpenter's that says something."""
    known, at = EVENT_REASONS.get(event.reason), event.at
    told_by = (event.reporting_controller, event.deprecated_source.component)
    if known is None or at is None or event.regarding.kind != "Node" or KARPENTER not in told_by:
        return None
    kind, notice = known
    deadline = at + notice if notice is not None else None
    return Signal(kind=kind, source=Source.EVENT, node=event.regarding.name, since=at, deadline=deadline)


class Events:
    """Karpenter's Events. A sink of ``Reflector``."""

    def __init__(
        self,
        client: Client,
        hear: Callable[[Iterable[Signal]], object],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._hear, self._now = hear, now
        self.reflector = Reflector(
            client,
            EVENTS,
            self,
            labels="",
            into=LiveEvent,
            keep=signal,
            namespace=NAMESPACE,
            fields=FIELDS,
            bookmarks=False,
        )
        metrics.WATCH_AGE_SECONDS.labels(EVENTS.kind).set_function(self.reflector.age)

    def listed(self, found: list[Signal | None], as_of: str) -> None:
        """Those that are still kept (an hour, usually)."""
        for each in found:
            self.changed(each, False)

    def changed(self, item: Signal | None, gone: bool) -> None:
        """One was told, or told again."""
        if item is not None and not gone and self._now() - item.since < RECENT:
            self._hear([item])
