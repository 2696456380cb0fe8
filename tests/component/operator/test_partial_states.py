"""Whatever part of a tenant's objects there is when the operator starts, it ends with the same whole, and then rests.

With the objects of the real chart, against the API server in memory; tests/cluster/test_partial_states.py does the same
with a smaller sample on a real one.
"""

import hashlib
import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.apply.kinds import WATCHED
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.events import Recorder
from tenantry_operator.kube.resources import DEPLOYMENTS, Resource
from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import LiveDeployment, LiveObject, child
from tenantry_operator.queue import Turn
from tenantry_operator.reconcile import Reconciler
from tenantry_operator.render import HelmRenderer, Objects

from tests.unit.operator.apiserver import Asked
from tests.unit.operator.cluster import Cluster
from tests.unit.operator.tenants import NOW, PLATFORM, SPACE, UID, record, tier

CHART = Path(__file__).resolve().parents[3] / "charts" / "tenant"
TENANT = "/apis/tenantry.dev/v1alpha1/tenants/acme"
NAMESPACE = f"/api/v1/namespaces/{SPACE}"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SPACE}/deployments/api"
SPEC = {
    "tier": "standard",
    "owners": [{"kind": "User", "name": "ada"}],
    "autoscaling": {"minReplicas": 2, "maxReplicas": 3},
    "keys": [{"name": "default"}, {"name": "ci"}],
}

SEED = 20260101
#: Subsets that are tried of the many more that there are.
SAMPLE = 4096


class InMemory(Client):
    """A client whose requests go to the cluster in memory without a network between."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(Access(server=""), manager=names.FIELD_MANAGER)
        self._cluster = cluster

    async def _call(self, method: str, resource: Resource, path: str, *, into: Any, **asked: Any) -> Any:
        body, query = asked.get("body"), dict(asked.get("query") or {})
        headers = {"Content-Type": asked.get("content_type", "application/json")}
        data = b"" if body is None else msgspec.json.encode(body)
        answer = await self._cluster.answer(Asked(method, path, query, headers, data))
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        if answer.status >= 300:
            raise errors.from_response(answer.status, answer.body, None)
        return msgspec.json.decode(answer.body, type=into)


class Rendered:
    """The chart's objects, rendered once; only the policy follows the values, as in the chart."""

    chart = "tenant-0.1.0"

    def __init__(self, objects: Objects) -> None:
        self._objects = [dict(each) for each in objects]

    def digest(self, values: Mapping[str, object]) -> str:
        """Of the values."""
        return hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()

    async def render(self, release: str, namespace: str, values: Mapping[str, object]) -> Objects:
        """The same objects with this policy."""
        text = msgspec.json.encode(values["policy"]).decode()
        policy = {"data": {"policy.json": text}}
        return [{**each, **policy} if each["kind"] == "ConfigMap" else each for each in self._objects]


class Recording:
    """A renderer that keeps what the real one gives."""

    def __init__(self, real: HelmRenderer) -> None:
        self._real = real
        self.chart = real.chart
        self.objects: Objects = ()

    def digest(self, values: Mapping[str, object]) -> str:
        """The real one's."""
        return self._real.digest(values)

    async def render(self, release: str, namespace: str, values: Mapping[str, object]) -> Objects:
        """The real one's objects."""
        self.objects = await self._real.render(release, namespace, values)
        return self.objects


class Process:
    """An operator that has just started: it has read what there is, and remembers nothing."""

    def __init__(self, cluster: Cluster, renderer: Rendered | Recording) -> None:
        self.cluster, self.live = cluster, Live()
        self.seconds = 0.0
        self.live.put_tier(
            {
                "metadata": {"name": "standard", "resourceVersion": "1"},
                "spec": msgspec.to_builtins(tier().spec),
            }
        )
        client = InMemory(cluster)
        self._reconciler = Reconciler(
            client=client,
            live=self.live,
            renderer=renderer,
            recorder=Recorder(client, controller="c", instance="i"),
            platform=PLATFORM,
            now=lambda: NOW + timedelta(seconds=self.seconds),
            clock=lambda: self.seconds,
        )

    async def converge(self) -> None:
        """Reconcile, with the pods coming up, until there is nothing to write."""
        for _ in range(8):
            self.watch()
            before = len(self.cluster.writes)
            await self._reconciler.reconcile("acme", Turn())
            came_up = self.pods_come_up()
            if len(self.cluster.writes) == before and not came_up:
                return
            self.seconds += 60
        raise AssertionError(f"never at rest: {self.cluster.writes[-12:]}")

    def watch(self) -> None:
        """Take in what a list of each watched kind tells."""
        self.live.put_tenant(record(self.cluster.objects[TENANT]))
        for resource in WATCHED:
            into: type[LiveObject | LiveDeployment] = LiveDeployment if resource is DEPLOYMENTS else LiveObject
            found = [
                child(resource.group_kind, msgspec.json.decode(msgspec.json.encode(raw), type=into))
                for path, raw in self.cluster.objects.items()
                if path.rsplit("/", 2)[1] == resource.plural and "/events" not in path
            ]
            list(self.live.replace_kind(resource.group_kind, found, 10**9))

    def pods_come_up(self) -> bool:
        """The Deployment's controller does its work; whether there was any."""
        raw = self.cluster.objects.get(DEPLOYMENT)
        if raw is None or "status" in raw:
            return False
        metadata = raw["metadata"]
        assert isinstance(metadata, dict)
        metadata = {**metadata, "generation": 1}
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 2)
        spec = raw["spec"]
        assert isinstance(spec, dict)
        up = {
            **raw,
            "metadata": metadata,
            "spec": {**spec, "replicas": 2},
            "status": {"observedGeneration": 1, **counts},
        }
        self.cluster.put(DEPLOYMENT, up, fields=metadata["managedFields"][0]["fieldsV1"])
        return True


def whole(cluster: Cluster) -> dict[str, object]:
    """Everything that there is, apart from versions, the keys themselves, and what counts or tells of the past."""
    found: dict[str, object] = {}
    for path, raw in cluster.objects.items():
        if "/events" in path:
            continue
        metadata = raw["metadata"]
        assert isinstance(metadata, dict)
        kept = {key: metadata[key] for key in ("labels", "ownerReferences", "finalizers") if key in metadata}
        body = {key: value for key, value in raw.items() if key not in ("metadata", "status")}
        if "/secrets/" in path or path.endswith("tenantry-policy"):
            body.pop("data", None)
        if path == TENANT:
            conditions = msgspec.convert(
                msgspec.convert(raw["status"], dict[str, Any])["conditions"], list[dict[str, Any]]
            )
            body["conditions"] = sorted((each["type"], each["status"], each["reason"]) for each in conditions)
        found[path] = {"metadata": kept, **body}
    return found


def policy_holds_the_keys(cluster: Cluster) -> bool:
    """Whether the policy knows exactly the keys that the Secrets hold."""
    raw: Any = cluster.objects[f"{NAMESPACE}/configmaps/tenantry-policy"]
    known = {each["sha256"] for each in msgspec.json.decode(raw["data"]["policy.json"])["keys"]}
    secrets: list[Any] = [each for path, each in cluster.objects.items() if "/secrets/key-" in path]
    held = {hashlib.sha256(_decoded(each["data"]["api-key"])).hexdigest() for each in secrets}
    return known == held


def _decoded(text: str) -> bytes:
    return msgspec.json.decode(f'"{text}"', type=bytes)


@pytest.fixture
async def settled(render_helper: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Cluster, Rendered]:
    """A tenant that is Ready, and its chart's objects."""
    monkeypatch.setenv("TENANTRY_RENDER", str(render_helper))
    real = HelmRenderer(CHART)
    await real.start()
    try:
        cluster, recording = Cluster(), Recording(real)
        created = {"name": "acme", "uid": UID, "generation": 1, "creationTimestamp": NOW.isoformat()}
        cluster.put(TENANT, {"metadata": created, "spec": SPEC})
        process = Process(cluster, recording)
        await process.converge()
    finally:
        await real.close()
    rendered = Rendered(recording.objects)
    await Process(cluster, rendered).converge()
    return cluster, rendered


@pytest.mark.timeout(1200)
async def test_from_any_subset_of_its_objects_a_tenant_becomes_whole(settled: tuple[Cluster, Rendered]) -> None:
    cluster, rendered = settled
    expected = whole(cluster)
    members = sorted(path for path in expected if path.startswith(f"{NAMESPACE}/") or f"/namespaces/{SPACE}/" in path)
    assert 2 ** len(members) > SAMPLE, "few enough to try them all"
    chance = random.Random(SEED)
    for number in range(SAMPLE):
        part = Cluster()
        part.objects = dict(cluster.objects)
        part.put(TENANT, part.objects[TENANT])
        missing = [path for path in members if chance.random() < 0.5] if number else [*members, NAMESPACE]
        for path in missing:
            del part.objects[path]
        await Process(part, rendered).converge()
        assert whole(part) == expected, f"without {missing}"
        assert policy_holds_the_keys(part), f"without {missing}"
