"""The Tenant's status, from an assessment. Written once for each reconcile, and only if something in it changed."""

from datetime import datetime

from msgspec.structs import replace

from tenantry_operator.api.conditions import Condition, ConditionStatus, ConditionType, Reason, Verdict, transition
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import HISTORY_LENGTH, Applied, Outcome, Revision, TenantStatus
from tenantry_operator.plan.desired import Platform
from tenantry_operator.plan.exposure import endpoint
from tenantry_operator.plan.facts import Assessment, Facts, State

_TRUE, _FALSE = ConditionStatus.TRUE, ConditionStatus.FALSE

#: States in which the operator (or a controller that it waits for) is still at work.
_AT_WORK = frozenset(
    {
        State.UNPREPARED,
        State.UNCLAIMED,
        State.KEYLESS,
        State.OUTDATED,
        State.DRIFTED,
        State.DELETING,
        State.NAMESPACE_TERMINATING,
        State.PROGRESSING,
        State.STUCK,
    }
)

#: What to do about an open circuit, whatever else is the case.
TOO_OFTEN = (
    "changes arrive faster than they can be applied, so they are looked at once in a while: see who else edits the"
    " Tenant or its objects (`kubectl get events`, managedFields)"
)


def report(facts: Facts, assessment: Assessment, platform: Platform, now: datetime) -> TenantStatus:
    """The status to write. ``facts.status`` already holds what was applied in this reconcile."""
    old, generation = facts.status, facts.meta.generation
    if facts.throttled:
        assessment = replace(assessment, degraded=(Reason.CIRCUIT_OPEN, TOO_OFTEN))
    if assessment.state is State.SUSPENDED and old.conditions:
        # Hands off: what the other conditions say was true when it was written, and keeps its old observedGeneration.
        suspended = transition(old.conditions, [_suspended(assessment)], generation=generation, now=now)
        return replace(old, conditions=suspended, rollout=facts.choice.standing if facts.choice else old.rollout)
    spec, in_force = facts.spec, _in_force(facts)
    status = replace(
        old,
        observed_generation=generation,
        conditions=transition(old.conditions, verdicts(assessment), generation=generation, now=now),
        namespace=namespace_of(facts.meta.name),
        replicas=_count(old.replicas, facts.workload.total if facts.workload else 0, assessment.state),
        ready_replicas=_count(old.ready_replicas, facts.workload.ready if facts.workload else 0, assessment.state),
        applied=in_force,
        history=_judged(_named(old.history, in_force), assessment.state),
        rollout=facts.choice.standing if facts.choice else old.rollout,
        usage=facts.usage or old.usage,
    )
    if isinstance(spec, ResolvedSpec):
        status = replace(
            status,
            endpoint=endpoint(facts.meta.name, spec, facts.reach, platform.exposure),
            hostnames=facts.reach.hostnames,
            deletion_protection=spec.deletion_protection,
        )
    return status


def _in_force(facts: Facts) -> Applied | None:
    # A revision that changes nothing for this tenant is in force without anything being applied.
    applied, wanted = facts.status.applied, facts.wanted
    if applied is None or wanted is None or not wanted.tier_revision or applied.digest != wanted.digest:
        return applied
    return replace(applied, inputs=wanted.inputs, tier_revision=wanted.tier_revision)


def _named(history: tuple[Revision, ...], in_force: Applied | None) -> tuple[Revision, ...]:
    # A Tenant that came with its tier was applied before that had a revision: there would be none to go back to.
    if not history or in_force is None or history[0].tier_revision or history[0].revision != in_force.revision:
        return history
    return (replace(history[0], tier_revision=in_force.tier_revision), *history[1:])


def _count(old: int, new: int, state: State) -> int:
    # While pods come and go, their number changes several times a second; it is written with the state they reach.
    return old if state in (State.PROGRESSING, State.DELETING) else new


def verdicts(assessment: Assessment) -> list[Verdict]:
    """What each condition says in this state. kstatus' rules: Ready is good, Reconciling on the way, Stalled stuck."""
    state, reason, message = assessment.state, assessment.reason, assessment.message
    stalled = assessment.stalled
    reconciling = not stalled and (state in _AT_WORK or state is State.FAILED)
    # One that sleeps answers, too: the first request takes some seconds longer.
    ready = _TRUE if state in (State.READY, State.ASLEEP) else _FALSE
    degraded = assessment.degraded
    return [
        Verdict(type=ConditionType.READY, status=ready, reason=reason, message=message),
        _verdict(ConditionType.RECONCILING, reconciling, reason, message),
        _verdict(ConditionType.STALLED, stalled, reason, message),
        _suspended(assessment),
        _verdict(ConditionType.DRIFTED, assessment.drifted, reason, message),
        _verdict(ConditionType.DEGRADED, degraded is not None, *(degraded or (Reason.AS_EXPECTED, ""))),
    ]


def _suspended(assessment: Assessment) -> Verdict:
    suspended = assessment.state in (State.SUSPENDED, State.PAUSED)
    return _verdict(ConditionType.SUSPENDED, suspended, assessment.reason, assessment.message)


def _verdict(kind: ConditionType, holds: bool, reason: Reason, message: str) -> Verdict:
    if holds:
        return Verdict(type=kind, status=_TRUE, reason=reason, message=message)
    return Verdict(type=kind, status=_FALSE, reason=Reason.AS_EXPECTED)


def applied(
    old: TenantStatus,
    digest: str,
    chart: str,
    fingerprint: str,
    now: datetime,
    *,
    inputs: str = "",
    tier_revision: str = "",
) -> TenantStatus:
    """The status with a note of what was just applied; a new digest is a new revision."""
    before = old.applied
    if before is not None and before.digest == digest:
        same = replace(before, chart=chart, fingerprint=fingerprint, inputs=inputs, tier_revision=tier_revision)
        return replace(old, applied=same)
    number = (before.revision if before else 0) + 1
    entry = Revision(
        revision=number,
        digest=digest,
        chart=chart,
        time=now.replace(microsecond=0),
        outcome=Outcome.APPLIED,
        tier_revision=tier_revision,
    )
    return replace(
        old,
        applied=Applied(
            digest=digest,
            chart=chart,
            revision=number,
            fingerprint=fingerprint,
            inputs=inputs,
            tier_revision=tier_revision,
        ),
        history=(entry, *old.history)[:HISTORY_LENGTH],
    )


def _judged(history: tuple[Revision, ...], state: State) -> tuple[Revision, ...]:
    outcome = {State.READY: Outcome.READY, State.STUCK: Outcome.FAILED}.get(state)
    if not history or outcome is None or history[0].outcome is Outcome.READY:
        return history
    return (replace(history[0], outcome=outcome), *history[1:])


def first_ready(old: TenantStatus, new: TenantStatus) -> bool:
    """Whether the Tenant has become Ready for the first time in its life, as far as its history goes back."""
    whole = not old.history or old.history[-1].revision == 1
    return whole and _was_ready(new) and not _was_ready(old)


def _was_ready(status: TenantStatus) -> bool:
    return any(entry.outcome is Outcome.READY for entry in status.history)


def turned(old: TenantStatus, new: TenantStatus) -> list[Condition]:
    """The conditions whose status changed, or that give a new reason while they warn: what deserves an Event.

    Nothing at the first Ready of a Tenant, unless it was stalled before: that all went as it should is no news, and
    what comes with its settings (such as limits that hold for each pod) the conditions say from the start.
    """
    before = {condition.type: condition for condition in old.conditions}
    stalled = before.get(ConditionType.STALLED)
    if first_ready(old, new) and (stalled is None or stalled.status != _TRUE):
        return []
    told = {ConditionType.READY, ConditionType.STALLED, ConditionType.DEGRADED}
    return [each for each in new.conditions if each.type in told and _is_news(before.get(each.type), each)]


def _is_news(before: Condition | None, after: Condition) -> bool:
    if after.status == _TRUE:
        return before is None or before.status != _TRUE or before.reason != after.reason
    return after.type == ConditionType.READY and before is not None and before.status == _TRUE
