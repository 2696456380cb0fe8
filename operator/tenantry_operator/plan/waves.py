"""Who of a tier's Tenants may go on to its newest revision now. Pure: Tenants, policy and time in, a decision out.

A roll-out goes in waves. A wave lets a share of the Tenants be on the new revision, in an order that never changes. The
next one begins when everybody whom the former ones moved has been Ready for ``pause``. If more than ``max_unready`` of
them fail, nobody else is moved (halted) until they are Ready again, or the tier is changed: that is a new roll-out,
which takes the victims first. Back to the revision that last reached everybody goes at once, and so does an explicit
``rollbackTo``: waves protect from what is new, not from what is known to work.

Only those count for or against a revision who were fit when it came to them and have not changed their own spec since.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import replace

from tenantry_operator.api.conditions import ConditionStatus, ConditionType, Reason
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.rollout import Rollout, Standing
from tenantry_operator.api.tenant import Outcome, TenantStatus
from tenantry_operator.api.units import parse_duration

DEFAULT_WAVES = (1, 10, 50, 100)
DEFAULT_PAUSE = "5m"
DEFAULT_DEADLINE = "10m"

#: Not Ready because somebody wanted it so.
_RESTING = frozenset({Reason.ASLEEP, Reason.TRAFFIC_SUSPENDED, Reason.RECONCILE_SUSPENDED})


class Health(Enum):
    """How a Tenant fares."""

    READY = auto()  # or at rest because somebody wanted it so
    UNREADY = auto()  # on its way, and it may take its time
    FAILING = auto()


class Member(Struct, frozen=True, kw_only=True):
    """A Tenant that takes part."""

    name: str
    uid: str
    revision: str
    health: Health
    #: Whether it speaks for or against its revision.
    counted: bool = False
    moved_at: datetime | None = None
    ready_since: datetime | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """``spec.rollout`` with its defaults."""

    waves: tuple[int, ...] = DEFAULT_WAVES
    pause: timedelta = timedelta(seconds=parse_duration(DEFAULT_PAUSE))
    deadline: timedelta = timedelta(seconds=parse_duration(DEFAULT_DEADLINE))
    max_unready: int = 0
    paused: bool = False


class Phase(Enum):
    """Where a roll-out stands."""

    COMPLETE = auto()
    MOVING = auto()  # a wave has room for more
    SETTLING = auto()  # a wave is moved, and not all of it is Ready
    BETWEEN_WAVES = auto()  # a wave is Ready, and watched for a while
    AT_ONCE = auto()
    PAUSED = auto()
    HALTED = auto()


class Decision(Struct, frozen=True, kw_only=True):
    """What holds now."""

    phase: Phase
    target: str
    #: The revision that last reached everybody; "" if none ever did.
    current: str
    wave: int
    #: Names of the Tenants that may go on to the target, besides those that are on it.
    may_move: frozenset[str] = frozenset()
    #: Names of the Tenants for whose sake it is halted.
    failing: tuple[str, ...] = ()
    #: When time alone will change the decision.
    look_again: datetime | None = None

    @property
    def for_newcomers(self) -> str:
        """The revision that a new Tenant begins on: the newest, unless there is reason to doubt it."""
        doubtful = self.phase in (Phase.HALTED, Phase.PAUSED)
        return self.current if doubtful and self.current else self.target


def policy(rollout: Rollout | None) -> Policy:
    """The policy of a tier. Waves that an older schema let through are put in order."""
    said = rollout or Rollout()
    return Policy(
        waves=tuple(sorted({*(said.waves or DEFAULT_WAVES), 100})),
        pause=timedelta(seconds=parse_duration(said.pause or DEFAULT_PAUSE)),
        deadline=timedelta(seconds=parse_duration(said.progress_deadline or DEFAULT_DEADLINE)),
        max_unready=said.max_unready or 0,
        paused=bool(said.paused),
    )


def member(meta: ObjectMeta, status: TenantStatus, rules: Policy, now: datetime) -> Member:
    """How a Tenant stands in its tier's roll-out, by what its status says."""
    standing = status.rollout or Standing(revision=status.applied.tier_revision if status.applied else "")
    conditions = {condition.type: condition for condition in status.conditions}
    ready = conditions.get(ConditionType.READY)
    up = ready is not None and ready.status is ConditionStatus.TRUE
    resting = ready is not None and ready.reason in _RESTING
    stalled = conditions.get(ConditionType.STALLED)
    given_up = stalled is not None and stalled.status is ConditionStatus.TRUE
    judged = bool(status.history) and status.history[0].outcome is not Outcome.APPLIED  # it was up, or came to nothing
    overdue = standing.moved_at is not None and now >= standing.moved_at + rules.deadline
    fallen = Health.FAILING if given_up or judged or overdue else Health.UNREADY
    return Member(
        name=meta.name,
        uid=meta.uid,
        revision=standing.revision,
        health=Health.READY if up or resting else fallen,
        counted=standing.counted and standing.generation == meta.generation,
        moved_at=standing.moved_at,
        ready_since=ready.last_transition_time if up and ready is not None else None,
    )


def decide(
    members: Sequence[Member],
    rules: Policy,
    *,
    target: str,
    current: str,
    wave: int,
    ordered_back: bool,
    now: datetime,
) -> Decision:
    """Who may move now.

    ``wave`` is the one that has begun (counted from 1; 0: none), as it was decided last for this target: it is noted
    before anybody is moved by it, so whoever decides next goes on from there. ``ordered_back``: the target was named
    by ``rollbackTo``.
    """
    there = [each for each in members if each.revision == target]
    others = sorted((each for each in members if each.revision != target), key=_turn)

    def so(phase: Phase, wave: int, may_move: Sequence[Member] = (), **more: object) -> Decision:
        reached = target if phase is Phase.COMPLETE else current
        chosen = frozenset(each.name for each in may_move)
        plain = Decision(phase=phase, target=target, current=reached, wave=wave, may_move=chosen)
        return replace(plain, **more)

    if target == current and not others:
        return so(Phase.COMPLETE, wave)
    if rules.paused:
        return so(Phase.PAUSED, wave)
    if target == current or ordered_back:
        return so(Phase.AT_ONCE, wave, others) if others else so(Phase.COMPLETE, wave)

    counted = [each for each in there if each.counted]
    failing = sorted(each.name for each in counted if each.health is Health.FAILING)
    if len(failing) > rules.max_unready:
        return so(Phase.HALTED, wave, failing=tuple(failing))
    unready = [each for each in counted if each.health is not Health.READY]
    # The next moment at which one of them, without any event, turns from unready to failing.
    overdue = min((each.moved_at + rules.deadline for each in unready if each.moved_at), default=None)
    settled = [each for each in counted if each.health is Health.READY]
    last = max((_since(each) for each in settled if each.moved_at), default=None)
    wave = max(wave, 1)
    while True:
        room = _share(rules.waves[min(wave, len(rules.waves)) - 1], len(members)) - len(there)
        if others and room > 0:
            return so(Phase.MOVING, wave, others[:room], look_again=overdue)
        if len(unready) > rules.max_unready:
            return so(Phase.SETTLING, wave, look_again=overdue)
        if not others:
            return so(Phase.COMPLETE, wave)
        if last is not None and now < last + rules.pause:
            return so(Phase.BETWEEN_WAVES, wave, look_again=last + rules.pause)
        wave += 1


def _share(percent: int, members: int) -> int:
    return -(-members * percent // 100)


def _since(each: Member) -> datetime:
    assert each.moved_at is not None
    return max(each.moved_at, each.ready_since or each.moved_at)


def _turn(each: Member) -> tuple[bool, str]:
    """The order of the waves: first the victims of a former roll-out, then by a hash that nobody chooses."""
    victim = each.counted and each.health is Health.FAILING
    return not victim, hashlib.sha256(each.uid.encode()).hexdigest()
