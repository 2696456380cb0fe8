"""Objects that the operator makes itself, beside those of the chart."""

import base64
from collections.abc import Mapping

from tenantry_operator.api.meta import API_VERSION, namespace_of
from tenantry_operator.api.settings import DeletionPolicy
from tenantry_operator.plan import names
from tenantry_operator.plan.desired import Platform

Object = dict[str, object]

PRODUCT = {"app.kubernetes.io/name": "tenantry-api", "app.kubernetes.io/part-of": "tenantry"}
#: Pod Security Standard "restricted" as of the oldest release that we support, whatever the API server's newest rules
#: are: an upgrade of the cluster must not refuse the pods of a tenant (https://kubernetes.io/docs/concepts/security/pod-security-admission/).
POD_SECURITY = {
    f"pod-security.kubernetes.io/{mode}{suffix}": value
    for mode in ("enforce", "audit", "warn")
    for suffix, value in (("", "restricted"), ("-version", "v1.30"))
}


def namespace(tenant: str, uid: str, *, retain: bool) -> Object:
    """The Namespace, complete from the start, because it comes before everything that the chart is rendered from.

    With ``deletionPolicy: Delete`` it has an ownerReference, so that garbage collection removes it even when
    the Tenant vanishes while no operator runs; with ``Retain`` it must not have one.
    """
    policy = DeletionPolicy.RETAIN if retain else DeletionPolicy.DELETE
    metadata: Object = {
        "name": namespace_of(tenant),
        "labels": {**PRODUCT, **POD_SECURITY, **names.labels(tenant)},
        "annotations": {names.TENANT_UID: uid, names.DELETION_POLICY: policy.value},
    }
    if not retain:
        metadata["ownerReferences"] = [{"apiVersion": API_VERSION, "kind": "Tenant", "name": tenant, "uid": uid}]
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def operator_binding(tenant: str, platform: Platform) -> Object:
    """Gives the operator its rights inside the tenant's namespace; it has none on Secrets or pods elsewhere."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": names.OPERATOR_BINDING,
            "namespace": namespace_of(tenant),
            "labels": names.labels(tenant),
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": platform.tenant_role},
        "subjects": [
            {"kind": "ServiceAccount", "name": platform.service_account, "namespace": platform.namespace},
        ],
    }


def key_secret(tenant: str, name: str, value: str, note: str) -> Object:
    """The Secret of an API key, with the note of its life beside it."""
    bare = _secret(tenant, names.key_secret(name))
    metadata = {**_mapping(bare, "metadata"), "annotations": {names.KEY_NOTE: note}}
    return {**bare, "metadata": metadata, "stringData": {names.SECRET_FIELD: value}}


def key_change(uid: str, resource_version: str, note: str, value: str | None = None) -> Object:
    """A merge patch of such a Secret: only of the very one that was read, key and note at once."""
    metadata = {"uid": uid, "resourceVersion": resource_version, "annotations": {names.KEY_NOTE: note}}
    change: Object = {"metadata": metadata}
    return change if value is None else {**change, "stringData": {names.SECRET_FIELD: value}}


def secret_copy(tenant: str, name: str, encoded: str) -> Object:
    """The same with a value that is Base64 already, whatever bytes it stands for."""
    return {**_secret(tenant, name), "data": {names.SECRET_FIELD: encoded}}


def store_secret(tenant: str, url: str) -> Object:
    """The Secret that the tenant's pods reach the shared counters by."""
    encoded = base64.b64encode(url.encode()).decode()
    return {**_secret(tenant, names.REDIS_SECRET), "data": {names.REDIS_FIELD: encoded}}


def _secret(tenant: str, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": name, "namespace": namespace_of(tenant), "labels": names.labels(tenant)},
    }


def member(rendered: Mapping[str, object], tenant: str, *, namespaced: bool) -> Object:
    """A rendered object as a member of the tenant's set: labelled, and in the tenant's namespace if it has one."""
    metadata = dict(_mapping(rendered, "metadata"))
    metadata["labels"] = {**_mapping(metadata, "labels"), **names.labels(tenant)}
    if namespaced:
        metadata.setdefault("namespace", namespace_of(tenant))
    return {**rendered, "metadata": metadata}


def _mapping(parent: Mapping[str, object], key: str) -> dict[str, object]:
    value = parent.get(key)
    return dict(value) if isinstance(value, Mapping) else {}
