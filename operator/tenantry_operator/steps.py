"""The steps of a reconcile: each leads out of one state, and can be repeated after a crash anywhere in it."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from msgspec.structs import replace

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import LiveTenant
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.apply import applyset, credentials, keys, pods, secrets
from tenantry_operator.apply import namespace as namespaces
from tenantry_operator.apply.kinds import FENCES, TENANTS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES, ROLE_BINDINGS, SECRETS
from tenantry_operator.live import Live
from tenantry_operator.look import Lookout
from tenantry_operator.plan import names, objects
from tenantry_operator.plan import status as plan_status
from tenantry_operator.plan.desired import Platform, Wanted
from tenantry_operator.plan.drift import Drift
from tenantry_operator.plan.facts import Facts, Failure
from tenantry_operator.plan.keys import replacement
from tenantry_operator.plan.observed import Child, LiveDeployment, child, fingerprint
from tenantry_operator.plan.refused import ask_again, pause
from tenantry_operator.redis.accounts import Accounts
from tenantry_operator.render import Objects, Renderer, RenderError
from tenantry_operator.report import Reporter

log = logging.getLogger(__name__)


class Steps:
    """Every step takes the facts and gives them as they are after it. All raise Failure and KubeError."""

    def __init__(
        self,
        *,
        client: Client,
        live: Live,
        lookout: Lookout,
        renderer: Renderer,
        reporter: Reporter,
        platform: Platform,
        accounts: Accounts | None,
        now: Callable[[], datetime],
    ) -> None:
        self._client, self._live, self._lookout = client, live, lookout
        self._renderer, self._reporter = renderer, reporter
        self._platform, self._accounts, self._now = platform, accounts, now
        self._credentials = credentials.Credentials(client, platform.namespace)
        #: How often pods of a tenant have been asked for in vain. Begun anew by whoever leads next.
        self._asked: dict[str, int] = {}

    async def prepare(self, facts: Facts) -> Facts:
        """Our finalizer and the set's bookkeeping, before anything is made that they are to find again."""
        raw = await self._client.json_patch(TENANTS, facts.meta.name, applyset.preparation(facts.meta), into=LiveTenant)
        # The patch tested the resourceVersion, so the answer is what we had read, plus the patch.
        return replace(facts, meta=self._reporter.taken(raw).meta)

    async def claim(self, facts: Facts) -> Facts:
        """The namespace, and our rights in it."""
        name, uid = facts.meta.name, facts.meta.uid
        namespace, binding = self._lookout.own(facts)
        claim = partial(namespaces.claim, self._client, name, uid, taken=self._live.put_child)
        try:
            claimed = await claim(namespace, binding)
        except Failure as failure:
            if failure.reason is not Reason.NAMESPACE_CONFLICT or not await namespaces.adopt(self._client, name, uid):
                raise
            note = f"{namespace_of(name)}, which was not made for this Tenant, said that it may be taken over"
            await self._reporter.record(facts, Reason.NAMESPACE_ADOPTED.value, note, warning=False)
            claimed = await claim(namespace, binding)
        facts = self._lookout.observed(replace(facts, fresh=claimed.created, drifts=_lost(facts, claimed)))
        # The keys of a namespace that is gone went with it.
        return self._lookout.keyed(facts, None) if claimed.created else facts

    async def issue(self, facts: Facts) -> Facts:
        """The keys: read, made, or replaced. With them the copies of credentials, which no watch reports either."""
        spec, name = facts.spec, facts.meta.name
        assert isinstance(spec, ResolvedSpec)
        held = None if facts.fresh else await secrets.held(self._client, name)
        issues = await keys.ensure(self._client, name, spec.keys, held, facts.now)
        for key, replaced, tampered in issues:
            if replaced is not None:
                note = replacement(key, replaced, tampered=tampered)
                await self._reporter.record(facts, Reason.KEY_ROTATED.value, note, warning=tampered)
        lost = self._lookout.lost_keys(facts, [issue.key for issue in issues if issue.replaced is None])
        drifts = [Drift(kind=SECRETS.kind, name=names.key_secret(key.name)) for key in lost]
        intact = held is None or (
            credentials.intact(name, spec.upstreams, held)
            and all(secrets.holds(held, name, body) for body in self._store_secret(facts))
        )
        if intact:
            self._lookout.trust(name)
        facts = replace(facts, secrets_intact=intact, drifts=(*facts.drifts, *drifts))
        return self._lookout.keyed(facts, tuple(issue.key for issue in issues))

    async def put_back(self, facts: Facts) -> Facts:
        """What somebody has edited or deleted; a key may be among it, so those are read again."""
        try:
            facts = await self.issue(facts)
        except errors.Forbidden:
            # Our own rights there were taken (by its subjects, for a binding's role cannot be changed, and one that is
            # gone is no drift); without them nothing else can be put back.
            taken = Drift(kind=ROLE_BINDINGS.kind, name=names.OPERATOR_BINDING, fields=("subjects",))
            facts = await self.claim(facts)
            facts = await self.issue(replace(facts, fresh=True, drifts=(*facts.drifts, taken)))
        return await self._apply(facts, compare=True)

    async def guard(self, facts: Facts) -> Facts:
        """Put fences back while the tenant is blocked: its pods run on, and so must what keeps them in their bounds."""
        wanted = self._lookout.fences(facts)
        if wanted is None:
            return facts
        members = applyset.members(facts.meta.name, [*wanted.own, *await self._rendered(facts, wanted)])
        tied = applyset.ApplySet(
            self._client, facts.meta.name, facts.children, compare=True, taken=self._live.put_child
        )
        await tied.apply([member for member in members if member.resource in FENCES])
        return replace(self._lookout.observed(facts), drifts=(*facts.drifts, *tied.drifts))

    async def ask_again(self, facts: Facts) -> Facts:
        """Have pods asked for again that the quota refused, once it has room; else say when that is due.

        By an annotation that we do not apply, so it is neither drift nor part of the pods' template. It is also what
        keeps the first pause, whoever leads by then. A side errand: what comes of it stops nothing else.
        """
        name = facts.meta.name
        asked = self._asked.get(name, 0)
        due = ask_again(facts, asked)
        if due is None:
            self._asked.pop(name, None)
            return facts
        if due <= facts.now:
            body = {"metadata": {"annotations": {names.ASKED_AGAIN: facts.now.isoformat()}}}
            space = namespace_of(name)
            self._asked[name] = asked + 1
            try:
                fresh = await self._client.merge_patch(
                    DEPLOYMENTS, names.WORKLOAD, body, namespace=space, into=LiveDeployment
                )
            except errors.NotFound:
                return facts  # its own watch event tells so, too
            except (errors.Forbidden, errors.Invalid) as refusal:
                log.warning("pods that the quota refused cannot be asked for again", extra={"reason": str(refusal)})
            else:
                self._live.put_child(child(DEPLOYMENTS.group_kind, fresh))
                log.info("pods that the quota refused are asked for again")
            due = facts.now + pause(asked + 1)
        return replace(facts, next_due=due if facts.next_due is None else min(due, facts.next_due))

    def forget(self, name: str) -> None:
        """The Tenant is gone."""
        self._asked.pop(name, None)

    async def apply(self, facts: Facts) -> Facts:
        """What is to be applied now, after a change."""
        return await self._apply(facts, compare=False)

    async def _apply(self, facts: Facts, *, compare: bool) -> Facts:
        """Render, apply in order, prune, refresh running pods; only then is the digest noted.

        Killed anywhere in between: the digest in the status is still the old one, so all of it is done again.
        """
        name, wanted, had_pods = facts.meta.name, facts.wanted, facts.workload is not None
        assert wanted is not None
        if self._accounts is not None:
            await self._accounts.ensure(name, facts.meta.uid)
        members = await self._members(facts, wanted)
        # What ``claim`` has made a moment ago need not be applied again.
        done = [each for each in facts.children if facts.fresh and _is_own(each)]
        tied = applyset.ApplySet(
            self._client, name, facts.children, fresh=facts.fresh, compare=compare, taken=self._live.put_child
        )
        applied = done + await tied.apply([each for each in members if each.ref not in {child.ref for child in done}])
        for each in await tied.prune(applied, keys={names.key_secret(key.name) for key in wanted.spec.keys}):
            self._live.drop_child(name, each.ref, each.uid)
        if had_pods:
            await pods.refresh(self._client, namespace_of(name), name, wanted.pod_annotations)
        log.info("applied", extra={"digest": wanted.digest})
        # From the answers to our own writes: what somebody else has changed since then must not become the measure.
        status = plan_status.applied(
            facts.status,
            wanted.digest,
            self._renderer.chart,
            fingerprint(applied),
            self._now(),
            inputs=wanted.inputs,
            tier_revision=wanted.tier_revision,
        )
        self._lookout.trust(name)
        drifts = (*facts.drifts, *tied.drifts)
        return replace(self._lookout.observed(facts), status=status, secrets_intact=True, drifts=drifts)

    async def _members(self, facts: Facts, wanted: Wanted) -> list[applyset.Member]:
        name = facts.meta.name
        rendered = await self._rendered(facts, wanted)
        copies = await self._credentials.copies(name, wanted.spec.upstreams, facts.credentials)
        return applyset.members(name, [*wanted.own, *rendered, *copies, *self._store_secret(facts)])

    def _store_secret(self, facts: Facts) -> list[objects.Object]:
        store, name = self._platform.store, facts.meta.name
        return [] if store is None else [objects.store_secret(name, store.url(name, facts.meta.uid))]

    async def _rendered(self, facts: Facts, wanted: Wanted) -> Objects:
        name = facts.meta.name
        try:
            return await self._renderer.render(name, namespace_of(name), wanted.values)
        except RenderError as error:
            raise Failure(Reason.RENDER_FAILED, str(error)) from error


def _lost(facts: Facts, claimed: namespaces.Claimed) -> tuple[Drift, ...]:
    if facts.status.applied is None:
        return ()
    namespace, binding = (each.ref for each in claimed.children)
    if claimed.created:
        return (Drift(kind=NAMESPACES.kind, name=namespace.name),)
    drifts = [Drift(kind=NAMESPACES.kind, name=namespace.name, fields=claimed.lost)] if claimed.lost else []
    if binding not in {each.ref for each in facts.children}:
        drifts.append(Drift(kind=ROLE_BINDINGS.kind, name=binding.name))
    return tuple(drifts)


def _is_own(each: Child) -> bool:
    return each.ref.group_kind == NAMESPACES.group_kind or each.ref.name == names.OPERATOR_BINDING
