"""What a TenantTier's status says of its roll-out. Pure: equal in, equal out, so nothing is written for nothing."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from tenantry_operator.api.conditions import ConditionStatus, ConditionType, Reason, Verdict, transition
from tenantry_operator.api.rollout import TierStatus
from tenantry_operator.plan.waves import Decision, Member, Phase

#: Names in a message; the rest is counted.
NAMED = 5

_REASONS = {
    Phase.COMPLETE: Reason.UP_TO_DATE,
    Phase.MOVING: Reason.ROLLING_OUT,
    Phase.SETTLING: Reason.ROLLING_OUT,
    Phase.BETWEEN_WAVES: Reason.BETWEEN_WAVES,
    Phase.AT_ONCE: Reason.ROLLING_BACK,
    Phase.PAUSED: Reason.ROLLOUT_PAUSED,
    Phase.HALTED: Reason.ROLLOUT_HALTED,
}
_AT_WORK = (Phase.MOVING, Phase.SETTLING, Phase.BETWEEN_WAVES, Phase.AT_ONCE)


class Judged(Struct, frozen=True, kw_only=True):
    """A tier's roll-out as it was decided upon."""

    tier: str
    generation: int
    decision: Decision
    waves: int
    members: Sequence[Member]
    #: What ``spec.rollout.rollbackTo`` names and nobody knows; "" if it is as it should be.
    unknown: str = ""


def report(old: TierStatus, judged: Judged, now: datetime) -> TierStatus:
    """The status to write."""
    decision, members = judged.decision, judged.members
    return replace(
        old,
        observed_generation=judged.generation,
        conditions=transition(old.conditions, _verdicts(judged), generation=judged.generation, now=now),
        update_revision=decision.target,
        current_revision=decision.current,
        wave=decision.wave,
        tenants=len(members),
        updated=sum(each.revision == decision.target for each in members),
        ready=sum(each.ready_since is not None for each in members),
    )


def only_counts(old: TierStatus, new: TierStatus) -> bool:
    """Whether only numbers differ. Those may wait a moment: Tenants come and turn Ready one by one."""
    return replace(old, tenants=new.tenants, updated=new.updated, ready=new.ready) == new


def news(old: TierStatus, new: TierStatus) -> tuple[Reason, str] | None:
    """What deserves an Event: the roll-out has come to another stage. That a tier is there at all does not."""
    before, after = _ready(old), _ready(new)
    if before is None or after is None or before == after:
        return None
    reason = next(each for each in Reason if each.value == after)
    message = next(each.message for each in new.conditions if each.type == ConditionType.READY)
    return reason, message or reason.meaning


def _ready(status: TierStatus) -> str | None:
    return next((each.reason for each in status.conditions if each.type == ConditionType.READY), None)


def _verdicts(judged: Judged) -> list[Verdict]:
    phase = judged.decision.phase
    reason, message = _REASONS[phase], _message(judged)
    stalled = phase is Phase.HALTED
    if judged.unknown:
        reason, stalled = Reason.REVISION_NOT_FOUND, True
        message = (
            f"spec.rollout.rollbackTo: there is no revision {judged.unknown!r} of this tier, so nobody is moved;"
            " take it away, or name one that `kubectl get controllerrevisions` lists"
        )
    ready = phase is Phase.COMPLETE and not judged.unknown
    at_work = phase in _AT_WORK and not judged.unknown
    return [
        _verdict(ConditionType.READY, ready, reason, message, otherwise=reason),
        _verdict(ConditionType.RECONCILING, at_work, reason, message),
        _verdict(ConditionType.STALLED, stalled, reason, message),
    ]


def _verdict(
    kind: ConditionType, holds: bool, reason: Reason, message: str, otherwise: Reason = Reason.AS_EXPECTED
) -> Verdict:
    if holds:
        return Verdict(type=kind, status=ConditionStatus.TRUE, reason=reason, message=message)
    told = message if otherwise is reason else ""
    return Verdict(type=kind, status=ConditionStatus.FALSE, reason=otherwise, message=told)


def _message(judged: Judged) -> str:
    decision = judged.decision
    match decision.phase:
        case Phase.COMPLETE:
            return ""
        case Phase.MOVING | Phase.SETTLING:
            return f"wave {decision.wave} of {judged.waves} is on its way to {decision.target}"
        case Phase.BETWEEN_WAVES:
            assert decision.look_again is not None
            return (
                f"wave {decision.wave} of {judged.waves} is Ready on {decision.target}; if it stays so,"
                f" the next begins at {decision.look_again:%Y-%m-%dT%H:%M:%SZ}"
            )
        case Phase.AT_ONCE:
            return f"all go to {decision.target} at once"
        case Phase.PAUSED:
            return "take spec.rollout.paused away to go on"
        case Phase.HALTED:
            return _halted(judged)


def _halted(judged: Judged) -> str:
    failing, current = judged.decision.failing, judged.decision.current
    more = f" and {len(failing) - NAMED} more" if len(failing) > NAMED else ""
    patch = f'{{"spec":{{"rollout":{{"rollbackTo":"{current}"}}}}}}'
    back = f", or go back: kubectl patch tenanttier {judged.tier} --type=merge -p '{patch}'" if current else ""
    return (
        f"not Ready on {judged.decision.target}: {', '.join(failing[:NAMED])}{more}. It goes on by itself once they are"
        f" Ready. `kubectl describe tenant {failing[0]}` says why; change the tier{back}"
    )
