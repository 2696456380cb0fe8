"""What the chart's hooks run: letting go of all Tenants before an uninstall, and applying CRDs before an upgrade."""

import asyncio
import logging

from tenantry_operator.api.crd import crds
from tenantry_operator.api.decode import LiveTenant, decode_meta
from tenantry_operator.api.meta import FINALIZER, ObjectMeta
from tenantry_operator.apply.kinds import TENANTS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.lease import Lease, Owner, Timing
from tenantry_operator.kube.resources import SERVICE_ACCOUNTS, Resource

log = logging.getLogger(__name__)

CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

#: Seconds that the Lease stays ours after we have ended, so that no operator takes it and puts finalizers back
#: before Helm has deleted the Deployment. Only if the Lease's owner stays must a later installation wait so long.
HELD_AFTERWARDS = 120.0
TRIES = 20


async def release_all(client: Client, namespace: str, lease_name: str, identity: str, service_account: str) -> None:
    """Take our finalizer from every Tenant, with no operator running that would put it back.

    Nothing else is touched: Tenants, namespaces and endpoints stay and go on serving, and a later installation
    takes them up again. It need not wait for the Lease: that goes with the service account, which Helm deletes after
    the Deployment and the account's rights. Killed anywhere: run again, it does the rest.
    Raises KubeError when the Lease cannot be had or a Tenant cannot be patched.
    """
    timing = Timing(duration=HELD_AFTERWARDS, deadline=HELD_AFTERWARDS)
    owner = await _account(client, namespace, service_account)
    lease = Lease(client, namespace=namespace, name=lease_name, identity=identity, timing=timing, owner=owner)
    if not await lease.try_acquire():
        for _ in range(TRIES):  # its holder renews it every 2 s; one of our writes falls in between
            if await lease.try_acquire(force=True):
                break
        else:
            raise errors.WritesForbidden(f"lease {namespace}/{lease_name} cannot be taken over: try again")
        log.info("lease taken over; waiting until its former holder has stopped")
        await asyncio.sleep(Timing().duration)
    released = 0
    for tenant in await client.list(TENANTS, into=LiveTenant):
        meta = tenant.metadata
        if FINALIZER in meta.finalizers:
            await _release(client, meta)
            released += 1
    log.info("finalizers removed", extra={"tenants": released})


async def _account(client: Client, namespace: str, name: str) -> Owner | None:
    raw = await client.find(SERVICE_ACCOUNTS, name, namespace=namespace, into=dict[str, object])
    if raw is None:  # an operator that runs outside the cluster has none
        return None
    return Owner(SERVICE_ACCOUNTS.api_version, SERVICE_ACCOUNTS.kind, name, decode_meta(raw).uid)


async def _release(client: Client, meta: ObjectMeta) -> None:
    for _ in range(TRIES):
        path = f"/metadata/finalizers/{meta.finalizers.index(FINALIZER)}"
        operations = [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]
        try:
            await client.json_patch(TENANTS, meta.name, operations, into=Nothing)
        except errors.NotFound:
            return
        except (errors.Invalid, errors.Conflict):  # the list has changed since we read it
            meta = (await client.get(TENANTS, meta.name, into=LiveTenant)).metadata
            if FINALIZER not in meta.finalizers:
                return
        else:
            return
    raise errors.WritesForbidden(f"the finalizers of Tenant {meta.name} keep changing: see who writes them")


async def apply_crds(client: Client) -> None:
    """Apply the CRDs of this version. Helm installs CRDs, but never upgrades them. Raises KubeError."""
    for definition in crds():
        meta = decode_meta(definition)
        await client.apply(CUSTOM_RESOURCE_DEFINITIONS, meta.name, definition, into=Nothing)
        log.info("applied", extra={"crd": meta.name})
