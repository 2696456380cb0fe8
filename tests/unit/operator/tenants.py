"""Tenants, tiers and facts for the tests of this folder."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import LiveTenant, decode_tenant, decode_tier
from tenantry_operator.api.meta import FINALIZER
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Tenant, TenantStatus
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.live import TenantRecord, read_tenant
from tenantry_operator.plan import names
from tenantry_operator.plan.assess import assess, resolved, set_fingerprint
from tenantry_operator.plan.desired import Platform, Wanted
from tenantry_operator.plan.facts import Assessment, Facts, State
from tenantry_operator.plan.keys import IssuedKey
from tenantry_operator.plan.observed import Child, Ref, Workload
from tenantry_operator.plan.status import applied, report

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
PLATFORM = Platform(namespace="tenantry-system", image_repository="tenantry", image_tag="1.0")
KEY = IssuedKey(name="default", id="abcdefghijkl", sha256="0" * 64)
DIGEST = "sha256:wanted"
SPACE = "tenant-acme"


def record(raw: Mapping[str, object]) -> TenantRecord:
    """A Tenant's JSON, as the watch reads it."""
    return read_tenant(msgspec.json.decode(msgspec.json.encode(raw), type=LiveTenant))


def tenant(**spec: object) -> Tenant:
    """A Tenant called acme."""
    return decode_tenant(
        {
            "metadata": {"name": "acme", "uid": UID, "generation": 3, "resourceVersion": "7"},
            "spec": {"tier": "standard", **spec},
        }
    )


def tier(**spec: object) -> TenantTier:
    """The tier standard, with one upstream unless told otherwise."""
    upstreams = [{"name": "sim", "baseURL": "http://simulator.tenantry-system.svc:8080/v1"}]
    return decode_tier({"metadata": {"name": "standard"}, "spec": {"upstreams": upstreams, **spec}})


def child(kind: str, name: str, **facts: object) -> Child:
    """A managed object of acme."""
    ref = Ref(kind, "" if kind == "Namespace" else SPACE, name)
    plain = Child(ref=ref, uid=f"{kind}-{name}", version=10, tenant="acme", set_id=names.set_id("acme"), fields="f")
    return replace(plain, **facts)


def _wanted() -> Wanted:
    spec = resolved(tenant(), tier())
    assert isinstance(spec, ResolvedSpec)
    return Wanted(spec=spec, values={}, digest=DIGEST)


WANTED = _wanted()


def workload(**facts: object) -> Workload:
    """A Deployment with its one pod available, unless told otherwise."""
    healthy = Workload(current=True, wanted=1, total=1, updated=1, ready=1, available=1)
    return replace(healthy, **facts)


def new_facts(**facts: object) -> Facts:
    """A Tenant that nobody has looked at yet."""
    made, standard = tenant(), tier()
    spec = resolved(made, standard)
    return told(
        Facts(now=NOW, meta=made.metadata, status=TenantStatus(), tenant=made, tier=standard, spec=spec), **facts
    )


def told(seen: Facts, **facts: object) -> Facts:
    """These facts with others in their place; what holds for the tenant follows."""
    changed = replace(seen, **facts)
    return changed if "spec" in facts else replace(changed, spec=resolved(changed.tenant, changed.tier))


def settled(**facts: object) -> Facts:
    """A Tenant that is Ready and at rest, except for what is told."""
    seen = new_facts()
    bookkeeping = {names.SET_GROUP_KINDS: ",".join(GROUP_KINDS), names.SET_TOOLING: names.TOOLING}
    meta = replace(
        seen.meta,
        finalizers=(FINALIZER,),
        labels={names.SET_ID: names.set_id("acme")},
        annotations=bookkeeping,
    )
    namespace = child("Namespace", SPACE, tenant_uid=UID)
    deployment = child("Deployment.apps", names.WORKLOAD, workload=workload())
    binding = child("RoleBinding.rbac.authorization.k8s.io", names.OPERATOR_BINDING)
    seen = replace(
        seen,
        meta=meta,
        namespace=namespace,
        children=(namespace, binding, deployment),
        workload=deployment.workload,
        keys=(KEY,),
        wanted=WANTED,
    )
    begun = report(seen, Assessment(state=State.PROGRESSING, reason=Reason.PROGRESSING), PLATFORM, NOW)
    seen = replace(seen, status=applied(begun, DIGEST, "tenant-0.1.0", set_fingerprint(seen), NOW))
    seen = replace(seen, status=report(seen, assess(seen, GROUP_KINDS), PLATFORM, NOW))
    return told(seen, **facts)
