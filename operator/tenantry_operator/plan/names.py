"""Names, labels and annotations that the operator puts on objects, in one place.

ApplySet keys are those of KEP-3659 as kubectl spells them
(https://kubernetes.io/docs/reference/labels-annotations-taints/#applyset-kubernetes-io-part-of).
"""

import base64
import hashlib

from tenantry_operator.api.meta import API_VERSION, GROUP

FIELD_MANAGER = "tenantry-operator"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER_VALUE = "tenantry"
TENANT_LABEL = f"{GROUP}/tenant"
TIER_LABEL = f"{GROUP}/tier"
CREDENTIALS_LABEL = f"{GROUP}/upstream-credentials"

#: On a tenant's Namespace: the uid of the Tenant that made it. This, not a label, says whose it is.
TENANT_UID = f"{GROUP}/tenant-uid"
#: On a tenant's Namespace: what deleting the Tenant does to it, for when tier or spec cannot be read then.
DELETION_POLICY = f"{GROUP}/deletion-policy"
#: On a Namespace that a Tenant shall take over though it did not make it: "true". Used up by that.
ADOPT = f"{GROUP}/adopt"
#: On a key's Secret: rotation, end and former keys, by digest (plan/keys.py).
KEY_NOTE = f"{GROUP}/key"
#: On a tenant's pods: whether the Deployment counts them, and whether the Service sends requests to them.
POOL_LABEL, ACTIVE = f"{GROUP}/pool", "active"
SERVE_LABEL, SERVING = f"{GROUP}/serve", "yes"
#: On a tenant's Deployment: when pods were last asked for again that the quota had refused (plan/refused.py).
ASKED_AGAIN = f"{GROUP}/pods-asked-again"
#: Which pods go first when there are to be fewer: those with the lowest.
#: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
#: On a running pod: a change makes the kubelet refresh the pod's volumes at once instead of within a minute.
POLICY_REVISION = f"{GROUP}/policy-revision"
CREDENTIALS_REVISION = f"{GROUP}/credentials-revision"
#: How the annotations of a pod that is handed over begin (interruption/names.py).
HANDOVER_PREFIX = f"{GROUP}/handover"

PART_OF = "applyset.kubernetes.io/part-of"
SET_ID = "applyset.kubernetes.io/id"
SET_TOOLING = "applyset.kubernetes.io/tooling"
SET_GROUP_KINDS = "applyset.kubernetes.io/contains-group-kinds"
TOOLING = "tenantry/v1alpha1"

#: The Deployment, Service, HPA and PDB of a tenant are all called this.
WORKLOAD = "api"
#: The ResourceQuota of a tenant's namespace.
QUOTA = "tenant"
#: What it counts so that its status tells when a Secret has gone.
COUNTED_SECRETS = "count/secrets"
#: The RoleBinding that gives the operator its rights inside a tenant namespace.
OPERATOR_BINDING = "tenantry-operator"

#: The Service whose one endpoint is the operator that leads, and the slice in which that says where it is.
LEADER_SERVICE = "tenantry-leader"
#: The Secret with the operator's serving certificate and the activator's token, and until when the former is good.
INTERNAL_SECRET = "tenantry-internal"  # noqa: S105 - a name
NOT_AFTER = f"{GROUP}/not-after"
#: Who writes an EndpointSlice, in its label; controllers leave those of others alone.
SLICE_MANAGER = "tenantry.dev"
#: The slice by which a tenant's Service leads to the activator.
ACTIVATOR_SLICE = "api-activator"

#: Selects what belongs to any tenant; what the operator watches.
MANAGED_SELECTOR = f"{MANAGED_BY}={MANAGER_VALUE},{TENANT_LABEL}"
CREDENTIALS_SELECTOR = f"{CREDENTIALS_LABEL}=true"

#: The Secret of a tenant with the URL of the shared counters, the field that holds it, and the Secret of the platform
#: that the passwords are made from.
REDIS_SECRET = "redis"  # noqa: S105 - a name
REDIS_FIELD = "url"
REDIS_SEED = "tenantry-redis-seed"

#: The key under which key Secrets and credential Secrets hold their one value.
SECRET_FIELD = "api-key"  # noqa: S105 - the name of a field


def set_id(tenant: str) -> str:
    """The ApplySet id of a Tenant: ``applyset-<base64url(sha256(name.namespace.kind.group))>-v1``."""
    subject = f"{tenant}..Tenant.{API_VERSION.partition('/')[0]}"
    digest = hashlib.sha256(subject.encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def labels(tenant: str) -> dict[str, str]:
    """What every object of a tenant carries."""
    return {MANAGED_BY: MANAGER_VALUE, TENANT_LABEL: tenant, PART_OF: set_id(tenant)}


def key_secret(key: str) -> str:
    """The Secret that holds an API key."""
    return f"key-{key}"


def upstream_secret(upstream: str) -> str:
    """The Secret in the tenant's namespace that holds a copy of an upstream's credentials."""
    return f"upstream-{upstream}"
