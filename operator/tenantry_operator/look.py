"""All that is known of one tenant, gathered from memory: the facts that ``assess`` judges. No I/O."""

from datetime import datetime

from msgspec.structs import replace

from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.plan import desired, names
from tenantry_operator.plan.assess import Assessment, Facts, resolved, retains
from tenantry_operator.plan.desired import Platform, Wanted
from tenantry_operator.plan.keys import IssuedKey, next_change, settled
from tenantry_operator.plan.observed import Ref
from tenantry_operator.queue import Turn
from tenantry_operator.render import Renderer


class Lookout:
    """Looks at tenants. What is to be applied is worked out once for each look, and handed on in ``Facts.wanted``.

    It remembers the keys that were read or issued, because key Secrets are not watched.
    """

    def __init__(self, live: Live, renderer: Renderer, platform: Platform) -> None:
        self._live, self._renderer, self._platform = live, renderer, platform
        #: By name, with the uid of the Tenant whose they are: its successor of the same name has others.
        self._keys: dict[str, tuple[str, tuple[IssuedKey, ...]]] = {}

    def forget(self, name: str) -> None:
        """The Tenant is gone."""
        self._keys.pop(name, None)

    def look(self, record: TenantRecord, turn: Turn, now: datetime) -> Facts:
        """What is known now. A recheck takes nothing for granted that no watch reports."""
        name = record.meta.name
        tier = self._live.tiers.get(record.tenant.spec.tier) if isinstance(record.tenant, Tenant) else None
        spec = resolved(record.tenant, tier)
        facts = Facts(
            now=now,
            meta=record.meta,
            status=record.status,
            tenant=record.tenant,
            tier=tier,
            spec=spec,
            credentials=self._credentials(spec),
            throttled=turn.throttled,
        )
        uid, keys = self._keys.get(name, ("", ()))
        return self.observed(self.keyed(facts, keys if uid == facts.meta.uid and not turn.recheck else None))

    def keyed(self, facts: Facts, keys: tuple[IssuedKey, ...] | None) -> Facts:
        """The same facts with these keys, and with what is to be applied once all of them are what they should be."""
        if keys is not None:
            self._keys[facts.meta.name] = facts.meta.uid, keys
        spec = facts.spec
        if isinstance(spec, Assessment) or keys is None or not settled(keys, spec.keys, facts.now):
            return replace(facts, keys=None, wanted=None)
        due = [moment for moment in (facts.next_due, next_change(keys, facts.now)) if moment is not None]
        return replace(facts, keys=keys, wanted=self._wanted(facts, spec, keys), next_due=min(due, default=None))

    def observed(self, facts: Facts) -> Facts:
        """The same facts with the objects as they are now."""
        name, space = facts.meta.name, namespace_of(facts.meta.name)
        workload = self._live.child(name, Ref(DEPLOYMENTS.group_kind, space, names.WORKLOAD))
        return replace(
            facts,
            namespace=self._live.child(name, Ref(NAMESPACES.group_kind, "", space)),
            children=tuple(self._live.children(name)),
            workload=workload.workload if workload else None,
        )

    def _credentials(self, spec: ResolvedSpec | Assessment) -> dict[str, tuple[str, int]]:
        if isinstance(spec, Assessment):
            return {}
        named = {upstream.credentials_secret for upstream in spec.upstreams}
        found = [self._live.credentials[secret] for secret in named if secret in self._live.credentials]
        return {each.name: (each.uid, each.version) for each in found if each.usable}

    def _wanted(self, facts: Facts, spec: ResolvedSpec, keys: tuple[IssuedKey, ...]) -> Wanted:
        name = facts.meta.name
        document = desired.policy(name, facts.meta.generation, spec, keys)
        values = desired.values(name, spec, document, self._platform)
        digest = desired.digest(
            self._renderer.digest(values), facts.credentials, retain=retains(facts, None), uid=facts.meta.uid
        )
        annotations = desired.pod_annotations(document, facts.credentials)
        return Wanted(spec=spec, values=values, digest=digest, pod_annotations=annotations)
