"""What every command works with: the API, the platform's namespace, the time; and Tenants by name."""

import difflib
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import Struct
from tenantry_operator.api.decode import FieldError, decode_tenant, decode_tier
from tenantry_operator.api.meta import API_VERSION, namespace_of
from tenantry_operator.api.resolve import ResolvedSpec, resolve
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.kube import errors

from tenantry_kubectl.api import Api
from tenantry_kubectl.seen import ManagedList, Meta

TENANTS = f"/apis/{API_VERSION}/tenants"
TIERS = f"/apis/{API_VERSION}/tenanttiers"


class Problem(Exception):  # noqa: N818  (it is the user's to solve, not a program's error)
    """A command cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class Session:
    """One run of the plugin."""

    api: Api
    #: Where the platform is installed: revisions of tiers are there.
    system: str
    now: datetime

    def raw(self, name: str) -> dict[str, object]:
        """A Tenant's JSON. Raises Problem when there is none of that name."""
        found = self.api.find(f"{TENANTS}/{name}", dict[str, object])
        if found is None:
            raise Problem(self._nobody(name))
        return found

    def tenant(self, name: str) -> Tenant:
        """A Tenant. Raises Problem."""
        return decoded(self.raw(name))

    def tier(self, name: str) -> TenantTier:
        """A TenantTier. Raises Problem."""
        found = self.api.find(f"{TIERS}/{name}", dict[str, object])
        if found is None:
            raise Problem(f"there is no tier {name!r}; `kubectl get tenanttiers` lists what there is")
        try:
            return decode_tier(found)
        except FieldError as error:
            raise Problem(f"tier {name!r} cannot be read: {error}") from error

    def tenants(self, selector: str = "") -> list[Tenant]:
        """All Tenants that can be read."""
        query = {"labelSelector": selector} if selector else {}
        listed = self.api.get(TENANTS, _Raws, **query).items
        return [decoded(each) for each in listed]

    def resolved(self, tenant: Tenant) -> ResolvedSpec:
        """What holds for a Tenant with its tier's defaults. Raises Problem."""
        try:
            return resolve(tenant, self.tier(tenant.spec.tier))
        except FieldError as error:
            raise Problem(f"Tenant {tenant.metadata.name!r}: {error}") from error

    def change(self, tenant: Tenant, spec: dict[str, object]) -> Tenant:
        """Change fields of the spec, if nobody else has changed the Tenant meanwhile. Raises Problem."""
        name = tenant.metadata.name
        body = {"metadata": {"resourceVersion": tenant.metadata.resource_version}, "spec": spec}
        try:
            return decoded(self.api.patch(f"{TENANTS}/{name}", body, dict[str, object]))
        except errors.Conflict as error:
            raise Problem(f"Tenant {name!r} was changed by somebody else just now; run the command again") from error
        except errors.Invalid as error:
            raise Problem(f"the API server refuses the change: {error.message}") from error

    def _nobody(self, name: str) -> str:
        try:
            known = [each.metadata.name for each in self.api.get(TENANTS, ManagedList).items]
        except errors.Forbidden:
            known = []
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {close[0]!r}?" if close else "`kubectl tenant list` shows which there are"
        return f"there is no Tenant {name!r}; {meant}"


class _Raws(Struct, frozen=True):
    items: list[dict[str, object]]


def decoded(raw: dict[str, object]) -> Tenant:
    """A Tenant from its JSON. Raises Problem for one that a schema of another version let through."""
    try:
        return decode_tenant(raw)
    except FieldError as error:
        raise Problem(f"a Tenant cannot be read: {error}; is this plugin as new as the platform?") from error


def in_namespace(tenant: str, plural: str, name: str = "", group: str = "") -> str:
    """The path of a tenant's objects, or of one of them; ``group`` with its version, such as ``apps/v1``."""
    root = f"/apis/{group}" if group else "/api/v1"
    tail = f"/{name}" if name else ""
    return f"{root}/namespaces/{namespace_of(tenant)}/{plural}{tail}"


def other_manager(raw: dict[str, object], path: str) -> str | None:
    """Who applies this field of the spec, if a tool does: what is changed here comes back with its next run."""
    meta = msgspec.json.decode(msgspec.json.encode(raw.get("metadata", {})), type=Meta)
    for entry in meta.managed_fields:
        if entry.operation != "Apply" or entry.subresource:
            continue
        fields = msgspec.json.decode(entry.fields_v1, type=dict[str, object])
        for step in ("f:spec", f"f:{path}"):
            inner = fields.get(step)
            if not isinstance(inner, dict):
                break
            fields = inner
        else:
            return entry.manager
    return None
