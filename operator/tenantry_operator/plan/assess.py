"""Where a tenant stands: one function from all that is known to one state of a closed set. It changes nothing.

``reconcile`` asks for the state, does the one step that belongs to it, and asks again, until a state has no step.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto

from msgspec import Struct

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.meta import FINALIZER, ObjectMeta
from tenantry_operator.api.resolve import ResolvedSpec, resolve
from tenantry_operator.api.settings import DeletionPolicy
from tenantry_operator.api.tenant import Outcome, Tenant, TenantSpec, TenantStatus, Usage
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.plan import names
from tenantry_operator.plan.desired import Wanted
from tenantry_operator.plan.drift import Drift
from tenantry_operator.plan.exposure import Reach, Way
from tenantry_operator.plan.hostnames import Granted
from tenantry_operator.plan.keys import IssuedKey, expired, expiring
from tenantry_operator.plan.observed import Child, Workload, fingerprint
from tenantry_operator.plan.standing import Choice

#: Seconds until a look at something that no watch reports: a foreign namespace, a refused object.
RECHECK = 60.0
#: Seconds between looks at something that a watch does report. Only against a missed event.
FALLBACK = 120.0
#: Seconds between looks at a namespace on its way out.
TERMINATING_POLL = 5.0


class State(Enum):
    """Every situation that a Tenant can be in. Those above the line have a step that leads out of them."""

    UNPREPARED = auto()  # our finalizer or the set's bookkeeping is missing
    UNCLAIMED = auto()  # the namespace or our rights in it are missing
    KEYLESS = auto()  # a key is not issued, not what it should be by now, or not known to this process yet
    OUTDATED = auto()  # something else should be applied than was
    DRIFTED = auto()  # somebody changed or deleted what was applied
    DELETING = auto()
    # ----
    BLOCKED = auto()  # nothing helps but a change of something else; the reason names it
    SUSPENDED = auto()  # spec.suspend.reconcile
    NAMESPACE_TERMINATING = auto()
    FAILED = auto()  # a step was refused
    PAUSED = auto()  # spec.suspend.traffic
    ASLEEP = auto()
    PROGRESSING = auto()
    STUCK = auto()  # pods do not come up, or the gateway does not take the route
    READY = auto()


class LimiterMode(Enum):
    """What a pod does while it cannot reach the shared counters, in its own words."""

    REFUSING = "refusing"
    LOCAL_SHARE = "local_share"

    @classmethod
    def of(cls, said: str) -> "LimiterMode | None":
        """None for one that counts as it should."""
        return next((mode for mode in cls if mode.value == said), None)


class Failure(Exception):  # noqa: N818 - it is also a value that Facts and conditions carry
    """A step cannot be done now. ``stalled``: trying again changes nothing until something else changes."""

    def __init__(self, reason: Reason, message: str, *, stalled: bool = True, requeue: float = RECHECK) -> None:
        super().__init__(message)
        self.reason, self.message, self.stalled, self.requeue = reason, message, stalled, requeue


class Assessment(Struct, frozen=True, kw_only=True):
    """The state, why, and when to look again (seconds; None: when an event comes)."""

    state: State
    reason: Reason
    message: str = ""
    stalled: bool = False
    requeue: float | None = None
    degraded: tuple[Reason, str] | None = None
    drifted: bool = False


class Facts(Struct, frozen=True, kw_only=True):
    """All that is known of one tenant at this moment."""

    #: This moment.
    now: datetime
    meta: ObjectMeta
    status: TenantStatus
    tenant: Tenant | FieldError
    tier: TenantTier | FieldError | None = None
    #: What holds for the tenant (see ``resolved``), or why that cannot be said.
    spec: ResolvedSpec | Assessment
    namespace: Child | None = None
    children: tuple[Child, ...] = ()
    workload: Workload | None = None
    #: Each credentials Secret that exists and can be used, and what tells its content from any other.
    credentials: Mapping[str, str] = {}
    #: None as long as they are not known to be what they should be by now.
    keys: tuple[IssuedKey, ...] | None = None
    #: As far as they have been looked at: Secrets of tenants are not watched.
    secrets_intact: bool = True
    #: What should be applied; None as long as keys are not known.
    wanted: Wanted | None = None
    #: The namespace was made in this very reconcile.
    fresh: bool = False
    #: What was found changed by somebody else and put back in this very reconcile.
    drifts: tuple[Drift, ...] = ()
    #: The queue spaces this tenant's reconciles out because it changes too often.
    throttled: bool = False
    #: Which revision of the tier holds; ``tier`` has its defaults. None until the tier's roll-out is decided upon.
    choice: Choice | None = None
    #: Whether all pods count together, what is wrong with that, and what the ledger says was used.
    counts_shared: bool = False
    store_problem: tuple[Reason, str] | None = None
    limiter_mode: tuple[LimiterMode, int, int] | None = None
    usage: Usage | None = None
    #: What leads to it from outside now, and what it does not get of what it asks for.
    reach: Reach = Reach()
    granted: Granted = Granted()
    #: What this installation is set to, whether the cluster has it or not.
    way: Way = Way.NONE
    #: When something is known to be due (a key expires, a wave begins), whatever else happens.
    next_due: datetime | None = None


def resolved(tenant: Tenant | FieldError, tier: TenantTier | FieldError | None) -> ResolvedSpec | Assessment:
    """What holds for the tenant, or why that cannot be said."""
    if isinstance(tenant, FieldError):
        return _blocked(Reason.INVALID_SPEC, str(tenant))
    name = tenant.spec.tier
    if tier is None:
        return _blocked(
            Reason.TIER_NOT_FOUND, f"TenantTier {name!r} does not exist: create it, or name another in spec.tier"
        )
    if isinstance(tier, FieldError):
        return _blocked(Reason.TIER_INVALID, f"TenantTier {name!r}: {tier}")
    try:
        return resolve(tenant, tier)
    except FieldError as error:
        return _blocked(Reason.INVALID_SPEC, str(error))


def unknown_revision(spec: TenantSpec) -> Assessment:
    """``spec.tierRevision`` names nothing."""
    return _blocked(
        Reason.REVISION_NOT_FOUND,
        f"TenantTier {spec.tier!r} has no revision {spec.tier_revision!r}: take spec.tierRevision away, or name one"
        f" that `kubectl get controllerrevisions -A -l {names.TIER_LABEL}={spec.tier}` lists",
    )


def pause(assessment: Assessment, next_due: datetime | None, now: datetime) -> float | None:
    """Seconds until the next look: as the state asks for, or sooner if something is due before."""
    if next_due is None:
        return assessment.requeue
    due = max(0.0, (next_due - now).total_seconds())
    return due if assessment.requeue is None else min(due, assessment.requeue)


def retains(facts: Facts, recorded: str | None) -> bool:
    """Whether the namespace outlives the Tenant: by the spec, or, when tier or spec cannot be read, as last applied."""
    if isinstance(facts.spec, ResolvedSpec):
        return facts.spec.deletion_policy is DeletionPolicy.RETAIN
    if isinstance(facts.tenant, Tenant) and facts.tenant.spec.deletion_policy is not None:
        return facts.tenant.spec.deletion_policy is DeletionPolicy.RETAIN
    return recorded == DeletionPolicy.RETAIN.value


def missing_credentials(spec: ResolvedSpec, usable: Mapping[str, str]) -> list[str]:
    """The Secrets that upstreams name and that do not exist or lack the api-key."""
    wanted = {upstream.credentials_secret for upstream in spec.upstreams if upstream.credentials_secret}
    return sorted(wanted - set(usable))


def assess(facts: Facts, group_kinds: frozenset[str]) -> Assessment:
    """The state of one tenant. ``group_kinds``: what the set's bookkeeping must list before anything is applied."""
    if facts.meta.deletion_timestamp is not None:
        return Assessment(state=State.DELETING, reason=Reason.DELETING, requeue=TERMINATING_POLL)
    spec = facts.spec
    if _hands_off(facts):
        return Assessment(state=State.SUSPENDED, reason=Reason.RECONCILE_SUSPENDED)
    if isinstance(spec, Assessment):
        return spec
    missing = missing_credentials(spec, facts.credentials)
    if missing:
        return _blocked(
            Reason.CREDENTIALS_NOT_FOUND,
            f"Secret {', '.join(missing)} with the label {names.CREDENTIALS_SELECTOR} and the field"
            f" {names.SECRET_FIELD} does not exist in the platform's namespace: create it",
        )
    if not _is_prepared(facts.meta, group_kinds):
        return _on_the_way(State.UNPREPARED)
    if facts.namespace is not None and facts.namespace.terminating:
        return Assessment(
            state=State.NAMESPACE_TERMINATING,
            reason=Reason.NAMESPACE_TERMINATING,
            message=f"namespace {facts.namespace.ref.name} is being deleted; it is made anew once it is gone",
            requeue=TERMINATING_POLL,
        )
    if not _is_claimed(facts):
        return _on_the_way(State.UNCLAIMED)
    if facts.keys is None or facts.wanted is None:
        return _on_the_way(State.KEYLESS)
    applied = facts.status.applied
    if applied is None or applied.digest != facts.wanted.digest:
        return _on_the_way(State.OUTDATED)
    if applied.fingerprint != set_fingerprint(facts) or not facts.secrets_intact:
        return _on_the_way(State.DRIFTED)
    return _health(facts, spec)


def set_fingerprint(facts: Facts) -> str:
    """The fingerprint of the tenant's set as it is now, without what is on its way out."""
    wanted = names.set_id(facts.meta.name)
    return fingerprint([child for child in facts.children if child.set_id == wanted and not child.terminating])


def unguarded(facts: Facts, assessment: Assessment) -> bool:
    """Whether somebody has changed objects of a tenant whose steps are blocked for want of something else."""
    applied, space = facts.status.applied, facts.namespace
    if assessment.state is not State.BLOCKED or applied is None or space is None or space.terminating:
        return False
    return applied.fingerprint != set_fingerprint(facts)


def failed(failure: Failure, *, drifted: bool = False) -> Assessment:
    """The state after a step was refused."""
    return Assessment(
        state=State.FAILED,
        reason=failure.reason,
        message=failure.message,
        stalled=failure.stalled,
        requeue=failure.requeue,
        drifted=drifted,
    )


def _hands_off(facts: Facts) -> bool:
    """Whether the Tenant is suspended; what it says itself counts also when its tier cannot be read."""
    if isinstance(facts.spec, ResolvedSpec):
        return facts.spec.suspend_reconcile
    suspend = facts.tenant.spec.suspend if isinstance(facts.tenant, Tenant) else None
    return suspend is not None and bool(suspend.reconcile)


def _on_the_way(state: State) -> Assessment:
    return Assessment(state=state, reason=Reason.PROGRESSING, requeue=FALLBACK)


def _blocked(reason: Reason, message: str) -> Assessment:
    return Assessment(state=State.BLOCKED, reason=reason, message=message, stalled=True)


def _is_prepared(meta: ObjectMeta, group_kinds: frozenset[str]) -> bool:
    listed = set(meta.annotations.get(names.SET_GROUP_KINDS, "").split(","))
    return (
        FINALIZER in meta.finalizers
        and meta.labels.get(names.SET_ID) == names.set_id(meta.name)
        and names.SET_TOOLING in meta.annotations
        and group_kinds <= listed
    )


def _is_claimed(facts: Facts) -> bool:
    if facts.namespace is None or facts.namespace.tenant_uid != facts.meta.uid:
        return False
    return any(
        child.ref.name == names.OPERATOR_BINDING and child.ref.group_kind.startswith("RoleBinding.")
        for child in facts.children
    )


def _health(facts: Facts, spec: ResolvedSpec) -> Assessment:
    workload, history = facts.workload, facts.status.history
    if spec.suspend_traffic:
        left = workload.total if workload else 0
        message = f"{left} pods are still finishing" if left else ""
        return Assessment(state=State.PAUSED, reason=Reason.TRAFFIC_SUSPENDED, message=message)
    if workload is None:
        return _on_the_way(State.PROGRESSING)
    if workload.wanted == 0 and workload.current:
        return Assessment(state=State.ASLEEP, reason=Reason.ASLEEP)
    if workload.available and history and history[0].outcome is Outcome.READY:
        # This revision has been up before: pods that come and go with the load make it degraded, not unready.
        return _refused_by_gateway(facts) or _ready(facts, spec, workload)
    if not workload.current:
        return _on_the_way(State.PROGRESSING)
    if workload.refused:
        quota = "exceeded quota" in workload.refused
        return Assessment(
            state=State.STUCK,
            reason=Reason.QUOTA_BLOCKED if quota else Reason.PODS_NOT_READY,
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
        return _on_the_way(State.PROGRESSING)
    return _refused_by_gateway(facts) or _unheard_by_gateway(facts) or _ready(facts, spec, workload)


def _ready(facts: Facts, spec: ResolvedSpec, workload: Workload) -> Assessment:
    return Assessment(
        state=State.READY,
        reason=Reason.READY,
        degraded=_degraded(facts, spec, workload),
        # No watch tells when another Tenant gives a host name up.
        requeue=RECHECK if facts.granted.refused else None,
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


def _degraded(facts: Facts, spec: ResolvedSpec, workload: Workload) -> tuple[Reason, str] | None:
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
