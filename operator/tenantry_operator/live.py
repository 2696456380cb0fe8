"""What is known of the cluster right now: filled by the watches and by the answers to our own writes.

Our writes are read back from here at once (their answer carries the new resourceVersion), so the watch event that
echoes a write is old news: it wakes nobody. That is what keeps a status update from causing the next reconcile.
Only plain memory: no I/O, no clock. Everything in it is a hint in the end: each write carries its own precondition.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import Struct

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import FieldError, LiveTenant, decode_meta, decode_tier
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.tenant import Tenant, TenantStatus
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.api.traffic import Upstream
from tenantry_operator.plan.facts import LimiterMode
from tenantry_operator.plan.observed import Child, Ref, version
from tenantry_operator.plan.revisions import TierRevision
from tenantry_operator.plan.usage import RollUp
from tenantry_operator.plan.waves import Decision

#: So many Tenants that went are remembered: more than ever go while one answer is on its way.
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A Tenant as last seen. ``tenant`` is a FieldError when its spec cannot be read; the rest always can."""

    meta: ObjectMeta
    status: TenantStatus
    tenant: Tenant | FieldError


class Credential(Struct, frozen=True):
    """A credentials Secret in the platform namespace, without what it holds."""

    name: str
    uid: str
    version: int
    content: str  # a hash of what upstreams need of it; empty when that is missing


class StandIn(Struct, frozen=True):
    """Pods of a tenant that its Deployment does not count any more, and that serve until their replacements do."""

    pods: int
    awaited: datetime | None = None


class Leaving(Struct, frozen=True):
    """Why a node goes away (``interruption.signals.Kind``), and when, if that is known."""

    why: str
    deadline: datetime | None = None


@dataclass(slots=True)
class Live:
    """The operator's picture of the cluster. Every ``put``/``drop`` says whether it was news."""

    tenants: dict[str, TenantRecord] = field(default_factory=dict)
    tiers: dict[str, TenantTier | FieldError] = field(default_factory=dict)
    credentials: dict[str, Credential] = field(default_factory=dict)
    #: Whether the cluster knows HTTPRoutes, as last heard.
    routes_served: bool = False
    #: Revisions of tiers by their names, and what was decided last on each tier's roll-out.
    revisions: dict[str, TierRevision] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    #: Tiers of which something has changed that a decision may depend on. Whoever decides takes them out.
    stirred: set[str] = field(default_factory=set)
    #: What is wrong with the shared counters as the operator sees them, and what each tenant has used.
    store_problem: tuple[Reason, str] | None = None
    usage: dict[str, RollUp] = field(default_factory=dict)
    #: Tenants with pods that cannot reach the shared counters: what most of those do, how many they are, of how many.
    limiter_modes: dict[str, tuple[LimiterMode, int, int]] = field(default_factory=dict)
    #: Tenants with pods that serve though they are about to leave: how many do, and since when their replacements are
    #: awaited longer than they should be (None: they are not).
    stand_ins: dict[str, StandIn] = field(default_factory=dict)
    #: Nodes that are known to go away.
    leaving: dict[str, Leaving] = field(default_factory=dict)
    #: Uids of the Tenants that went last.
    _gone: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _tier_versions: dict[str, int] = field(default_factory=dict)
    _children: dict[str, dict[Ref, Child]] = field(default_factory=dict)

    # Tenants

    def put_tenant(self, fresh: TenantRecord) -> bool:
        """Take in a Tenant; False when it is not newer or nothing that matters differs."""
        known = self.tenants.get(fresh.meta.name)
        if known is not None and version(fresh.meta.resource_version) <= version(known.meta.resource_version):
            return False
        self.tenants[fresh.meta.name] = fresh
        self._stir(fresh, known)
        return known is None or _matter(fresh) != _matter(known)

    def take_answer(self, fresh: TenantRecord) -> None:
        """Take in a Tenant as a write of ours was answered, unless it is gone: watches may be quicker than answers."""
        if fresh.meta.uid not in self._gone:
            self.put_tenant(fresh)

    def drop_tenant(self, name: str, uid: str) -> bool:
        """The Tenant with this uid is gone."""
        self._gone.append(uid)
        known = self.tenants.get(name)
        if known is None or known.meta.uid != uid:
            return False
        del self.tenants[name]
        self._stir(known)
        return True

    def replace_tenants(self, listed: Iterable[TenantRecord], as_of: int) -> Iterator[tuple[str, bool]]:
        """Take in a complete list, read at version ``as_of``; yields those for whom it was news, with whether they are
        gone."""
        present = set()
        for fresh in listed:
            present.add(fresh.meta.name)
            if self.put_tenant(fresh):
                yield fresh.meta.name, False
        for name in self.tenants.keys() - present:
            meta = self.tenants[name].meta
            if version(meta.resource_version) <= as_of and self.drop_tenant(name, meta.uid):
                yield name, True

    def _stir(self, *records: TenantRecord | None) -> None:
        self.stirred.update(
            record.tenant.spec.tier for record in records if record is not None and isinstance(record.tenant, Tenant)
        )

    # Tiers

    def put_tier(self, raw: Mapping[str, object]) -> str | None:
        """Take in a TenantTier's JSON; its name if that was news."""
        meta = decode_meta(raw)
        if version(meta.resource_version) <= self._tier_versions.get(meta.name, -1):
            return None
        self._tier_versions[meta.name] = version(meta.resource_version)
        before = self.tiers.get(meta.name)
        try:
            fresh: TenantTier | FieldError = decode_tier(raw)
        except FieldError as error:
            fresh = error
        self.tiers[meta.name] = fresh
        self.stirred.add(meta.name)
        unchanged = isinstance(before, TenantTier) and isinstance(fresh, TenantTier) and before.spec == fresh.spec
        return None if unchanged else meta.name

    def drop_tier(self, name: str, as_of: int) -> bool:
        """The tier was gone at that version."""
        if self._tier_versions.get(name, as_of) > as_of:
            return False
        self._tier_versions.pop(name, None)
        self.stirred.add(name)
        self.decisions.pop(name, None)
        return self.tiers.pop(name, None) is not None

    def tenants_of_tier(self, tier: str) -> list[str]:
        """The Tenants that name this tier."""
        return [
            name
            for name, record in self.tenants.items()
            if isinstance(record.tenant, Tenant) and record.tenant.spec.tier == tier
        ]

    # Credentials

    def put_credential(self, fresh: Credential) -> bool:
        """Take in a credentials Secret."""
        known = self.credentials.get(fresh.name)
        if known is not None and fresh.version <= known.version:
            return False
        self.credentials[fresh.name] = fresh
        return known is None or known.content != fresh.content

    def drop_credential(self, name: str, as_of: int) -> bool:
        """The Secret was gone, or without its label, at that version."""
        known = self.credentials.get(name)
        if known is None or known.version > as_of:
            return False
        del self.credentials[name]
        return True

    def tenants_using(self, secret: str) -> list[str]:
        """The Tenants with an upstream, of their own or of their tier, that names this Secret."""
        found = []
        for name, record in self.tenants.items():
            if isinstance(record.tenant, FieldError):
                continue
            own = record.tenant.spec.upstreams
            given = [own] if own is not None else self._given_upstreams(record.tenant.spec.tier, record.status)
            if any(upstream.credentials_secret == secret for upstreams in given for upstream in upstreams or ()):
                found.append(name)
        return found

    def _given_upstreams(self, tier: str, status: TenantStatus) -> list[tuple[Upstream, ...] | None]:
        """Those of the tier, and of the revision of it that the Tenant is still on."""
        newest = self.tiers.get(tier)
        held = self.revisions.get(status.rollout.revision) if status.rollout else None
        given = [newest.spec.upstreams] if isinstance(newest, TenantTier) else []
        return [*given, held.spec.upstreams] if held is not None else [*given]

    # Children

    def put_child(self, fresh: Child) -> bool:
        """Take in a managed object; False when it is not newer, nothing that matters differs, or it is not at home."""
        if not fresh.at_home:
            return False
        mine = self._children.setdefault(fresh.tenant, {})
        known = mine.get(fresh.ref)
        if known is not None and fresh.version <= known.version:
            return False
        mine[fresh.ref] = fresh = fresh if known is None else fresh.after(known)
        return known is None or not known.same_as(fresh)

    def drop_child(self, tenant: str, ref: Ref, uid: str, *, as_of: int | None = None) -> bool:
        """The object with this uid is gone, or has lost its label; ``as_of`` that version: we may have put it back."""
        mine = self._children.get(tenant, {})
        known = mine.get(ref)
        if known is None or known.uid != uid or (as_of is not None and known.version > as_of):
            return False
        del mine[ref]
        if not mine:
            del self._children[tenant]
        return True

    def children(self, tenant: str) -> list[Child]:
        """All managed objects of a tenant."""
        return list(self._children.get(tenant, {}).values())

    def child(self, tenant: str, ref: Ref) -> Child | None:
        """One managed object."""
        return self._children.get(tenant, {}).get(ref)

    def replace_kind(self, group_kind: str, listed: Iterable[Child], as_of: int) -> Iterator[str]:
        """Take in a complete list of one kind, read at version ``as_of``; yields the tenants for whom it was news.

        Finds what a watch can miss: objects that went away while nobody was looking. What we have written
        since the list was read is newer than the list and stays.
        """
        present: set[tuple[str, Ref, str]] = set()
        for fresh in listed:
            present.add((fresh.tenant, fresh.ref, fresh.uid))
            if self.put_child(fresh):
                yield fresh.tenant
        ghosts = [
            known
            for mine in self._children.values()
            for known in mine.values()
            if known.ref.group_kind == group_kind
            and known.version <= as_of
            and (known.tenant, known.ref, known.uid) not in present
        ]
        for ghost in ghosts:
            if self.drop_child(ghost.tenant, ghost.ref, ghost.uid):
                yield ghost.tenant


def read_tenant(live: LiveTenant) -> TenantRecord:
    """What is kept of a Tenant; never fails for its spec, because a Tenant that is wrong can still be deleted."""
    meta, status = live.metadata, live.read_status()
    try:
        return TenantRecord(meta, status, Tenant(metadata=meta, spec=live.read_spec(), status=status))
    except FieldError as error:
        return TenantRecord(meta, status, error)


def _matter(record: TenantRecord) -> tuple[object, ...]:
    meta = record.meta
    return (
        meta.uid,
        meta.generation,
        meta.deletion_timestamp,
        meta.finalizers,
        meta.labels,
        meta.annotations,
        record.status,
    )
