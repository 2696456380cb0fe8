"""How a tenant fares of which everything is applied: its pods, and whether its gateway knows the way to them."""

from msgspec.structs import replace

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Outcome
from tenantry_operator.plan.degraded import degraded
from tenantry_operator.plan.exposure import Way
from tenantry_operator.plan.facts import FALLBACK, Assessment, Facts, State, on_the_way
from tenantry_operator.plan.observed import Workload
from tenantry_operator.plan.refused import by_quota


def health(facts: Facts, spec: ResolvedSpec) -> Assessment:
    """The state of a tenant whose objects are as they should be."""
    workload, history = facts.workload, facts.status.history
    if spec.suspend_traffic:
        left = workload.total if workload else 0
        message = f"{left} pods are still finishing" if left else ""
        return Assessment(state=State.PAUSED, reason=Reason.TRAFFIC_SUSPENDED, message=message)
    if workload is None:
        return on_the_way(State.PROGRESSING)
    if facts.standing_in:
        workload = replace(workload, available=min(workload.wanted, workload.available + facts.standing_in))
    if workload.wanted == 0 and workload.current:
        return Assessment(state=State.ASLEEP, reason=Reason.ASLEEP)
    if workload.available and history and history[0].outcome is Outcome.READY:
        # This revision has been up before: pods that come and go with the load make it degraded, not unready.
        return _refused_by_gateway(facts) or _ready(facts, spec, workload)
    if not workload.current:
        return on_the_way(State.PROGRESSING)
    if workload.refused:
        return Assessment(
            state=State.STUCK,
            reason=Reason.QUOTA_BLOCKED if by_quota(workload) else Reason.PODS_NOT_READY,
            message=workload.refused,
            requeue=FALLBACK,
        )
    if workload.deadline_exceeded:
        return Assessment(
            state=State.STUCK,
            reason=Reason.DEADLINE_EXCEEDED,
            message=f"{workload.ready} of {workload.wanted} pods are ready; see `kubectl get events -n`"
            f" {facts.status.namespace or 'the namespace'}",
            stalled=True,
            requeue=FALLBACK,
        )
    # A pod of the revision before that is still there is the one that answers; the new one may never.
    if workload.updated < workload.wanted or workload.total > workload.updated or workload.available == 0:
        # No numbers in the message: each of them would be a write of its own on the way up.
        return on_the_way(State.PROGRESSING)
    return _refused_by_gateway(facts) or _unheard_by_gateway(facts) or _ready(facts, spec, workload)


def _ready(facts: Facts, spec: ResolvedSpec, workload: Workload) -> Assessment:
    return Assessment(
        state=State.READY,
        reason=Reason.READY,
        degraded=degraded(facts, spec, workload),
    )


def _refused_by_gateway(facts: Facts) -> Assessment | None:
    refused = sorted({each.route.refused for each in facts.children if each.route is not None and each.route.refused})
    if facts.reach.way is not Way.GATEWAY or not refused:
        return None
    return Assessment(state=State.STUCK, reason=Reason.ROUTE_NOT_ACCEPTED, message="; ".join(refused), requeue=FALLBACK)


def _unheard_by_gateway(facts: Facts) -> Assessment | None:
    routes = [each.route for each in facts.children if each.route is not None and not each.terminating]
    if facts.reach.way is not Way.GATEWAY or all(route.accepted for route in routes):
        return None
    return Assessment(
        state=State.PROGRESSING,
        reason=Reason.ROUTE_PENDING,
        message="no gateway has taken the route yet: see that the Gateway exists and its controller runs",
        requeue=FALLBACK,
    )
