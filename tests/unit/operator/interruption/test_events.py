"""What Karpenter tells in Events."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tenantry_operator.interruption.events import LiveEvent, signal
from tenantry_operator.interruption.signals import Kind, Source

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def event(reason: str, *, kind: str = "Node", by: str = "karpenter", **more: object) -> LiveEvent:
    """An Event as recorders of the new kind write it."""
    metadata = {"name": "e", "resourceVersion": "1", "creationTimestamp": "2026-03-01T12:00:09Z"}
    whole = {"metadata": metadata, "reason": reason, "regarding": {"kind": kind, "name": "node-1"}, **more}
    whole.setdefault("eventTime", "2026-03-01T12:00:00.000000Z")
    return msgspec.json.decode(msgspec.json.encode({"reportingController": by, **whole}), type=LiveEvent)


@pytest.mark.parametrize(
    ("reason", "kind", "seconds"),
    [
        ("SpotInterrupted", Kind.SPOT, 120),
        ("SpotRebalanceRecommendation", Kind.REBALANCE, None),
        ("InstanceStopping", Kind.STOPPING, 20),
        ("InstanceTerminating", Kind.STOPPING, 20),
        ("InstanceUnhealthy", Kind.DRAIN, None),
    ],
)
def test_karpenter_tells_of_a_node(reason: str, kind: Kind, seconds: int | None) -> None:
    found = signal(event(reason))
    assert found is not None
    assert (found.kind, found.node, found.source, found.since) == (kind, "node-1", Source.EVENT, AT)
    assert found.deadline == (None if seconds is None else AT + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "of_no_interest",
    [
        event("NodeNotReady"),
        event("SpotInterrupted", kind="NodeClaim"),  # the same is told of the Node
        event("SpotInterrupted", by="somebody"),
    ],
)
def test_other_events_say_nothing(of_no_interest: LiveEvent) -> None:
    assert signal(of_no_interest) is None


def test_the_times_of_old_recorders_and_of_repetitions_count() -> None:
    old = event(
        "SpotInterrupted",
        by="",
        eventTime=None,
        deprecatedSource={"component": "karpenter"},
        deprecatedLastTimestamp="2026-03-01T12:00:04Z",
    )
    again = event("SpotInterrupted", series={"count": 2, "lastObservedTime": "2026-03-01T12:01:00.000000Z"})
    assert [each.since for each in (signal(old), signal(again)) if each] == [
        AT + timedelta(seconds=4),
        AT + timedelta(seconds=60),
    ]
