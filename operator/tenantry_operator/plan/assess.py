"""Where a tenant stands: one function from all that is known to one state of a closed set. It changes nothing.

``reconcile`` asks for the state, does the one step that belongs to it, and asks again, until a state has no step.
"""

from collections.abc import Mapping
from datetime import datetime

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.meta import FINALIZER, ObjectMeta
from tenantry_operator.api.resolve import ResolvedSpec, resolve
from tenantry_operator.api.settings import DeletionPolicy
from tenantry_operator.api.tenant import Tenant, TenantSpec
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.plan import names
from tenantry_operator.plan.facts import TERMINATING_POLL, Assessment, Facts, Failure, State, blocked, on_the_way
from tenantry_operator.plan.health import health
from tenantry_operator.plan.observed import fingerprint


def resolved(tenant: Tenant | FieldError, tier: TenantTier | FieldError | None) -> ResolvedSpec | Assessment:
    """What holds for the tenant, or why that cannot be said."""
    if isinstance(tenant, FieldError):
        return blocked(Reason.INVALID_SPEC, str(tenant))
    name = tenant.spec.tier
    if tier is None:
        return blocked(
            Reason.TIER_NOT_FOUND, f"TenantTier {name!r} does not exist: create it, or name another in spec.tier"
        )
    if isinstance(tier, FieldError):
        return blocked(Reason.TIER_INVALID, f"TenantTier {name!r}: {tier}")
    try:
        return resolve(tenant, tier)
    except FieldError as error:
        return blocked(Reason.INVALID_SPEC, str(error))


def unknown_revision(spec: TenantSpec) -> Assessment:
    """``spec.tierRevision`` names nothing."""
    return blocked(
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
        return blocked(
            Reason.CREDENTIALS_NOT_FOUND,
            f"Secret {', '.join(missing)} with the label {names.CREDENTIALS_SELECTOR} and the field"
            f" {names.SECRET_FIELD} does not exist in the platform's namespace: create it",
        )
    if not _is_prepared(facts.meta, group_kinds):
        return on_the_way(State.UNPREPARED)
    if facts.namespace is not None and facts.namespace.terminating:
        return Assessment(
            state=State.NAMESPACE_TERMINATING,
            reason=Reason.NAMESPACE_TERMINATING,
            message=f"namespace {facts.namespace.ref.name} is being deleted; it is made anew once it is gone",
            requeue=TERMINATING_POLL,
        )
    if not _is_claimed(facts):
        return on_the_way(State.UNCLAIMED)
    if facts.keys is None or facts.wanted is None:
        return on_the_way(State.KEYLESS)
    applied = facts.status.applied
    if applied is None or applied.digest != facts.wanted.digest:
        return on_the_way(State.OUTDATED)
    if applied.fingerprint != set_fingerprint(facts) or not facts.secrets_intact:
        return on_the_way(State.DRIFTED)
    return health(facts, spec)


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
