"""What can be heard of a node that goes away, from whatever channel, in one shape; and how many of them become one.

A node's signals merge into one: the most urgent kind, the earliest deadline. Hearing the same thing again, on the same
channel or another, changes nothing.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

#: From a Spot interruption notice to the stop: "two minutes", on a best-effort basis
#: (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html).
SPOT_NOTICE = timedelta(seconds=120)
#: From "shutting-down" to the end. A kubelet with graceful shutdown takes longer, but nobody promises that it has it.
STOP_NOTICE = timedelta(seconds=20)
#: What is announced for a later time is acted upon so long before it.
LEAD = timedelta(minutes=15)
#: A notice whose deadline has passed by so much, while its node is Ready, has not come true.
DOUBT = timedelta(minutes=10)
#: The same for notices that named no deadline.
STALE = timedelta(hours=1)


class Kind(StrEnum):
    """What happens to a node; the most urgent first."""

    GONE = "Gone"  # stopped: nothing runs there any more
    LOST = "Lost"  # nobody has heard of it for a while; it may be dead
    STOPPING = "Stopping"  # being stopped right now
    SPOT = "Spot"  # EC2 takes the Spot instance back (or a capacity reservation)
    GROUP = "Group"  # its Auto Scaling group removes it
    MAINTENANCE = "Maintenance"  # AWS has scheduled work on its host
    DRAIN = "Drain"  # somebody empties it: kubectl drain, Karpenter, a managed node group
    REBALANCE = "Rebalance"  # an interruption has become likely; perhaps none comes

    @property
    def urgency(self) -> int:
        """Smaller is more urgent."""
        return list(Kind).index(self)


class Source(StrEnum):
    """The channel that a signal came by."""

    NODE = "node"  # the Node object: taints, unschedulable, Ready
    EVENT = "event"  # Karpenter's Events
    QUEUE = "queue"  # EventBridge by way of SQS
    AGENT = "agent"  # instance metadata


class Signal(Struct, frozen=True, kw_only=True):
    """One thing that was heard. Either ``instance`` (i-…) or ``node`` says of what."""

    kind: Kind
    source: Source
    since: datetime
    deadline: datetime | None = None
    instance: str = ""
    node: str = ""


class Mark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a node, as JSON in one of its annotations: so a restarted operator knows it, too."""

    kind: Kind
    source: Source
    since: datetime
    deadline: datetime | None = None
    #: Rebalance only: the node's pods have been handed over. It happens once in a node's life.
    done: bool = False

    @classmethod
    def of(cls, signal: Signal) -> Self:
        """The mark that this one signal makes."""
        deadline = signal.deadline
        return cls(
            kind=signal.kind,
            source=signal.source,
            since=whole(signal.since),
            deadline=whole(deadline) if deadline else None,
        )

    def encode(self) -> str:
        """As the annotation's value."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Self | None:
        """What the annotation says; None for what is no mark (somebody's typing error must not stop us)."""
        try:
            mark = msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError:
            return None
        since, deadline = mark.since, mark.deadline
        if since.tzinfo is None or (deadline is not None and deadline.tzinfo is None):
            return None
        # Whoever wrote it: a pod notes its deadline in whole seconds, and would never agree with one that is not.
        return replace(mark, since=whole(since), deadline=whole(deadline) if deadline is not None else None)

    def acts(self, now: datetime) -> bool:
        """Whether it is time to do something about it."""
        return self.deadline is None or now >= self.deadline - LEAD

    def is_over(self, now: datetime) -> bool:
        """Whether it has not come true, given that the node is Ready. A rebalance is remembered for good."""
        if self.kind is Kind.REBALANCE:
            return False
        return now > (self.since + STALE if self.deadline is None else self.deadline + DOUBT)


def merged(marks: Iterable[Mark]) -> Mark | None:
    """One mark of many: the most urgent kind, the earliest deadline, since the first."""
    found = sorted(marks, key=lambda mark: (mark.kind.urgency, mark.source is Source.NODE))
    if not found:
        return None
    deadlines = [mark.deadline for mark in found if mark.deadline is not None]
    return Mark(
        kind=found[0].kind,
        source=found[0].source,
        since=min(mark.since for mark in found),
        deadline=min(deadlines, default=None),
        done=found[0].done,
    )


def whole(moment: datetime) -> datetime:
    """In UTC and without fractions of a second, which nobody here can know; so that equal notices look equal."""
    return moment.astimezone(UTC).replace(microsecond=0)
