"""A tenant's namespace: claimed with a create-only write, deleted only by its uid, never taken over unasked."""

import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES, ROLE_BINDINGS
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.drift import put_back
from tenantry_operator.plan.facts import TERMINATING_POLL, Failure
from tenantry_operator.plan.observed import Child, LiveMeta, LiveObject, child, own_fields

log = logging.getLogger(__name__)


#: A version that no object has: an apply with it creates the object, or is refused with a conflict when there is one.
NOT_THERE = "1"


class Claimed(NamedTuple):
    """What a claim has led to."""

    created: bool  # just now, by us
    children: tuple[Child, Child]  # the Namespace and the RoleBinding
    lost: tuple[str, ...]  # fields of a namespace of ours that somebody had changed and that were put back


async def claim(
    client: Client,
    tenant: str,
    uid: str,
    namespace: objects.Object,
    binding: objects.Object,
    *,
    taken: Callable[[Child], object] = lambda _: None,
) -> Claimed:
    """Make the namespace ours, and ourselves able to work in it. Idempotent. ``taken``: see ``ApplySet``.

    1. Create the Namespace, by an apply that is refused where one exists. In that case look whose it is.
    2. Apply the RoleBinding that gives the operator its rights there.

    Killed after 1: the next run finds a namespace with this Tenant's uid and goes on. Two operators at once: one
    creates it, the other finds a namespace with the same uid, and both apply the same RoleBinding.
    Raises Failure for a namespace that is somebody else's or is being deleted.
    """
    name, created = namespace_of(tenant), True
    lost: tuple[str, ...] = ()
    try:
        found = await client.apply(NAMESPACES, name, _only_new(namespace), force=False, into=LiveObject)
        log.info("namespace created", extra={"namespace": name})
    except errors.Conflict:
        created = False
        found = await client.get(NAMESPACES, name, into=LiveObject)
        if not _is_marked(_proven(found, uid), tenant, uid):
            # Somebody took our marks from it.
            before = own_fields(found.metadata)
            found = await client.apply(NAMESPACES, name, _same(namespace, found), force=True, into=LiveObject)
            lost = put_back(before, own_fields(found.metadata))
    space = child(NAMESPACES.group_kind, found)
    taken(space)
    bound = await client.apply(ROLE_BINDINGS, names.OPERATOR_BINDING, binding, namespace=name, into=LiveObject)
    right = child(ROLE_BINDINGS.group_kind, bound)
    taken(right)
    return Claimed(created, (space, right), lost)


def _only_new(namespace: objects.Object) -> objects.Object:
    return _with(namespace, "resourceVersion", NOT_THERE)


def _same(namespace: objects.Object, found: LiveObject) -> objects.Object:
    return _with(namespace, "uid", found.metadata.uid)


def _with(namespace: objects.Object, field: str, value: str) -> objects.Object:
    metadata = namespace["metadata"]
    assert isinstance(metadata, dict)
    return {**namespace, "metadata": {**metadata, field: value}}


def _proven(namespace: LiveObject, uid: str) -> LiveMeta:
    """The metadata of a namespace that is ours and stays; the Tenant's uid, in one place or the other, proves it."""
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
    return meta


def _is_marked(meta: LiveMeta, tenant: str, uid: str) -> bool:
    return names.labels(tenant).items() <= meta.labels.items() and meta.annotations.get(names.TENANT_UID) == uid


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
