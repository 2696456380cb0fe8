"""What is wrong with a tenant that answers all the same."""

from datetime import datetime

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.plan.exposure import Way
from tenantry_operator.plan.facts import Facts, LimiterMode
from tenantry_operator.plan.hostnames import Granted
from tenantry_operator.plan.keys import IssuedKey, expired, expiring
from tenantry_operator.plan.observed import Workload
from tenantry_operator.plan.refused import by_quota


def degraded(facts: Facts, spec: ResolvedSpec, workload: Workload) -> tuple[Reason, str] | None:
    """The gravest thing that is not as it should be, though requests are answered."""
    if by_quota(workload) and (facts.replacement_awaited is not None or workload.available < workload.wanted):
        # No numbers in the message: they change with every pod, and each change would be a write.
        return Reason.QUOTA_BLOCKED, (
            "the quota of the namespace refuses pods that are wanted: those that leave keep their room until their"
            f" streams have ended, and others may have taken some (`kubectl get pods,quota -n"
            f" {facts.status.namespace or 'the namespace'}`); they are asked for again as soon as there is room"
        )
    if facts.replacement_awaited is not None:
        return Reason.REPLACEMENT_PENDING, (
            f"since {facts.replacement_awaited:%Y-%m-%dT%H:%M:%SZ} a pod whose node goes away waits for its"
            " replacement: see that there is room for it (`kubectl get events` in the tenant's namespace), or allow"
            " placement.capacity SpotPreferred"
        )
    if workload.available < workload.wanted:
        return Reason.PARTLY_AVAILABLE, f"{workload.available} of {workload.wanted} pods are available"
    if facts.counts_shared and facts.limiter_mode is not None:
        return _cut_off(*facts.limiter_mode)
    if facts.store_problem is not None:
        return facts.store_problem
    if (lacking := _unexposed(facts, spec)) is not None:
        return Reason.NOT_EXPOSED, lacking
    if facts.granted.refused:
        return Reason.HOSTNAME_TAKEN, _taken(facts.granted)
    if facts.keys and (about_keys := _key_ends(facts.keys, facts.now)):
        return about_keys
    limited = spec.limits.requests_per_minute or spec.limits.tokens_per_minute or spec.limits.concurrent_requests
    if spec.autoscaling.max_replicas > 1 and (limited or spec.budget) and not facts.counts_shared:
        return Reason.LIMITS_PER_REPLICA, (
            "limits and budget hold for each pod, not for the tenant as a whole, because no shared counters are"
            " configured: give the platform a Redis, or set autoscaling.maxReplicas to 1 where they must be exact"
        )
    return None


def _unexposed(facts: Facts, spec: ResolvedSpec) -> str | None:
    if facts.way is Way.GATEWAY and facts.reach.way is Way.NONE:
        return (
            "the endpoint is reached from inside the cluster only, because this cluster has no HTTPRoute"
            " (gateway.networking.k8s.io/v1): install an implementation of the Gateway API"
        )
    if facts.way is Way.NONE and spec.hostnames:
        return (
            "exposure.hostnames lead nowhere, because the platform is installed without a gateway: set exposure.type"
            " in its chart's values, or take the host names away"
        )
    return None


def _taken(granted: Granted) -> str:
    whose = [
        f"{host} is held by Tenant {tenant}" if tenant else f"{host} is the platform's own"
        for host, tenant in granted.refused.items()
    ]
    return (
        f"{', '.join(whose)}: name another in exposure.hostnames; a Tenant that gives one up frees it within a minute"
    )


def _cut_off(mode: LimiterMode, pods: int, asked: int) -> tuple[Reason, str]:
    cause = f"{pods} of {asked} pods cannot reach the shared counters (Redis)"
    remedy = "see that it runs, and what the pods' log says of it"
    if mode is LimiterMode.REFUSING:
        return Reason.LIMITS_REFUSING, f"{cause} and refuse requests, as limits.whenUnavailable says; {remedy}"
    return Reason.LIMITS_LOCAL_SHARE, f"{cause} and grant a share of the limits each; {remedy}"


def _key_ends(issued: tuple[IssuedKey, ...], now: datetime) -> tuple[Reason, str] | None:
    past, near = expired(issued, now), expiring(issued, now)
    remedy = "set a later expiresAt (and raise rotation to have a new one issued), or take the key out of spec.keys"
    if past:
        return Reason.KEY_EXPIRED, f"refused since their end: {_ends(past)}; {remedy}"
    if near:
        return Reason.KEY_EXPIRING, f"will be refused from their end on: {_ends(near)}; {remedy}"
    return None


def _ends(issued: list[IssuedKey]) -> str:
    return ", ".join(f"key {key.name} ({key.expires_at:%Y-%m-%dT%H:%M:%SZ})" for key in issued)
