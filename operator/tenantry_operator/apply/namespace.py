"""A tenant's namespace: claimed with a create-only POST, deleted only by its uid, never taken over unasked."""

import contextlib
import logging

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES, ROLE_BINDINGS
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.assess import TERMINATING_POLL, Failure
from tenantry_operator.plan.desired import Platform
from tenantry_operator.plan.observed import Child, LiveObject, child

log = logging.getLogger(__name__)


async def claim(client: Client, tenant: str, uid: str, platform: Platform) -> tuple[bool, list[Child]]:
    """Make the namespace ours, and ourselves able to work in it; whether it is new, and what is there now. Idempotent.

    1. POST the Namespace with the Tenant's uid on it. If the name is taken, look whose it is.
    2. Apply the RoleBinding that gives the operator its rights there.

    Killed after 1: the next run finds a namespace with this Tenant's uid and goes on. Two operators at once: one
    POST wins, the other finds a namespace with the same uid, and both apply the same RoleBinding.
    Raises Failure for a namespace that is somebody else's or is being deleted.
    """
    created = True
    try:
        body = objects.namespace_claim(tenant, uid)
        namespace = await client.create(NAMESPACES, body, into=LiveObject)
        log.info("namespace created", extra={"namespace": namespace.metadata.name})
    except errors.AlreadyExists:
        created = False
        namespace = await client.get(NAMESPACES, namespace_of(tenant), into=LiveObject)
        namespace = await _reclaimed(client, namespace, tenant, uid)
    binding = await client.apply(
        ROLE_BINDINGS,
        names.OPERATOR_BINDING,
        objects.operator_binding(tenant, platform),
        namespace=namespace_of(tenant),
        into=LiveObject,
    )
    return created, [child(NAMESPACES.group_kind, namespace), child(ROLE_BINDINGS.group_kind, binding)]


async def _reclaimed(client: Client, namespace: LiveObject, tenant: str, uid: str) -> LiveObject:
    """The namespace with its marks, put back where somebody took them; its owner's uid proves that it is ours."""
    meta = namespace.metadata
    if meta.deletion_timestamp is not None:
        raise terminating(meta.name)
    if meta.annotations.get(names.TENANT_UID) != uid and uid not in {owner.uid for owner in meta.owner_references}:
        raise Failure(
            Reason.NAMESPACE_CONFLICT,
            f"namespace {meta.name} exists and was not made for this Tenant; it is left alone."
            f" Delete it, give the Tenant another name, or have it taken over: kubectl annotate namespace {meta.name}"
            f" {names.ADOPT}=true",
        )
    if names.labels(tenant).items() <= meta.labels.items() and meta.annotations.get(names.TENANT_UID) == uid:
        return namespace
    marks = {"labels": names.labels(tenant), "annotations": {names.TENANT_UID: uid}, "uid": meta.uid}
    return await client.merge_patch(NAMESPACES, meta.name, {"metadata": marks}, into=LiveObject)


def terminating(namespace: str) -> Failure:
    """What a namespace on its way out means: wait, it is no error."""
    message = f"namespace {namespace} is being deleted; it is made anew once it is gone"
    return Failure(Reason.NAMESPACE_TERMINATING, message, stalled=False, requeue=TERMINATING_POLL)


async def adopt(client: Client, tenant: str, uid: str) -> bool:
    """Make a namespace ours that was not made for this Tenant, if it says that it may be; whether that was so.

    The consent is used up in the same write, which holds only for the version that gave it. Raises KubeError.
    """
    namespace = await client.find(NAMESPACES, namespace_of(tenant), into=LiveObject)
    meta = namespace.metadata if namespace is not None else None
    if meta is None or meta.deletion_timestamp is not None or meta.annotations.get(names.ADOPT) != "true":
        return False
    marks = {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "labels": names.labels(tenant),
        "annotations": {names.TENANT_UID: uid, names.ADOPT: None},
    }
    await client.merge_patch(NAMESPACES, meta.name, {"metadata": marks}, into=Nothing)
    log.info("namespace adopted", extra={"namespace": meta.name})
    return True


async def find_own(client: Client, tenant: str, uid: str) -> LiveObject | None:
    """The tenant's namespace, read from the API server itself (a cache might be behind); None when it is not ours."""
    namespace = await client.find(NAMESPACES, namespace_of(tenant), into=LiveObject)
    if namespace is None:
        return None
    meta = namespace.metadata
    ours = meta.annotations.get(names.TENANT_UID) == uid or uid in {owner.uid for owner in meta.owner_references}
    return namespace if ours else None


async def drain(client: Client, deployment: Child) -> bool:
    """Delete the Deployment; it stays visible until its last pod has ended. False when it is gone already.

    Pods go before the namespace does, for two reasons: fences and policy stand until the last stream has ended; and
    the namespace controller, when it finds pods, does not look again for half of their grace period (61 s for ours).
    """
    where = deployment.ref
    try:
        await client.delete(
            DEPLOYMENTS, where.name, namespace=where.namespace, uid=deployment.uid, dependants_first=True
        )
    except (errors.NotFound, errors.Conflict):
        return False
    return True


async def remove(client: Client, namespace: LiveObject) -> None:
    """Delete the namespace and everything in it, if it is still the one that we looked at."""
    if namespace.metadata.deletion_timestamp is None:
        try:
            await client.delete(NAMESPACES, namespace.metadata.name, uid=namespace.metadata.uid)
        except (errors.NotFound, errors.Conflict):
            return  # gone, or another one by now: the next look will tell
        log.info("namespace deleted", extra={"namespace": namespace.metadata.name})


async def release(client: Client, namespace: LiveObject) -> None:
    """Leave the namespace and everything in it as it is, without a tie to us. Idempotent.

    Without the tenant label it is in nobody's watch, and without the uid no later Tenant takes it for its own.
    """
    with contextlib.suppress(errors.NotFound):
        await client.delete(ROLE_BINDINGS, names.OPERATOR_BINDING, namespace=namespace.metadata.name)
    metadata: dict[str, object] = {
        "uid": namespace.metadata.uid,
        "ownerReferences": None,
        "annotations": {names.TENANT_UID: None, names.DELETION_POLICY: None, names.ADOPT: None},
        "labels": {names.MANAGED_BY: None, names.TENANT_LABEL: None, names.PART_OF: None},
    }
    try:
        await client.merge_patch(NAMESPACES, namespace.metadata.name, {"metadata": metadata}, into=Nothing)
    except errors.NotFound:
        return
    log.info("namespace retained", extra={"namespace": namespace.metadata.name})
