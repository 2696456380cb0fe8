"""Drift: somebody edits, deletes or unlabels a managed object; how long until it is put back."""

import asyncio
import json
import time
from dataclasses import dataclass
from enum import Enum

from tenantry_operator.plan import names

from tests.bench.operator import figures
from tests.bench.operator.api import MERGE, Api, Failed

Json = dict[str, object]

#: Tenants that are interfered with at a time; each has one drift at a time.
AT_A_TIME = 4
POLL = 0.02
PATIENCE = 20.0
#: What the API server answers where the chart's admission policies forbid the edit itself: then nothing has drifted.
REFUSED = (403, 422)


class Sort(Enum):
    """What somebody does to an object."""

    EDIT = "edit"
    DELETE = "delete"
    UNLABEL = "unlabel"


@dataclass(frozen=True)
class Target:
    """A managed object, by its path in a tenant's namespace, and an edit of something that we applied there."""

    path: str
    edit: Json
    sorts: tuple[Sort, ...] = tuple(Sort)


_CORE, _NET = "/api/v1/namespaces/{}", "/apis/networking.k8s.io/v1/namespaces/{}"
_RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}"

TARGETS = (
    Target(
        "/api/v1/namespaces/{}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
        (Sort.EDIT, Sort.UNLABEL),  # a deleted namespace is a Tenant's end, not its drift
    ),
    Target(f"{_NET}/networkpolicies/default-deny", {"spec": {"ingress": [{}]}}),
    Target(f"{_CORE}/resourcequotas/tenant", {"spec": {"hard": {"pods": "99"}}}),
    Target(f"{_CORE}/limitranges/tenant", {"spec": {"limits": [{"type": "Container", "default": {"cpu": "2"}}]}}),
    Target(f"{_RBAC}/roles/key-reader", {"rules": []}),
    Target(f"{_RBAC}/rolebindings/owners", {"subjects": []}),
    Target(f"{_RBAC}/rolebindings/tenantry-operator", {"subjects": []}),
    Target(f"{_CORE}/serviceaccounts/api", {"automountServiceAccountToken": True}),
    Target(f"{_CORE}/configmaps/tenantry-policy", {"data": {"policy.json": "{}"}}),
    Target("/apis/apps/v1/namespaces/{}/deployments/api", {"spec": {"revisionHistoryLimit": 7}}),
    Target(f"{_CORE}/services/api", {"spec": {"selector": {"tenantry.dev/serve": "no"}}}),
    Target("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/api", {"spec": {"maxReplicas": 9}}),
    Target("/apis/policy/v1/namespaces/{}/poddisruptionbudgets/api", {"spec": {"maxUnavailable": 0}}),
    Target(f"{_CORE}/secrets/upstream-openai", {"data": {"api-key": "bm90IG91cnM="}}),
    Target(f"{_CORE}/secrets/key-default", {"metadata": {"labels": {names.TENANT_LABEL: "other"}}}),
)


def fitting(samples: int, tenants: int) -> int:
    """How many samples there can be: two drifts of one tenant at a time would be put back as one."""
    return min(samples, tenants // sum(len(target.sorts) for target in TARGETS))


async def measure(api: Api, samples: int) -> figures.Measured:
    """Interfere with ``samples`` (see ``fitting``) objects of each kind in each way, each of another tenant."""
    todo = [(target, sort) for _ in range(samples) for target in TARGETS for sort in target.sorts]
    taken: dict[tuple[str, Sort], list[float | None]] = {}
    work = iter([(*each, number) for number, each in enumerate(todo)])

    async def meddler() -> None:
        for target, sort, number in work:
            took = await _put_back(api, target, sort, f"tenant-bench-{number:05}")
            taken.setdefault((target.path, sort), []).append(took)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(meddler())
    for (path, sort), each in taken.items():
        what = path.partition("/{}/")[2] or "namespace"
        put_back = [value for value in each if value is not None]
        said = f"{max(put_back):6.2f} s" if put_back else "refused by the API server"
        print(f"          {what:<34}{sort.value:<9}{said}", flush=True)
    values = [value for each in taken.values() for value in each if value is not None]
    return {
        "drifts": len(values),
        "drift_p50_s": figures.quantile(values, 0.5),
        "drift_p99_s": figures.quantile(values, 0.99),
        "drift_max_s": max(values),
    }


async def _put_back(api: Api, target: Target, sort: Sort, space: str) -> float | None:
    """Seconds; None when the API server refused to let the object drift."""
    path = target.path.format(space)
    before = await _find(api, path)
    if before is None:
        return PATIENCE  # still gone since the drift before this one
    try:
        if sort is Sort.DELETE:
            await api.send("DELETE", path)
        else:
            edit = target.edit if sort is Sort.EDIT else {"metadata": {"labels": {names.TENANT_LABEL: None}}}
            await api.send("PATCH", path, json.dumps(edit).encode(), MERGE)
    except Failed as refusal:
        if refusal.code not in REFUSED:
            raise
        return None
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        if _content(await _find(api, path)) == _content(before):
            return time.monotonic() - began
        await asyncio.sleep(POLL)
    return PATIENCE


async def _find(api: Api, path: str) -> Json | None:
    try:
        return await api.get(path, dict[str, object])
    except Failed:
        return None


def _content(found: Json | None) -> object:
    """What we have applied, and nothing that the API server or controllers write."""
    if found is None:
        return None
    metadata = found["metadata"]
    assert isinstance(metadata, dict)
    labels = metadata.get("labels")
    fields = ("data", "rules", "subjects", "automountServiceAccountToken")
    kept: Json = {key: found[key] for key in fields if key in found}
    if str(metadata["name"]).startswith("key-"):
        kept = {}  # a key that was deleted is issued anew, and is another one
    spec = found.get("spec")
    if isinstance(spec, dict):
        # An address, once given up, is another one afterwards; KWOK's pods come and go.
        kept["spec"] = {key: value for key, value in spec.items() if key not in ("clusterIP", "clusterIPs", "replicas")}
    return labels, kept
