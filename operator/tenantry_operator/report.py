"""What people get to see of a reconcile: the Tenant's status, Events for its transitions, and the time to Ready."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec.structs import replace

from tenantry_operator import metrics
from tenantry_operator.api.conditions import ConditionType, Reason
from tenantry_operator.api.decode import LiveTenant
from tenantry_operator.api.meta import API_VERSION
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import TenantStatus
from tenantry_operator.apply.kinds import TENANTS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder, Subject
from tenantry_operator.live import Live, TenantRecord, read_tenant
from tenantry_operator.plan import status as plan_status
from tenantry_operator.plan.desired import Platform
from tenantry_operator.plan.drift import told
from tenantry_operator.plan.facts import Assessment, Facts, State

log = logging.getLogger(__name__)

#: Seconds for which "on its way" is kept back. Pods take 1-3 s to turn Ready, and some ten in a cluster that starts a
#: thousand of them: then that is the one status written. Until then the default says that the Tenant is pending.
HOLD = 10.0


@dataclass(frozen=True, slots=True)
class _Held:
    """A status that says what was applied, and since when (monotonic) it has not been written."""

    uid: str
    status: TenantStatus
    since: float


class Reporter:
    """The only writer of statuses."""

    def __init__(
        self,
        *,
        client: Client,
        live: Live,
        recorder: Recorder,
        platform: Platform,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._live, self._recorder = client, live, recorder
        self._platform, self._now, self._clock = platform, now, clock
        self._held: dict[str, _Held] = {}

    def recall(self, facts: Facts) -> Facts:
        """The same facts, with what was applied a moment ago and is not in the status yet.

        A process that dies meanwhile takes that with it: the next applies everything again, which changes nothing.
        """
        held = self._held.get(facts.meta.name)
        if held is None or held.uid != facts.meta.uid:
            return facts
        return replace(facts, status=replace(facts.status, applied=held.status.applied, history=held.status.history))

    def forget(self, name: str) -> None:
        """The Tenant is gone."""
        self._held.pop(name, None)

    def hold(self, facts: Facts, assessment: Assessment) -> float | None:
        """Seconds for which there is no need to report yet, because the tenant is on its way; None: report now."""
        name = facts.meta.name
        if assessment.state is not State.PROGRESSING or _protection_changes(facts):
            return None
        now = self._clock()
        held = self._held.get(name)
        since = held.since if held is not None and held.uid == facts.meta.uid else now
        if now - since >= HOLD:
            return None
        self._held[name] = _Held(facts.meta.uid, facts.status, since)
        return HOLD - (now - since)

    async def report(self, facts: Facts, assessment: Assessment) -> TenantRecord:
        """Write the status if it differs from what the API server has, and an Event for each turn that it took.

        Gives the Tenant with the status as it is now. Raises KubeError.
        """
        record = self._live.tenants.get(facts.meta.name) or TenantRecord(facts.meta, facts.status, facts.tenant)
        status = plan_status.report(facts, assessment, self._platform, self._now())
        if status == record.status:
            self.forget(facts.meta.name)
            return record
        body = {
            "apiVersion": API_VERSION,
            "kind": TENANTS.kind,
            "metadata": {"name": facts.meta.name, "uid": facts.meta.uid},
            "status": _said(msgspec.to_builtins(status)),
        }
        try:
            raw = await self._client.apply(TENANTS, facts.meta.name, body, subresource="status", into=LiveTenant)
        except errors.NotFound:
            return record  # deleted meanwhile; nobody is left to tell
        fresh = self.taken(raw)
        self.forget(facts.meta.name)
        self._measure(record, status)
        for condition in plan_status.turned(record.status, status):
            note = condition.message or condition.reason
            await self.record(facts, condition.reason, note, warning=condition.type != ConditionType.READY)
        return fresh

    async def drift(self, facts: Facts) -> None:
        """Count objects that were put back, and tell of all of them in one Event."""
        if facts.drifts:
            for each in facts.drifts:
                metrics.DRIFT.labels(each.kind).inc()
            note = told(facts.drifts)
            log.warning("drift put back", extra={"drift": note})
            await self.record(facts, Reason.DRIFT_CORRECTED.value, note, warning=True)

    async def record(self, facts: Facts, reason: str, note: str, *, warning: bool) -> None:
        """Write one Event about the Tenant."""
        subject = Subject(TENANTS, facts.meta.name, facts.meta.uid)
        await self._recorder.record(subject, reason=reason, note=note, action="Reconcile", warning=warning)

    def taken(self, raw: LiveTenant) -> TenantRecord:
        """A Tenant as the API server has just answered it; its watch event is then old news."""
        record = read_tenant(raw)
        self._live.take_answer(record)
        return record

    def _measure(self, before: TenantRecord, after: TenantStatus) -> None:
        created = before.meta.creation_timestamp
        if created is not None and plan_status.first_ready(before.status, after):
            metrics.READY_SECONDS.observe((self._now() - created).total_seconds())


def _protection_changes(facts: Facts) -> bool:
    # Read by the API server's admission: from the moment it is decided it must be in the status.
    return isinstance(facts.spec, ResolvedSpec) and facts.spec.deletion_protection != facts.status.deletion_protection


def _said(value: object) -> object:
    """Without what is None: the API server knows optional fields as absent, and refuses null."""
    if isinstance(value, dict):
        return {key: _said(each) for key, each in value.items() if each is not None}
    return [_said(each) for each in value] if isinstance(value, list | tuple) else value
