"""All that is known of one tenant, gathered from memory: the facts that ``assess`` judges. No I/O."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.meta import ObjectMeta, namespace_of
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Tenant, TenantStatus, Usage
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES, RESOURCE_QUOTAS
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.plan import desired, names, objects
from tenantry_operator.plan.assess import resolved, retains, unknown_revision
from tenantry_operator.plan.desired import Platform, Wanted
from tenantry_operator.plan.exposure import Reach, Way
from tenantry_operator.plan.facts import Assessment, Facts
from tenantry_operator.plan.hostnames import Granted, HostNames
from tenantry_operator.plan.keys import IssuedKey, next_change, settled
from tenantry_operator.plan.observed import Ref
from tenantry_operator.plan.standing import Choice, choose
from tenantry_operator.plan.store import SOURCE
from tenantry_operator.plan.usage import next_window, usage, window_of
from tenantry_operator.queue import Turn
from tenantry_operator.render import Renderer


class Lookout:
    """Looks at tenants. What is to be applied is worked out once for each look, and handed on in ``Facts.wanted``.

    It remembers the keys that were read or issued, because key Secrets are not watched. When the namespace's quota
    counts fewer Secrets than before, they are to be read again.
    """

    def __init__(self, live: Live, renderer: Renderer, platform: Platform) -> None:
        self._live, self._renderer, self._platform = live, renderer, platform
        #: By name, with the uid of the Tenant whose they are: its successor of the same name has others.
        self._keys: dict[str, tuple[str, tuple[IssuedKey, ...]]] = {}
        self._lost: dict[str, int] = {}
        self._doubtful: set[str] = set()
        #: None until every Tenant's status has been asked what it holds.
        self._hostnames: HostNames | None = None
        #: As last read; what still holds for its tenants when a tier has gone or cannot be read any more.
        self._tiers: dict[str, TenantTier] = {}

    def forget(self, name: str) -> None:
        """The Tenant is gone."""
        self._keys.pop(name, None)
        self._lost.pop(name, None)
        self._doubtful.discard(name)
        if self._hostnames is not None:
            self._hostnames.forget(name)

    def takers(self) -> frozenset[str]:
        """Tenants that asked for a host name which another one has given up since the last call."""
        return self._hostnames.takers() if self._hostnames is not None else frozenset()

    def look(self, record: TenantRecord, turn: Turn, now: datetime) -> Facts:
        """What is known now. A recheck takes nothing for granted that no watch reports."""
        name = record.meta.name
        tier, choice, spec = self._holding(record, now)
        if isinstance(tier, TenantTier):
            self._tiers[tier.metadata.name] = tier
        granted = self._granted(record, spec)
        facts = Facts(
            now=now,
            meta=record.meta,
            status=record.status,
            tenant=record.tenant,
            tier=tier,
            spec=spec,
            choice=choice,
            credentials=self._credentials(spec) | self._store_content(record.meta),
            counts_shared=self._platform.store is not None,
            store_problem=self._live.store_problem,
            limiter_mode=self._live.limiter_modes.get(name),
            usage=self._usage(name, spec, now),
            throttled=turn.throttled,
            reach=Reach(way=self._way(), hostnames=granted.hostnames),
            granted=granted,
            way=self._platform.exposure.way,
        )
        if turn.recheck or self._has_lost_secrets(name):
            self._doubtful.add(name)
        return self.observed(self.keyed(facts, None if name in self._doubtful else self._known_keys(facts)))

    def trust(self, name: str) -> None:
        """All Secrets of the tenant are as they should be: they need not be read again before something is heard."""
        self._doubtful.discard(name)

    def _known_keys(self, facts: Facts) -> tuple[IssuedKey, ...] | None:
        uid, keys = self._keys.get(facts.meta.name, ("", ()))
        return keys if uid == facts.meta.uid else None

    def lost_keys(self, facts: Facts, issued: Sequence[IssuedKey]) -> list[IssuedKey]:
        """Those of the keys that had to be issued anew although the Tenant has not changed: their Secret was gone."""
        if facts.status.observed_generation != facts.meta.generation:
            return []
        before = {key.name: key.id for key in self._known_keys(facts) or ()}
        return [key for key in issued if before.get(key.name, key.id) != key.id]

    def _has_lost_secrets(self, name: str) -> bool:
        quota = self._live.child(name, Ref(RESOURCE_QUOTAS.group_kind, namespace_of(name), names.QUOTA))
        lost = quota.lost if quota is not None else 0
        if lost == self._lost.get(name, 0):
            return False
        self._lost[name] = lost
        return True

    def keyed(self, facts: Facts, keys: tuple[IssuedKey, ...] | None) -> Facts:
        """The same facts with these keys, and with what is to be applied once all of them are what they should be."""
        if keys is not None:
            self._keys[facts.meta.name] = facts.meta.uid, keys
        spec = facts.spec
        if isinstance(spec, Assessment) or keys is None or not settled(keys, spec.keys, facts.now):
            return replace(facts, keys=None, wanted=None)
        moments = [facts.next_due, next_change(keys, facts.now)]
        if facts.usage is not None and facts.usage.requests:
            moments.append(next_window(window_of(spec), facts.now))
        due = [moment for moment in moments if moment is not None]
        return replace(facts, keys=keys, wanted=self._wanted(facts, spec, keys), next_due=min(due, default=None))

    def own(self, facts: Facts) -> tuple[objects.Object, objects.Object]:
        """The objects that do not come out of the chart: the Namespace, and the operator's rights in it."""
        name, retain = facts.meta.name, retains(facts, None)
        return objects.namespace(name, facts.meta.uid, retain=retain), objects.operator_binding(name, self._platform)

    def fences(self, facts: Facts) -> Wanted | None:
        """What is to be applied, as far as it is known without tier, credentials and keys: good for fences only."""
        spec = facts.spec
        if isinstance(spec, Assessment) and isinstance(facts.tenant, Tenant):
            spec = resolved(facts.tenant, self._last_tier(facts.tenant.spec.tier, facts.status))
        if isinstance(spec, Assessment):
            return None
        return self._wanted(replace(facts, spec=spec), spec, self._known_keys(facts) or ())

    def observed(self, facts: Facts) -> Facts:
        """The same facts with the objects as they are now."""
        name, space = facts.meta.name, namespace_of(facts.meta.name)
        workload = self._live.child(name, Ref(DEPLOYMENTS.group_kind, space, names.WORKLOAD))
        stand_in = self._live.stand_ins.get(name)
        return replace(
            facts,
            standing_in=stand_in.pods if stand_in else 0,
            replacement_awaited=stand_in.awaited if stand_in else None,
            namespace=self._live.child(name, Ref(NAMESPACES.group_kind, "", space)),
            children=tuple(self._live.children(name)),
            workload=workload.workload if workload else None,
        )

    def _holding(
        self, record: TenantRecord, now: datetime
    ) -> tuple[TenantTier | FieldError | None, Choice | None, ResolvedSpec | Assessment]:
        """The tier in the revision that holds for the tenant, which that is, and what follows from it."""
        if isinstance(record.tenant, FieldError):
            return None, None, resolved(record.tenant, None)
        wanted = record.tenant.spec
        tier, decision = self._live.tiers.get(wanted.tier), self._live.decisions.get(wanted.tier)
        if not isinstance(tier, TenantTier) or decision is None:
            return tier, None, resolved(record.tenant, tier)
        choice = choose(record.meta, wanted, record.status, self._live.revisions, decision, now)
        if choice is None:
            return tier, None, unknown_revision(wanted)
        tier = replace(tier, spec=choice.revision.spec)
        return tier, choice, resolved(record.tenant, tier)

    def _way(self) -> Way:
        way = self._platform.exposure.way
        return Way.NONE if way is Way.GATEWAY and not self._live.routes_served else way

    def _granted(self, record: TenantRecord, spec: ResolvedSpec | Assessment) -> Granted:
        """The host names that are the tenant's; as long as nothing of it is changed, those that it has."""
        if self._hostnames is None:
            self._hostnames = HostNames(self._platform.exposure.reserved)
            for each in self._live.tenants.values():
                self._hostnames.recall(each.meta.name, each.status.hostnames)
        leaving = record.meta.deletion_timestamp is not None
        if isinstance(spec, Assessment) or spec.suspend_reconcile or leaving:
            return Granted(hostnames=record.status.hostnames)
        return self._hostnames.claim(record.meta.name, spec.hostnames)

    def _last_tier(self, tier: str, status: TenantStatus) -> TenantTier | None:
        """The tier as it last held for the tenant: in the revision that it is on, which outlives the tier itself."""
        revision = self._live.revisions.get(status.rollout.revision) if status.rollout else None
        if revision is None or revision.tier != tier:
            return self._tiers.get(tier)
        return TenantTier(metadata=ObjectMeta(name=tier), spec=revision.spec)

    def _credentials(self, spec: ResolvedSpec | Assessment) -> dict[str, str]:
        if isinstance(spec, Assessment):
            return {}
        named = {upstream.credentials_secret for upstream in spec.upstreams}
        found = [self._live.credentials[secret] for secret in named if secret in self._live.credentials]
        return {each.name: each.content for each in found if each.content}

    def _store_content(self, meta: ObjectMeta) -> dict[str, str]:
        store = self._platform.store
        return {} if store is None else {SOURCE: store.content(meta.name, meta.uid)}

    def _usage(self, name: str, spec: ResolvedSpec | Assessment, now: datetime) -> Usage | None:
        found = self._live.usage.get(name)
        return None if found is None or isinstance(spec, Assessment) else usage(found, window_of(spec), now)

    def _wanted(self, facts: Facts, spec: ResolvedSpec, keys: tuple[IssuedKey, ...]) -> Wanted:
        assert isinstance(facts.tenant, Tenant)
        name, applied = facts.meta.name, facts.status.applied
        revision = facts.choice.revision if facts.choice else None
        document = desired.policy(name, facts.meta.generation, spec, keys)
        platform = desired.with_image(self._platform, revision.image) if revision else self._platform
        values = desired.values(name, spec, document, platform, facts.reach)
        inputs = desired.inputs(facts.tenant.spec, document.keys, facts.credentials, facts.reach)
        own = self.own(facts)
        if facts.choice and facts.choice.held and applied and desired.unmoved(applied, inputs, facts.choice.revision):
            digest = applied.digest
        else:
            digest = desired.digest(self._renderer.digest(values), own, facts.credentials)
        return Wanted(
            spec=spec,
            own=own,
            values=values,
            digest=digest,
            inputs=inputs,
            tier_revision=revision.name if revision else "",
            pod_annotations=desired.pod_annotations(document, facts.credentials),
        )
