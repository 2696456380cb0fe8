"""The operator's picture of a cluster, for tests of what is told of it."""

from msgspec.structs import replace
from tenantry_operator.api.conditions import Condition, ConditionStatus
from tenantry_operator.api.decode import decode_tier
from tenantry_operator.api.tenant import TenantStatus, Usage
from tenantry_operator.live import Live
from tenantry_operator.live import TenantRecord as Record

from tests.unit.operator.tenants import NOW, tenant


def record(name: str, *, ready: bool = True, spend: str | None = None, message: str = "", **spec: object) -> Record:
    """A Tenant as the operator knows it."""
    made = tenant(**spec)
    made = replace(made, metadata=replace(made.metadata, name=name))
    condition = Condition(
        type="Ready",
        status=ConditionStatus.TRUE if ready else ConditionStatus.FALSE,
        reason="Ready" if ready else "QuotaBlocked",
        message=message,
        last_transition_time=NOW,
    )
    usage = None if spend is None else Usage(spend=spend)
    status = TenantStatus(conditions=(condition,), replicas=2, ready_replicas=1, usage=usage)
    return Record(made.metadata, status, made)


def live(*records: Record) -> Live:
    """The operator's picture, with a tier that has a budget."""
    found = Live(tenants={each.meta.name: each for each in records})
    raw = {"metadata": {"name": "standard"}, "spec": {"budget": {"amount": "50"}, "autoscaling": {"maxReplicas": 7}}}
    found.tiers["standard"] = decode_tier(raw)
    return found
