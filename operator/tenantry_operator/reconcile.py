"""Bring one tenant to its declared state."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from tenantry_operator import logs, metrics
from tenantry_operator.api.conditions import ConditionType, Reason
from tenantry_operator.api.meta import API_VERSION, FINALIZER, GROUP, VERSION, ObjectMeta, namespace_of
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Tenant, TenantStatus
from tenantry_operator.apply import applyset, keys, pods
from tenantry_operator.apply import namespace as namespaces
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder, Subject
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES, SECRETS, Resource
from tenantry_operator.live import Live, TenantRecord, read_tenant
from tenantry_operator.plan import desired, names, objects
from tenantry_operator.plan import status as plan_status
from tenantry_operator.plan.assess import Assessment, Facts, Failure, State, assess, failed, retains
from tenantry_operator.plan.desired import IssuedKey, Platform
from tenantry_operator.plan.observed import Ref, fingerprint
from tenantry_operator.render import Renderer, RenderError

log = logging.getLogger(__name__)

TENANTS = Resource(GROUP, VERSION, "tenants", "Tenant", namespaced=False)
TIERS = Resource(GROUP, VERSION, "tenanttiers", "TenantTier", namespaced=False)

#: From this failed attempt on the status says so; before, a failure is a hiccup that the next attempt makes good.
PATIENCE = 5
#: From this one on the tenant counts as stalled.
GIVEN_UP = 12


#: No step is done twice in one turn: what changes under our hands waits for the next.
CHANGING = "objects changed while they were being applied"
AGAIN = 5.0


@dataclass(frozen=True, slots=True)
class Turn:
    """How a key comes to be worked on.

    ``attempt`` counts from the last success; ``throttled``: the key is held back because it changes too often;
    ``recheck``: nothing was news, look also at what no watch reports.
    """

    attempt: int = 1
    throttled: bool = False
    recheck: bool = False


class Reconciler:
    """``reconcile`` and the steps that it is made of. What it holds are hints; all of it can be read anew."""

    def __init__(
        self,
        *,
        client: Client,
        live: Live,
        renderer: Renderer,
        recorder: Recorder,
        platform: Platform,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client, self._live, self._renderer = client, live, renderer
        self._recorder, self._platform, self._now = recorder, platform, now
        self._keys: dict[str, tuple[IssuedKey, ...]] = {}
        self._steps: dict[State, Callable[[Facts], Awaitable[Facts]]] = {
            State.UNSEEN: self._announce,
            State.UNPREPARED: self._prepare,
            State.UNCLAIMED: self._claim,
            State.KEYLESS: self._issue,
            State.OUTDATED: self._apply,
            State.DRIFTED: self._put_back,
        }

    async def reconcile(self, name: str, turn: Turn) -> float | None:
        """Bring one tenant to its declared state; gives the seconds until it should be looked at again, or None.

        Level-triggered: what happened before does not matter. Deletion is looked at first. Otherwise the state is
        asked for and its step done, until a state has none; the status is written once, at the end. Exits:

        - the Tenant is unknown: nothing to do;
        - it is being deleted: ``_delete`` does what can be done now and says when to come back;
        - a state without a step: healthy, on its way, blocked or suspended; the status says which;
        - a step was refused in a way that only a change can heal (``Failure``): the status says what has to change;
        - anything else that went wrong (``KubeError``) is raised, and the queue comes back with growing patience.
        """
        record = self._live.tenants.get(name)
        if record is None:
            self._keys.pop(name, None)
            return None
        logs.bind(tenant=name, generation=record.meta.generation, attempt=turn.attempt)
        facts = self._look(record, turn)
        assessment = assess(facts, GROUP_KINDS)
        try:
            if assessment.state is State.DELETING:
                return await self._delete(facts, assessment)
            taken: set[State] = set()
            while (step := self._steps.get(assessment.state)) is not None:
                if assessment.state in taken:
                    raise Failure(Reason.PROGRESSING_WITH_RETRY, CHANGING, stalled=False, requeue=AGAIN)
                taken.add(assessment.state)
                facts = await step(facts)
                assessment = assess(facts, GROUP_KINDS)
        except Failure as failure:
            assessment = failed(failure, drifted=assessment.state is State.DRIFTED)
        except errors.KubeError as error:
            if turn.attempt >= PATIENCE and not isinstance(error, errors.WritesForbidden):
                await self._report(facts, failed(_hiccup(error, turn.attempt)))
            raise
        record = await self._report(facts, assessment)
        # The answer to our write may hold a change that the watch will now count as an echo.
        return 0.0 if _moved(facts.meta, record.meta) else assessment.requeue

    async def unforeseen(self, name: str, turn: Turn, error: Exception) -> None:
        """Show a bug in the status, once it is certain that it is no passing one."""
        record = self._live.tenants.get(name)
        if record is not None and turn.attempt >= PATIENCE:
            note = f"after {turn.attempt} attempts: {type(error).__name__}; the operator's log says more"
            failure = Failure(Reason.INTERNAL_ERROR, note)
            facts = Facts(meta=record.meta, status=record.status, tenant=record.tenant)
            await self._report(facts, failed(failure))

    # What is known

    def _look(self, record: TenantRecord, turn: Turn) -> Facts:
        name = record.meta.name
        tier = self._live.tiers.get(record.tenant.spec.tier) if isinstance(record.tenant, Tenant) else None
        # Key Secrets are not watched; so now and then they are read again.
        known = None if turn.recheck else self._keys.get(name)
        facts = Facts(
            meta=record.meta,
            status=record.status,
            tenant=record.tenant,
            tier=tier,
            keys=known,
            throttled=turn.throttled,
        )
        return self._refreshed(facts)

    def _refreshed(self, facts: Facts) -> Facts:
        """The same facts with what can be derived or has changed since: children, credentials, the wanted digest."""
        name, spec = facts.meta.name, facts.spec()
        space = namespace_of(name)
        workload = self._live.child(name, Ref(DEPLOYMENTS.group_kind, space, names.WORKLOAD))
        facts = replace(
            facts,
            namespace=self._live.child(name, Ref(NAMESPACES.group_kind, "", space)),
            children=tuple(self._live.children(name)),
            workload=workload.workload if workload else None,
        )
        if not isinstance(spec, ResolvedSpec):
            return facts
        wanted = {upstream.credentials_secret for upstream in spec.upstreams}
        found = [self._live.credentials[secret] for secret in wanted if secret in self._live.credentials]
        facts = replace(facts, credentials={each.name: (each.uid, each.version) for each in found if each.usable})
        if facts.keys is None or {key.name for key in facts.keys} != {key.name for key in spec.keys}:
            return replace(facts, keys=None, digest=None)
        return replace(facts, digest=self._digest(facts, spec))

    def _digest(self, facts: Facts, spec: ResolvedSpec) -> str:
        chart_digest = self._renderer.digest(self._values(facts, spec))
        return desired.digest(chart_digest, facts.credentials, retain=retains(facts, None), uid=facts.meta.uid)

    def _values(self, facts: Facts, spec: ResolvedSpec) -> dict[str, object]:
        document = desired.policy(facts.meta.name, facts.meta.generation, spec, facts.keys or ())
        return desired.values(facts.meta.name, spec, document, self._platform)

    # Steps: each leads out of one state

    async def _announce(self, facts: Facts) -> Facts:
        """The first condition of all, so that nobody takes a Tenant without conditions for a finished one (kstatus)."""
        record = await self._report(facts, Assessment(state=State.UNSEEN, reason=Reason.PROGRESSING))
        # A Tenant that has changed meanwhile keeps the old version here, which the next step's test will refuse.
        same = record.meta.generation == facts.meta.generation
        return replace(facts, status=record.status, meta=record.meta if same else facts.meta)

    async def _prepare(self, facts: Facts) -> Facts:
        raw = await self._client.json_patch(
            TENANTS, facts.meta.name, applyset.preparation(facts.meta), into=dict[str, object]
        )
        # The patch tested the resourceVersion, so the answer is what we had read, plus the patch.
        return replace(facts, meta=self._taken(raw).meta)

    async def _claim(self, facts: Facts) -> Facts:
        fresh, found = await namespaces.claim(self._client, facts.meta.name, facts.meta.uid, self._platform)
        for each in found:
            self._live.put_child(each)
        if facts.status.applied is not None:
            await self._note_drift(facts)
        return self._refreshed(replace(facts, fresh=fresh, keys=None if fresh else facts.keys))

    async def _issue(self, facts: Facts) -> Facts:
        spec = facts.spec()
        assert isinstance(spec, ResolvedSpec)
        wanted = [key.name for key in spec.keys]
        issued = await keys.ensure(self._client, facts.meta.name, wanted, fresh=facts.fresh)
        self._keys[facts.meta.name] = issued
        return self._refreshed(replace(facts, keys=issued))

    async def _put_back(self, facts: Facts) -> Facts:
        # Somebody who edits objects may have edited a key, too: read the keys again before applying.
        facts = await self._apply(await self._issue(facts))
        await self._note_drift(facts)
        return facts

    async def _note_drift(self, facts: Facts) -> None:
        metrics.DRIFT.inc()
        log.warning("drift put back")
        note = "Managed objects had been edited or deleted and were put back"
        await self._record(facts, Reason.DRIFT_CORRECTED.value, note, warning=True)

    async def _apply(self, facts: Facts) -> Facts:
        """Render, apply in order, prune, refresh running pods; only then is the digest noted.

        Killed anywhere in between: the digest in the status is still the old one, so all of it is done again.
        """
        name, spec, had_pods = facts.meta.name, facts.spec(), facts.workload is not None
        assert isinstance(spec, ResolvedSpec)
        assert facts.digest is not None
        values = self._values(facts, spec)
        members = await self._members(facts, spec, values)
        # What ``_claim`` has applied a moment ago need not be applied again.
        done = [each for each in facts.children if facts.fresh and each.ref.name == names.OPERATOR_BINDING]
        tied = applyset.ApplySet(self._client, name, facts.children, fresh=facts.fresh)
        applied = done + await tied.apply([each for each in members if each.ref not in {child.ref for child in done}])
        for each in applied:
            if each.ref.group_kind != SECRETS.group_kind:
                self._live.put_child(each)
        for each in await tied.prune(applied, keys={names.key_secret(key.name) for key in spec.keys}):
            self._live.drop_child(name, each.ref, each.uid)
        if had_pods:
            document = desired.policy(name, facts.meta.generation, spec, facts.keys or ())
            annotations = desired.pod_annotations(document, facts.credentials)
            await pods.refresh(self._client, namespace_of(name), name, annotations)
        log.info("applied", extra={"digest": facts.digest})
        # From the answers to our own writes: what somebody else has changed since then must not become the measure.
        status = plan_status.applied(
            facts.status, facts.digest, self._renderer.chart, fingerprint(applied), self._now()
        )
        return replace(self._refreshed(facts), status=status)

    async def _members(self, facts: Facts, spec: ResolvedSpec, values: Mapping[str, object]) -> list[applyset.Member]:
        name = facts.meta.name
        try:
            rendered = await self._renderer.render(name, namespace_of(name), values)
        except RenderError as error:
            raise Failure(Reason.RENDER_FAILED, str(error)) from error
        marked = [
            objects.owned_namespace(each, name, facts.meta.uid, retain=retains(facts, None))
            if each.get("kind") == NAMESPACES.kind
            else each
            for each in rendered
        ]
        copies = await keys.credential_copies(self._client, name, spec.upstreams, self._platform.namespace)
        binding = objects.operator_binding(name, self._platform)
        return applyset.members(name, [*marked, binding, *copies])

    # Deletion

    async def _delete(self, facts: Facts, assessment: Assessment) -> float | None:
        """Let the pods end, take the namespace away (or let go of it), wait until it is gone, let go of the Tenant.

        Killed anywhere: the finalizer is still there, and the next run reads from the API server how far it got.
        A Tenant that is suspended or whose tier is gone is deleted all the same.
        """
        name = facts.meta.name
        if FINALIZER not in facts.meta.finalizers:
            return None
        namespace = await namespaces.find_own(self._client, name, facts.meta.uid)
        if namespace is not None:
            if retains(facts, namespace.metadata.annotations.get(names.DELETION_POLICY)):
                await namespaces.release(self._client, namespace)
            else:
                await self._report(facts, assessment)
                deployment = self._live.child(name, Ref(DEPLOYMENTS.group_kind, namespace_of(name), names.WORKLOAD))
                going = namespace.metadata.deletion_timestamp is not None
                if going or deployment is None or not await namespaces.drain(self._client, deployment):
                    await namespaces.remove(self._client, namespace)
                return assessment.requeue
        self._keys.pop(name, None)
        index = facts.meta.finalizers.index(FINALIZER)
        path = f"/metadata/finalizers/{index}"
        release = [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]
        try:
            raw = await self._client.json_patch(TENANTS, name, release, into=dict[str, object])
            self._taken(raw)
        except errors.NotFound:
            pass
        log.info("released")
        return None

    # The status

    async def _report(self, facts: Facts, assessment: Assessment) -> TenantRecord:
        """Write the status if it differs from what the API server has, and an Event for each turn that it took.

        Gives the Tenant with the status as it is now.
        """
        record = self._live.tenants.get(facts.meta.name) or TenantRecord(facts.meta, facts.status, facts.tenant)
        status = plan_status.report(facts, assessment, self._platform, self._now())
        if status == record.status:
            return record
        body = {
            "apiVersion": API_VERSION,
            "kind": TENANTS.kind,
            "metadata": {"name": facts.meta.name, "uid": facts.meta.uid},
            "status": msgspec.to_builtins(status),
        }
        try:
            raw = await self._client.apply(TENANTS, facts.meta.name, body, subresource="status", into=dict[str, object])
        except errors.NotFound:
            return record  # deleted meanwhile; nobody is left to tell
        fresh = self._taken(raw)
        self._measure(record, status)
        for condition in plan_status.turned(record.status, status):
            note = condition.message or condition.reason
            await self._record(facts, condition.reason, note, warning=condition.type != ConditionType.READY)
        return fresh

    def _measure(self, before: TenantRecord, after: TenantStatus) -> None:
        created = before.meta.creation_timestamp
        if created is not None and plan_status.first_ready(before.status, after):
            metrics.READY_SECONDS.observe((self._now() - created).total_seconds())

    def _taken(self, raw: dict[str, object]) -> TenantRecord:
        record = read_tenant(raw)
        self._live.put_tenant(record)
        return record

    async def _record(self, facts: Facts, reason: str, note: str, *, warning: bool) -> None:
        subject = Subject(TENANTS, facts.meta.name, facts.meta.uid)
        await self._recorder.record(subject, reason=reason, note=note, action="Reconcile", warning=warning)


def _moved(before: ObjectMeta, after: ObjectMeta) -> bool:
    return (before.uid, before.generation, before.deletion_timestamp, before.labels, before.annotations) != (
        after.uid,
        after.generation,
        after.deletion_timestamp,
        after.labels,
        after.annotations,
    )


def _hiccup(error: errors.KubeError, attempt: int) -> Failure:
    given_up = attempt >= GIVEN_UP
    if isinstance(error, errors.Forbidden):
        return Failure(Reason.APPLY_FORBIDDEN, f"after {attempt} attempts: {error}")
    reason = Reason.RETRIES_EXCEEDED if given_up else Reason.PROGRESSING_WITH_RETRY
    return Failure(reason, f"after {attempt} attempts: {error}", stalled=given_up)
