"""Which revision of its tier holds for a Tenant."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.rollout import Standing
from tenantry_operator.api.tenant import TenantSpec, TenantStatus
from tenantry_operator.plan.revisions import TierRevision
from tenantry_operator.plan.waves import Decision, Health, Policy, member


class Choice(Struct, frozen=True, kw_only=True):
    """The revision that holds for a Tenant, and how it came to that."""

    revision: TierRevision
    standing: Standing
    #: A newer chart or image is none of its business yet: what was applied stays, unless the Tenant itself changes.
    held: bool = False


def takes_part(meta: ObjectMeta, spec: TenantSpec) -> bool:
    """Whether the waves reach the Tenant at all."""
    hands_off = spec.suspend is not None and bool(spec.suspend.reconcile)
    return meta.deletion_timestamp is None and spec.tier_revision is None and not hands_off


def choose(
    meta: ObjectMeta,
    spec: TenantSpec,
    status: TenantStatus,
    known: Mapping[str, TierRevision],
    decision: Decision,
    now: datetime,
) -> Choice | None:
    """The choice for one Tenant; None when ``spec.tierRevision`` names no revision of its tier.

    A Tenant that names a revision has that. One that is new to the tier begins on the newest, unless that is doubted.
    Any other stays on the revision that it is on until the decision lets it go on.
    """

    def of_tier(name: str) -> TierRevision | None:
        found = known.get(name)
        return found if found is not None and found.tier == spec.tier else None

    before = status.rollout or Standing(revision=status.applied.tier_revision if status.applied else "")

    def settled_on(revision: TierRevision, *, held: bool) -> Choice:
        same = before.revision == revision.name
        return Choice(revision=revision, standing=before if same else Standing(revision=revision.name), held=held)

    if spec.tier_revision is not None:
        pinned = of_tier(spec.tier_revision)
        return None if pinned is None else settled_on(pinned, held=True)
    newest, present = known[decision.target], of_tier(before.revision)
    if present is None:
        begun = of_tier(decision.for_newcomers) or newest
        return settled_on(begun, held=False)
    if present.name == newest.name:
        return settled_on(newest, held=False)
    if meta.name in decision.may_move:
        return Choice(revision=newest, standing=_moved(meta, status, before, newest, now))
    return settled_on(present, held=True)


def _moved(meta: ObjectMeta, status: TenantStatus, before: Standing, newest: TierRevision, now: datetime) -> Standing:
    was = member(meta, status, Policy(), now)
    # Whom a former revision broke must be healed by this one before others get it.
    counted = was.health is Health.READY or was.counted
    return Standing(
        revision=newest.name, moved_at=now.replace(microsecond=0), generation=meta.generation, counted=counted
    )
