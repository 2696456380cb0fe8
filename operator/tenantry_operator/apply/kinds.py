"""Our own kinds, the kinds that make up a tenant, and the order in which they are applied.

A kind outside this table is refused instead of applied, because it would be neither watched nor pruned.
"""

from enum import IntEnum

from tenantry_operator.api.meta import GROUP, VERSION
from tenantry_operator.kube import resources as kube
from tenantry_operator.kube.resources import Resource

TENANTS = Resource(GROUP, VERSION, "tenants", "Tenant", namespaced=False)
TIERS = Resource(GROUP, VERSION, "tenanttiers", "TenantTier", namespaced=False)


class Stage(IntEnum):
    """Objects of one stage are applied side by side, after those of the stages before it.

    Fences come before what they fence in: no pod may exist before its NetworkPolicy, quota and limits do. Secrets come
    before the quota, because that counts what is there when it is made: one made at the same moment may be left out of
    the count, and would not be missed when it goes.
    """

    NAMESPACE = 0
    SECRETS = 1
    FENCES = 2
    REST = 3


STAGES: dict[Resource, Stage] = {
    kube.NAMESPACES: Stage.NAMESPACE,
    kube.NETWORK_POLICIES: Stage.FENCES,
    kube.RESOURCE_QUOTAS: Stage.FENCES,
    kube.LIMIT_RANGES: Stage.FENCES,
    kube.ROLES: Stage.FENCES,
    kube.ROLE_BINDINGS: Stage.FENCES,
    kube.SERVICE_ACCOUNTS: Stage.FENCES,
    kube.SECRETS: Stage.SECRETS,
    kube.CONFIG_MAPS: Stage.FENCES,
    kube.DEPLOYMENTS: Stage.REST,
    kube.SERVICES: Stage.REST,
    kube.HORIZONTAL_POD_AUTOSCALERS: Stage.REST,
    kube.POD_DISRUPTION_BUDGETS: Stage.REST,
    kube.INGRESSES: Stage.REST,
    kube.HTTP_ROUTES: Stage.REST,
}

#: What keeps a tenant in its bounds: put back also while nothing else can be applied.
FENCES = frozenset(
    {
        kube.NAMESPACES,
        kube.NETWORK_POLICIES,
        kube.RESOURCE_QUOTAS,
        kube.LIMIT_RANGES,
        kube.ROLES,
        kube.ROLE_BINDINGS,
        kube.SERVICE_ACCOUNTS,
    }
)

#: Every kind that an object of a tenant may have.
MANAGED = tuple(STAGES)

#: The kinds that are watched across the cluster. Secrets are not: the operator may read them in single namespaces only.
WATCHED = tuple(resource for resource in MANAGED if resource is not kube.SECRETS)

#: Kinds that a cluster may lack, today or for good.
OPTIONAL = frozenset({kube.HTTP_ROUTES})

GROUP_KINDS = frozenset(resource.group_kind for resource in MANAGED)
BY_GROUP_KIND = {resource.group_kind: resource for resource in MANAGED}
BY_KIND = {(resource.api_version, resource.kind): resource for resource in MANAGED}
