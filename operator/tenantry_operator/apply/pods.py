"""Running pods: told to look at their mounted policy again."""

import asyncio
from collections.abc import Mapping

import msgspec

from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import PODS
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import LiveMeta


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: LiveMeta
    status: _PodStatus = _PodStatus()


async def refresh(client: Client, namespace: str, tenant: str, annotations: Mapping[str, str]) -> int:
    """Put the annotations on the tenant's pods that lack them; gives how many were written.

    Also on those that only just start: they may have mounted what was there a moment ago.

    Any change to a pod makes its kubelet sync it now, which refreshes ConfigMap and Secret volumes in some 0.1 s;
    left alone it takes a minute. So this comes after both are written. Killed before it: the digest is not yet in
    the status, and the next run does it. A pod that is gone by now needs nothing.
    """
    found = await client.list(PODS, namespace=namespace, labels=f"{names.TENANT_LABEL}={tenant}", into=_Pod)
    stale = [
        pod.metadata.name
        for pod in found
        if pod.status.phase in ("Pending", "Running") and not annotations.items() <= pod.metadata.annotations.items()
    ]
    await asyncio.gather(*(_annotate(client, namespace, name, annotations) for name in stale))
    return len(stale)


async def _annotate(client: Client, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
    try:
        body = {"metadata": {"annotations": dict(annotations)}}
        await client.merge_patch(PODS, name, body, namespace=namespace, into=Nothing)
    except errors.NotFound:
        return
