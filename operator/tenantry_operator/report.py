"""What people get to see of a reconcile: the Tenant's status, Events for its transitions, and the time to Ready."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from tenantry_operator import metrics
from tenantry_operator.api.conditions import ConditionType, Reason
from tenantry_operator.api.meta import API_VERSION
from tenantry_operator.api.tenant import TenantStatus
from tenantry_operator.apply.kinds import TENANTS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder, Subject
from tenantry_operator.live import Live, TenantRecord, read_tenant
from tenantry_operator.plan import status as plan_status
from tenantry_operator.plan.assess import Assessment, Facts
from tenantry_operator.plan.desired import Platform


class Reporter:
    """The only writer of statuses."""

    def __init__(
        self, *, client: Client, live: Live, recorder: Recorder, platform: Platform, now: Callable[[], datetime]
    ) -> None:
        self._client, self._live, self._recorder = client, live, recorder
        self._platform, self._now = platform, now

    async def report(self, facts: Facts, assessment: Assessment) -> TenantRecord:
        """Write the status if it differs from what the API server has, and an Event for each turn that it took.

        Gives the Tenant with the status as it is now. Raises KubeError.
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
        fresh = self.taken(raw)
        self._measure(record, status)
        for condition in plan_status.turned(record.status, status):
            note = condition.message or condition.reason
            await self.record(facts, condition.reason, note, warning=condition.type != ConditionType.READY)
        return fresh

    async def drift(self, facts: Facts) -> None:
        """Count and tell of objects that were put back."""
        metrics.DRIFT.inc()
        note = "Managed objects had been edited or deleted and were put back"
        await self.record(facts, Reason.DRIFT_CORRECTED.value, note, warning=True)

    async def record(self, facts: Facts, reason: str, note: str, *, warning: bool) -> None:
        """Write one Event about the Tenant."""
        subject = Subject(TENANTS, facts.meta.name, facts.meta.uid)
        await self._recorder.record(subject, reason=reason, note=note, action="Reconcile", warning=warning)

    def taken(self, raw: dict[str, object]) -> TenantRecord:
        """A Tenant as the API server has just answered it; its watch event is then old news."""
        record = read_tenant(raw)
        self._live.put_tenant(record)
        return record

    def _measure(self, before: TenantRecord, after: TenantStatus) -> None:
        created = before.meta.creation_timestamp
        if created is not None and plan_status.first_ready(before.status, after):
            metrics.READY_SECONDS.observe((self._now() - created).total_seconds())
