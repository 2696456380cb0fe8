"""The way out of a tenant."""

import contextlib
import logging

from msgspec.structs import replace

from tenantry_operator.api.decode import LiveTenant
from tenantry_operator.api.meta import FINALIZER, namespace_of
from tenantry_operator.apply import namespace as namespaces
from tenantry_operator.apply.kinds import TENANTS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import DEPLOYMENTS
from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.plan.assess import retains
from tenantry_operator.plan.facts import Assessment, Facts
from tenantry_operator.plan.observed import Ref
from tenantry_operator.redis.accounts import Accounts
from tenantry_operator.redis.connection import StoreError
from tenantry_operator.report import Reporter

log = logging.getLogger(__name__)


async def delete(
    client: Client,
    live: Live,
    reporter: Reporter,
    accounts: Accounts | None,
    facts: Facts,
    assessment: Assessment,
) -> float | None:
    """Let the pods end, take the namespace away (or let go of it), wait until it is gone, let go of the Tenant.

    Gives the seconds until the next look, or None when nothing is left to do. Killed anywhere: the finalizer is still
    there, and the next run reads from the API server how far it got. A Tenant that is suspended or whose tier is gone
    is deleted all the same. Raises KubeError.
    """
    name = facts.meta.name
    if FINALIZER not in facts.meta.finalizers:
        return None
    namespace = await namespaces.find_own(client, name, facts.meta.uid)
    if namespace is not None:
        if not retains(facts, namespace.metadata.annotations.get(names.DELETION_POLICY)):
            await reporter.report(facts, assessment)
            deployment = live.child(name, Ref(DEPLOYMENTS.group_kind, namespace_of(name), names.WORKLOAD))
            going = namespace.metadata.deletion_timestamp is not None
            if going or deployment is None or not await namespaces.drain(client, deployment):
                await namespaces.remove(client, namespace)
            return assessment.requeue
        await namespaces.release(client, namespace)
    elif accounts is not None and not retains(facts, None):
        # Last, when no pod is left that could still have something to settle.
        try:
            await accounts.retire(name)
        except StoreError as error:
            waiting = f"its user in Redis is not removed yet: {error}"
            await reporter.report(facts, replace(assessment, message=waiting))
            return assessment.requeue
    path = f"/metadata/finalizers/{facts.meta.finalizers.index(FINALIZER)}"
    release = [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]
    with contextlib.suppress(errors.NotFound):
        reporter.taken(await client.json_patch(TENANTS, name, release, into=LiveTenant))
    log.info("released")
    return None
