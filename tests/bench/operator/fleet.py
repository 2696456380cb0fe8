"""The tenants of a benchmark: what they are, what the operator makes of each, and when they are ready or gone."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from tenantry_operator.api.decode import decode_tenant, decode_tier
from tenantry_operator.api.resolve import resolve
from tenantry_operator.apply import applyset
from tenantry_operator.apply.kinds import STAGES, Stage
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES
from tenantry_operator.plan import desired, names, objects
from tenantry_operator.plan.keys import IssuedKey
from tenantry_operator.render import Renderer

from tests.bench.operator.api import Api, Failed, pooled

TENANTS = "/apis/tenantry.dev/v1alpha1/tenants"
TIERS = "/apis/tenantry.dev/v1alpha1/tenanttiers"
SYSTEM = "tenantry-system"
#: What the API server says of a kind whose definition is not installed (an HTTPRoute without a gateway).
NOT_FOUND = 404

#: Uses everything that a tenant can consist of: owners, a key, a copied credential, HPA and PodDisruptionBudget.
TIER: dict[str, object] = {
    "apiVersion": "tenantry.dev/v1alpha1",
    "kind": "TenantTier",
    "metadata": {"name": "bench"},
    "spec": {
        "upstreams": [{"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "openai"}],
        "limits": {"requestsPerMinute": 600, "tokensPerMinute": 1_000_000, "concurrentRequests": 64},
        "budget": {"amount": "500", "window": "Month"},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}},
        "owners": [{"kind": "Group", "name": "team"}],
    },
}
CREDENTIALS: dict[str, object] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "openai", "namespace": SYSTEM, "labels": {"tenantry.dev/upstream-credentials": "true"}},
    "stringData": {"api-key": "sk-bench"},
}
PLATFORM = desired.Platform(namespace=SYSTEM, image_repository="tenantry", image_tag="test")


def tenant(number: int, *, suspended: bool = False) -> dict[str, object]:
    """One Tenant, as a user writes it."""
    spec: dict[str, object] = {"tier": "bench"}
    if suspended:
        spec["suspend"] = {"traffic": True}
    metadata = {"name": f"bench-{number:05}"}
    return {"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class Bodies:
    """What one tenant becomes, stage by stage: path and JSON of each object."""

    stages: tuple[tuple[tuple[str, bytes], ...], ...]

    def __len__(self) -> int:
        return sum(len(stage) for stage in self.stages)


async def bodies(renderer: Renderer, number: int) -> Bodies:
    """The objects that the operator would apply for this Tenant, by its own code, encoded beforehand."""
    document = {**tenant(number), "metadata": {"name": f"bench-{number:05}", "uid": f"uid-{number}"}}
    decoded = decode_tenant(document)
    name = decoded.metadata.name
    spec = resolve(decoded, decode_tier(TIER))
    key = IssuedKey(name="default", id="abcdefghij23", sha256="0" * 64)
    values = desired.values(name, spec, desired.policy(name, 1, spec, [key]), PLATFORM)
    rendered = list(await renderer.render(name, f"tenant-{name}", values))
    encoded = base64.b64encode(b"sk-bench").decode()
    own: list[Mapping[str, object]] = [
        # Without an owner: there is no Tenant here, and garbage collection would take the namespace away.
        objects.namespace(name, f"uid-{number}", retain=True),
        objects.operator_binding(name, PLATFORM),
        objects.key_secret(name, "default", "tn_abcdefghij23_bench", '{"id":"abcdefghij23","rotation":0}'),
        objects.secret_copy(name, names.upstream_secret("openai"), encoded),
    ]
    members = applyset.members(name, [*own, *rendered])
    stages = []
    for stage in Stage:
        batch = [member for member in members if STAGES[member.resource] is stage]
        paths = [member.resource.path(namespace=member.ref.namespace or None, name=member.ref.name) for member in batch]
        stages.append(tuple((path, json.dumps(m.body).encode()) for path, m in zip(paths, batch, strict=True)))
    return Bodies(tuple(stages))


class _Meta(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    generation: int = 0


class _Condition(Struct, frozen=True):
    type: str
    status: str


class _Status(Struct, frozen=True, rename="camel"):
    conditions: list[_Condition] = []
    available_replicas: int = 0
    observed_generation: int = 0


class _Object(Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()


class _Event(Struct, frozen=True):
    type: str
    object: msgspec.Raw  # of an ERROR it is a Status


class _Versioned(Struct, frozen=True, rename="camel"):
    resource_version: str


class _List(Struct, frozen=True):
    metadata: _Versioned
    items: list[_Object]


def _is_up(deployment: _Object) -> bool:
    status = deployment.status
    return status.available_replicas > 0 and status.observed_generation >= deployment.metadata.generation


@dataclass
class Sightings:
    """When each was first ready, and when it was gone, on the monotonic clock."""

    ready: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    #: Set once everything that there was is known: what goes from then on is noted.
    listening: asyncio.Event = field(default_factory=asyncio.Event)
    _present: set[str] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: Exception | None = None

    async def watch_tenants(self, api: Api, condition: str = "Ready") -> None:
        """Note Tenants whose condition holds. Runs until cancelled."""

        def holds(tenant: _Object) -> bool:
            return any(each.type == condition and each.status == "True" for each in tenant.status.conditions)

        await self._follow(api, TENANTS, "", holds, lambda meta: meta.name)

    async def watch_deployments(self, api: Api) -> None:
        """Note Deployments that have a pod available, by their namespaces. Runs until cancelled."""
        await self._follow(api, DEPLOYMENTS.path(), names.MANAGED_SELECTOR, _is_up, lambda meta: meta.namespace)

    async def watch_namespaces(self, api: Api) -> None:
        """Note tenants' namespaces that go. Runs until cancelled."""
        await self._follow(api, NAMESPACES.path(), names.MANAGED_SELECTOR, lambda _: False, lambda meta: meta.name)

    async def _follow(
        self, api: Api, path: str, labels: str, ready: Callable[[_Object], bool], name: Callable[[_Meta], str]
    ) -> None:
        """List and watch, again whenever the API server ends the watch, as it does with one that cannot keep up."""
        try:
            while True:
                query = {"labelSelector": labels} if labels else {}
                listed = await api.get(f"{path}?{urlencode(query)}", _List)
                for each in listed.items:
                    self._note(name(each.metadata), ready(each), False)
                for lost in self._present - {name(each.metadata) for each in listed.items}:
                    self._note(lost, False, True)
                self.listening.set()
                since = {"resourceVersion": listed.metadata.resource_version, "timeoutSeconds": "3600"}
                async for event in api.events(path, _Event, query={**query, **since}):
                    if event.type == "ERROR":
                        break
                    found = msgspec.json.decode(event.object, type=_Object)
                    self._note(name(found.metadata), ready(found), event.type == "DELETED")
        except Exception as error:  # whoever waits is told; nobody else would ever look at this task
            self._failure = error
            self._news.set()
            self.listening.set()
            raise

    def _note(self, name: str, ready: bool, gone: bool) -> None:
        if ready:
            self.ready.setdefault(name, time.monotonic())
        if gone:
            self._present.discard(name)
            self.gone.setdefault(name, time.monotonic())
        else:
            self._present.add(name)
        self._news.set()

    async def until(self, which: dict[str, float], count: int, patience: float) -> None:
        """Wait until so many are in ``ready`` or ``gone``. Raises TimeoutError, and whatever has ended the watch."""
        async with asyncio.timeout(patience):
            while len(which) < count:
                if self._failure is not None:
                    raise RuntimeError("the watch has ended") from self._failure
                self._news.clear()
                await self._news.wait()


async def create(api: Api, count: int, *, suspended: bool, limit: int) -> dict[str, float]:
    """Create the Tenants; when each was asked for."""
    asked: dict[str, float] = {}

    async def one(number: int) -> None:
        document = tenant(number, suspended=suspended)
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        asked[metadata["name"]] = time.monotonic()
        await api.send("POST", TENANTS, json.dumps(document).encode())

    await pooled(limit, [partial(one, number) for number in range(count)])
    return asked


async def delete(api: Api, tenants: list[str], limit: int) -> None:
    """Delete the Tenants."""
    await pooled(limit, [partial(api.send, "DELETE", f"{TENANTS}/{name}") for name in tenants])


async def count_objects(api: Api, name: str) -> int:
    """How many objects a tenant really has: everything with its label."""
    total = 1  # the namespace
    for resource in STAGES:
        if resource.namespaced:
            path = f"{resource.path(namespace=f'tenant-{name}')}?labelSelector={names.TENANT_LABEL}%3D{name}"
            try:
                listed: dict[str, Any] = await api.get(path, dict[str, Any])
            except Failed as failed:
                if failed.code != NOT_FOUND:
                    raise
            else:
                total += len(listed["items"])
    return total
