"""What instance metadata says, as a mark: pure."""

from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from tenantry_operator.interruption.signals import Kind, Mark, Source, merged, whole

#: Paths below ``/latest/``; those of the second line may be read less often.
ACTION, REBALANCE = "meta-data/spot/instance-action", "meta-data/events/recommendations/rebalance"
MAINTENANCE, LIFECYCLE = "meta-data/events/maintenance/scheduled", "meta-data/autoscaling/target-lifecycle-state"


class _Action(Struct, frozen=True):
    """``{"action": "terminate", "time": "2022-07-11T17:11:44Z"}``; stop and hibernate end the node just as well."""

    action: str
    time: datetime


class _Rebalance(Struct, frozen=True):
    notice_time: datetime = msgspec.field(name="noticeTime")


class _Maintenance(Struct, frozen=True):
    not_before: str = msgspec.field(default="", name="NotBefore")
    state: str = msgspec.field(default="active", name="State")


def mark(found: dict[str, str | None], now: datetime, before: Mark | None) -> Mark | None:
    """What is known by now, of the answers at each path. Raises ValueError for one that is none of EC2's.

    ``before``: the mark of the last time, whose beginning is kept for as long as nothing else is said, so that nothing
    is written twice.
    """
    marks = []
    if text := found.get(ACTION):
        action = msgspec.json.decode(text, type=_Action)
        marks.append(_mark(Kind.SPOT, now, action.time))
    if text := found.get(REBALANCE):
        marks.append(_mark(Kind.REBALANCE, msgspec.json.decode(text, type=_Rebalance).notice_time))
    if text := found.get(MAINTENANCE):
        planned = msgspec.json.decode(text, type=list[_Maintenance])
        marks += [_mark(Kind.MAINTENANCE, now, _date(each.not_before)) for each in planned if each.state == "active"]
    if found.get(LIFECYCLE) == "Terminated":
        marks.append(_mark(Kind.GROUP, now))
    one = merged(marks)
    if one is not None and before is not None and (one.kind, one.deadline) == (before.kind, before.deadline):
        return before
    return one


def _mark(kind: Kind, since: datetime, deadline: datetime | None = None) -> Mark:
    return Mark(kind=kind, source=Source.AGENT, since=whole(since), deadline=whole(deadline) if deadline else None)


def _date(text: str) -> datetime:
    """``21 Jan 2019 09:00:43 GMT``."""
    return datetime.strptime(text, "%d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
