"""EventBridge events and Auto Scaling notifications, as they come out of an SQS queue, as signals.

Shapes: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html (and the pages beside
it), https://docs.aws.amazon.com/health/latest/ug/aws-health-events-eventbridge-schema.html and
https://docs.aws.amazon.com/autoscaling/ec2/userguide/prepare-for-lifecycle-notifications.html.
"""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Struct, field

from tenantry_operator.interruption.signals import SPOT_NOTICE, STOP_NOTICE, Kind, Signal, Source

#: A message's own time is believed if it is not further than this from when it was received: the queue keeps them for
#: five minutes, and clocks differ.
CREDIBLE = timedelta(minutes=10)

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


class PoisonError(ValueError):
    """A message that nobody can make sense of, however often it is read."""


class _Entity(Struct, frozen=True, rename="camel"):
    entity_value: str = ""


class _Detail(Struct, frozen=True, kw_only=True):
    """The details of all events that we know; each has some of these."""

    instance: str = field(default="", name="instance-id")
    action: str = field(default="", name="instance-action")
    state: str = ""
    service: str = ""
    category: str = field(default="", name="eventTypeCategory")
    start: str = field(default="", name="startTime")
    affected: list[_Entity] = field(default_factory=list, name="affectedEntities")
    group_instance: str = field(default="", name="EC2InstanceId")
    transition: str = field(default="", name="LifecycleTransition")


class _Envelope(Struct, frozen=True, kw_only=True):
    detail_type: str = field(default="", name="detail-type")
    time: datetime | None = None
    resources: list[str] = []
    detail: _Detail | None = None
    # What Auto Scaling sends straight to a queue has no envelope.
    group_instance: str = field(default="", name="EC2InstanceId")
    transition: str = field(default="", name="LifecycleTransition")
    event: str = field(default="", name="Event")


_decode = msgspec.json.Decoder(_Envelope).decode


def signals(body: bytes | str, received: datetime) -> tuple[Signal, ...]:
    """What a message says; nothing for what is well-formed but of no interest. Raises PoisonError.

    The instance is what ``detail`` names: the ARN among the resources of a Spot notice has a zone where others have a
    region, and no account.
    """
    try:
        envelope = _decode(body)
    except msgspec.DecodeError as error:
        raise PoisonError(str(error)) from error
    if envelope.detail is None:
        return _bare(envelope, received)
    detail, at = envelope.detail, _credible(envelope.time, received)
    match envelope.detail_type:
        case "EC2 Spot Instance Interruption Warning" | "EC2 Capacity Reservation Instance Interruption Warning":
            return (_signal(Kind.SPOT, detail.instance, at, at + SPOT_NOTICE),)
        case "EC2 Instance Rebalance Recommendation":
            return (_signal(Kind.REBALANCE, detail.instance, at),)
        case "EC2 Instance State-change Notification":
            return _state(detail, at)
        case "EC2 Instance-terminate Lifecycle Action":
            return _lifecycle(detail.group_instance, detail.transition, at)
        case "AWS Health Event":
            return _health(detail, envelope.resources, at)
        case _:
            return ()


def _bare(envelope: _Envelope, received: datetime) -> tuple[Signal, ...]:
    if envelope.transition:
        return _lifecycle(envelope.group_instance, envelope.transition, received)
    if envelope.event == "autoscaling:TEST_NOTIFICATION":  # sent once, when the hook is made
        return ()
    raise PoisonError("neither an event with a detail nor a notification of Auto Scaling")


def _state(detail: _Detail, at: datetime) -> tuple[Signal, ...]:
    match detail.state:
        case "stopping" | "shutting-down":
            return (_signal(Kind.STOPPING, detail.instance, at, at + STOP_NOTICE),)
        case "stopped" | "terminated":
            return (_signal(Kind.GONE, detail.instance, at, at),)
        case _:
            return ()


def _lifecycle(instance: str, transition: str, at: datetime) -> tuple[Signal, ...]:
    # How long the hook waits is not said; a Spot instance's end comes with a notice of its own.
    return (_signal(Kind.GROUP, instance, at),) if transition == TERMINATING else ()


def _health(detail: _Detail, resources: list[str], at: datetime) -> tuple[Signal, ...]:
    if detail.service != "EC2" or detail.category != "scheduledChange":
        return ()
    try:
        start = parsedate_to_datetime(detail.start)
    except ValueError as error:
        raise PoisonError(f"startTime {detail.start!r} is no date") from error
    named = [entity.entity_value for entity in detail.affected] or [each.rpartition("/")[2] for each in resources]
    return tuple(_signal(Kind.MAINTENANCE, each, at, start) for each in named if each.startswith("i-"))


def _signal(kind: Kind, instance: str, since: datetime, deadline: datetime | None = None) -> Signal:
    if not instance.startswith("i-"):
        raise PoisonError(f"no instance is named, but {instance!r}")
    return Signal(kind=kind, source=Source.QUEUE, instance=instance, since=since, deadline=deadline)


def _credible(said: datetime | None, received: datetime) -> datetime:
    if said is None or said.tzinfo is None or abs(said - received) > CREDIBLE:
        return received
    return said
