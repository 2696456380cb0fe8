"""Roll-outs: notes each tier's revisions, decides who may move, says so in the tier's status, and wakes those who may.

A loop of its own beside the queue of tenants, since a decision is about all tenants of a tier together. Everything that
it goes by is in the API: killed anywhere, the next process decides the same. The order of its writes makes it so: the
revision is stored before anybody is put on it, and a wave is in the tier's status before it moves anybody.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from tenantry_operator import metrics
from tenantry_operator.api.meta import API_VERSION
from tenantry_operator.api.rollout import Rollout, TierStatus
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.apply.kinds import TIERS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.events import Recorder, Subject
from tenantry_operator.kube.resources import CONTROLLER_REVISIONS
from tenantry_operator.live import Live
from tenantry_operator.plan import names, tier_status
from tenantry_operator.plan.desired import Platform
from tenantry_operator.plan.revisions import KEPT, Image, TierRevision, from_object, revision_of, superfluous, to_object
from tenantry_operator.plan.standing import takes_part
from tenantry_operator.plan.waves import Decision, Member, Phase, Policy, decide, member, policy
from tenantry_operator.render import Renderer

log = logging.getLogger(__name__)

#: Seconds between two looks at tiers whose Tenants change: a decision is about all of them, and they change one by one.
TICK = 1.0
#: No more than this share of the time goes into decisions, however many Tenants there are.
SHARE = 0.05
#: Seconds between two writes of numbers alone.
COUNTS = 5.0
#: Until a tier is looked at again after a failure.
RETRY = timedelta(seconds=5)
#: Seconds after which the stored revisions are read again, in case somebody has deleted one.
REREAD = 600.0


class Rollouts:
    """All tiers' roll-outs. ``wake(tenant)`` is called for each Tenant that may move now."""

    def __init__(
        self,
        client: Client,
        live: Live,
        renderer: Renderer,
        recorder: Recorder,
        platform: Platform,
        wake: Callable[[str], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._live, self._renderer, self._recorder = client, live, renderer, recorder
        self._platform, self._wake, self._now, self._clock = platform, wake, now, clock
        self._image = Image(
            repository=platform.image_repository, tag=platform.image_tag, pull_policy=platform.image_pull_policy
        )
        self._due: dict[str, datetime] = {}
        self._written: dict[str, float] = {}
        self._read_at = 0.0
        self._nudge = asyncio.Event()

    def soon(self) -> None:
        """A tier has changed: do not wait for the next tick."""
        self._nudge.set()

    async def everything(self) -> None:
        """Read what is stored and decide on each tier. Raises KubeError when the revisions cannot be read."""
        await self._read()
        tiers = sorted(self._live.stirred)
        self._live.stirred.clear()
        for tier in tiers:
            await self.attend(tier)

    async def forever(self) -> None:
        """Decide anew whenever something has changed or is due. Runs until cancelled."""
        while True:
            began = self._clock()
            if began - self._read_at > REREAD:
                await self._reread()
            changed, now = set(self._live.stirred), self._now()
            self._live.stirred.clear()
            for tier in sorted(changed | {tier for tier, due in self._due.items() if due <= now}):
                await self.attend(tier)
            try:
                async with asyncio.timeout(max(TICK, (self._clock() - began) / SHARE)):
                    await self._nudge.wait()
            except TimeoutError:
                continue
            self._nudge.clear()

    async def _reread(self) -> None:
        try:
            await self._read()
        except errors.KubeError as error:
            log.warning("revisions not read again: %s", error)

    async def _read(self) -> None:
        self._read_at = self._clock()
        found = await self._client.list(
            CONTROLLER_REVISIONS,
            namespace=self._platform.namespace,
            labels=f"{names.MANAGED_BY}={names.MANAGER_VALUE},{names.TIER_LABEL}",
            into=dict[str, object],
        )
        known = [revision for raw in found if (revision := from_object(raw)) is not None]
        self._live.revisions = {each.name: each for each in known}
        self._live.stirred.update(self._live.tiers, (each.tier for each in known))

    async def attend(self, name: str) -> None:
        """Decide on one tier; what fails is tried again after a pause."""
        self._due.pop(name, None)
        tier = self._live.tiers.get(name)
        try:
            if isinstance(tier, TenantTier):
                await self._decide(name, tier)
            elif tier is None:
                await self._forget(name)
        except errors.KubeError as error:
            log.warning("roll-out put off: %s", error, extra={"tier": name})
            self._due[name] = self._now() + RETRY

    async def _forget(self, name: str) -> None:
        self._written.pop(name, None)
        with contextlib.suppress(KeyError):
            metrics.ROLLOUT_HALTED.remove(name)
        await self._prune(name, set(), kept=0)

    async def _decide(self, name: str, tier: TenantTier) -> None:
        now, status, said = self._now(), tier.status or TierStatus(), tier.spec.rollout or Rollout()
        known = {each.name: each for each in self._live.revisions.values() if each.tier == name}
        newest = revision_of(name, tier.metadata.uid, tier.spec, self._image, self._renderer.digest({}), known.values())
        target = known.get(said.rollback_to) if said.rollback_to is not None else newest
        rules, unknown = policy(said), ""
        if target is None:
            unknown, target = said.rollback_to or "", known.get(status.update_revision, newest)
            rules = replace(rules, paused=True)
        members = self._members(name, rules, {target.name, *known}, now)
        decision = decide(
            members,
            rules,
            target=target.name,
            current=status.current_revision if status.current_revision in known else "",
            wave=status.wave if status.update_revision == target.name else 0,
            ordered_back=said.rollback_to is not None,
            now=now,
        )
        await self._store(target)
        judged = tier_status.Judged(
            tier=name,
            generation=tier.metadata.generation,
            decision=decision,
            waves=len(rules.waves),
            members=members,
            unknown=unknown,
        )
        await self._report(tier, status, tier_status.report(status, judged, now))
        self._publish(name, decision, members)
        await self._prune(name, {decision.target, decision.current, said.rollback_to or ""})

    def _members(self, tier: str, rules: Policy, revisions: Container[str], now: datetime) -> list[Member]:
        found = (
            member(record.meta, record.status, rules, now)
            for record in self._live.tenants.values()
            if isinstance(record.tenant, Tenant)
            and record.tenant.spec.tier == tier
            and takes_part(record.meta, record.tenant.spec)
        )
        return [each for each in found if each.revision in revisions]  # the others are only just coming to the tier

    async def _store(self, revision: TierRevision) -> None:
        if revision.name in self._live.revisions:
            return
        body = to_object(revision, self._platform.namespace)
        with contextlib.suppress(errors.AlreadyExists):  # the name is a hash of the content
            await self._client.create(CONTROLLER_REVISIONS, body, namespace=self._platform.namespace, into=Nothing)
        log.info("new revision", extra={"tier": revision.tier, "revision": revision.name})
        self._live.revisions[revision.name] = revision

    async def _report(self, tier: TenantTier, old: TierStatus, new: TierStatus) -> None:
        name = tier.metadata.name
        if new == old:
            return
        rest = COUNTS - (self._clock() - self._written.get(name, float("-inf")))
        if tier_status.only_counts(old, new) and rest > 0:
            self._due[name] = self._now() + timedelta(seconds=rest)
            return
        body = {
            "apiVersion": API_VERSION,
            "kind": TIERS.kind,
            "metadata": {"name": name, "uid": tier.metadata.uid},
            "status": msgspec.to_builtins(new),
        }
        raw = await self._client.apply(TIERS, name, body, subresource="status", into=dict[str, object])
        self._written[name] = self._clock()
        self._live.put_tier(raw)
        event = tier_status.news(old, new)
        if event is not None:
            reason, note = event
            subject = Subject(TIERS, name, tier.metadata.uid)
            warning = any(each.type == "Stalled" and each.status == "True" for each in new.conditions)
            await self._recorder.record(subject, reason=reason.value, note=note, action="Rollout", warning=warning)

    def _publish(self, name: str, decision: Decision, members: list[Member]) -> None:
        before = self._live.decisions.get(name)
        self._live.decisions[name] = decision
        metrics.ROLLOUT_HALTED.labels(name).set(decision.phase is Phase.HALTED)
        if decision.look_again is not None:
            self._due[name] = min(decision.look_again, self._due.get(name, decision.look_again))
        if before is None or before.phase is not decision.phase or before.wave != decision.wave:
            told = {"tier": name, "phase": decision.phase.name.lower(), "wave": decision.wave, "of": len(members)}
            log.info("roll-out", extra=told)
        same = before is not None and before.target == decision.target
        for tenant in decision.may_move - (before.may_move if before is not None and same else frozenset()):
            self._wake(tenant)

    async def _prune(self, tier: str, needed: set[str], *, kept: int = KEPT) -> None:
        """Delete what is beyond the history's length, but nothing that a Tenant of any tier is on or names."""
        known = [each for each in self._live.revisions.values() if each.tier == tier]
        for record in self._live.tenants.values():
            if record.status.rollout is not None:
                needed.add(record.status.rollout.revision)
            if record.status.applied is not None:
                needed.add(record.status.applied.tier_revision)
            if isinstance(record.tenant, Tenant) and record.tenant.spec.tier_revision is not None:
                needed.add(record.tenant.spec.tier_revision)
        for each in superfluous(known, needed, kept):
            with contextlib.suppress(errors.NotFound):
                await self._client.delete(CONTROLLER_REVISIONS, each.name, namespace=self._platform.namespace)
            self._live.revisions.pop(each.name, None)
