"""A tenant's life, reconcile by reconcile, against an API server in memory."""

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tenantry_operator.api.meta import FINALIZER
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder
from tenantry_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, RESOURCE_QUOTAS
from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.plan.desired import Platform
from tenantry_operator.plan.observed import LiveDeployment, LiveObject, child
from tenantry_operator.plan.refused import PAUSE
from tenantry_operator.plan.store import address, store
from tenantry_operator.queue import Turn
from tenantry_operator.reconcile import Reconciler
from tenantry_operator.redis.accounts import Accounts
from tenantry_operator.redis.connection import Connection
from tenantry_operator.render import Objects
from tenantry_operator.report import HOLD

from tests.unit.operator.apiserver import serving
from tests.unit.operator.cluster import Cluster
from tests.unit.operator.tenants import NOW, PLATFORM, SPACE, UID, record

TENANT = "/apis/tenantry.dev/v1alpha1/tenants/acme"
INSIDE = f"/api/v1/namespaces/{SPACE}"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SPACE}/deployments/api"
POLICY = f"{INSIDE}/configmaps/tenantry-policy"
KEY = f"{INSIDE}/secrets/key-default"
#: The chart's three, the Namespace, the operator's RoleBinding and the key.
OBJECTS = 7


class Chart:
    """A chart of four objects; the policy depends on the values."""

    chart = "tenant-0.1.0"

    def digest(self, values: Mapping[str, object]) -> str:
        """Of the values."""
        return hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()

    async def render(self, release: str, namespace: str, values: Mapping[str, object]) -> Objects:
        """A fence, a quota, the policy and the workload."""
        where = {"namespace": namespace}
        return [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "default-deny", **where},
                "spec": {"policyTypes": ["Ingress"]},
            },
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tenant", **where}, "spec": {}},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "tenantry-policy", **where},
                "data": {"policy.json": msgspec.json.encode(values["policy"]).decode()},
            },
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api", **where}, "spec": {}},
        ]


@dataclass
class World:
    """A cluster, what the operator has seen of it, and the operator."""

    cluster: Cluster
    client: Client
    live: Live = field(default_factory=Live)
    now: float = 0.0
    allowed: Callable[[], bool] = lambda: True
    platform: Platform = PLATFORM
    accounts: Accounts | None = None

    def __post_init__(self) -> None:
        upstream = {"name": "sim", "baseURL": "http://simulator.tenantry-system.svc:8080/v1"}
        self.live.put_tier(
            {"metadata": {"name": "standard", "resourceVersion": "1"}, "spec": {"upstreams": [upstream]}}
        )
        self.cluster.put(
            TENANT,
            {
                "metadata": {"name": "acme", "uid": UID, "generation": 1, "creationTimestamp": NOW.isoformat()},
                "spec": {"tier": "standard"},
            },
        )
        self.restart()

    def restart(self) -> None:
        """A new process: it remembers nothing, and reads everything that it may read."""
        tiers = self.live.tiers
        self.live = Live(tiers=tiers)
        recorder = Recorder(self.client, controller="c", instance="i")
        self.reconciler = Reconciler(
            client=self.client,
            live=self.live,
            renderer=Chart(),
            recorder=recorder,
            platform=self.platform,
            accounts=self.accounts,
            now=lambda: NOW + timedelta(seconds=self.now),
            clock=lambda: self.now,
        )
        self.watch()

    def watch(self) -> None:
        """Everything that the watches would have told by now."""
        if TENANT in self.cluster.objects:
            self.live.put_tenant(record(self.cluster.objects[TENANT]))
        seen = set()
        for path, raw in self.cluster.objects.items():
            kind = KINDS.get(path.rsplit("/", 2)[1])
            if kind is None:
                continue
            deployed = kind == DEPLOYMENTS.group_kind
            text = msgspec.json.encode(raw)
            decode = msgspec.json.decode
            found = child(kind, decode(text, type=LiveDeployment) if deployed else decode(text, type=LiveObject))
            seen.add(found.ref)
            self.live.put_child(found)
        for gone in [each for each in self.live.children("acme") if each.ref not in seen]:
            self.live.drop_child("acme", gone.ref, gone.uid)

    async def reconcile(self, *, recheck: bool = False) -> float | None:
        """One turn."""
        return await self.reconciler.reconcile("acme", Turn(recheck=recheck))

    def pods_are_ready(self) -> None:
        """The Deployment reports its one pod."""
        raw = self.cluster.objects[DEPLOYMENT]
        metadata = raw["metadata"]
        assert isinstance(metadata, dict)
        metadata["generation"] = 1
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        fields = metadata["managedFields"][0]["fieldsV1"]
        ready = {**raw, "spec": {"replicas": 1}, "status": {"observedGeneration": 1, **counts}}
        self.cluster.put(DEPLOYMENT, ready, fields=fields)
        self.watch()

    async def settle(self) -> None:
        """From nothing to Ready."""
        await self.reconcile()
        self.pods_are_ready()
        await self.reconcile()
        assert self.ready() == "True"

    def status(self) -> dict[str, object]:
        """What the Tenant says."""
        status = self.cluster.objects[TENANT].get("status", {})
        assert isinstance(status, dict)
        return status

    def ready(self) -> str | None:
        """Its Ready condition."""
        conditions = self.status().get("conditions", [])
        assert isinstance(conditions, list)
        return next((each["status"] for each in conditions if each["type"] == "Ready"), None)

    def notes(self) -> list[str]:
        """What Events tell."""
        return [str(each["note"]) for path, each in self.cluster.objects.items() if "/events/" in path]


KINDS = {
    "namespaces": "Namespace",
    "configmaps": CONFIG_MAPS.group_kind,
    "resourcequotas": RESOURCE_QUOTAS.group_kind,
    "networkpolicies": "NetworkPolicy.networking.k8s.io",
    "rolebindings": "RoleBinding.rbac.authorization.k8s.io",
    "deployments": DEPLOYMENTS.group_kind,
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A cluster with one new Tenant."""
    cluster = Cluster()
    async with serving(cluster.answer) as api:
        made: list[World] = []
        async with Client(api.access, manager=names.FIELD_MANAGER, may_write=lambda: made[0].allowed()) as client:
            made.append(World(cluster, client))
            yield made[0]


async def test_a_new_tenant_costs_its_objects_and_two_writes(world: World) -> None:
    assert await world.reconcile() == HOLD
    world.pods_are_ready()
    assert await world.reconcile() is None
    assert world.ready() == "True"
    assert len(world.cluster.writes) == OBJECTS + 2, world.cluster.writes
    assert world.cluster.reads == []
    assert world.notes() == []


async def test_fences_stand_before_the_pods_that_they_fence_in(world: World) -> None:
    await world.reconcile()
    order = [path.rpartition("/")[2] for _, path in world.cluster.writes]
    assert order[0] == "acme", "our finalizer comes before everything that it is to clean up"
    assert order[1] == SPACE
    assert order[-1] == "api"


async def test_that_pods_take_their_time_is_told_after_a_moment(world: World) -> None:
    await world.reconcile()
    assert world.status() == {}
    world.now = HOLD - 1
    assert await world.reconcile() == 1.0
    world.now = HOLD
    await world.reconcile()
    assert world.ready() == "False"
    assert world.status()["applied"]


async def test_at_rest_nothing_is_asked_and_nothing_written(world: World) -> None:
    await world.settle()
    before = len(world.cluster.writes), len(world.cluster.reads)
    assert await world.reconcile() is None
    assert (len(world.cluster.writes), len(world.cluster.reads)) == before


async def test_after_a_restart_the_keys_are_read_and_nothing_is_written(world: World) -> None:
    await world.settle()
    writes = len(world.cluster.writes)
    world.restart()
    assert await world.reconcile() is None
    assert len(world.cluster.writes) == writes


@pytest.mark.parametrize("killed_after", range(OBJECTS + 2))
async def test_killed_after_any_write_the_next_process_ends_in_the_same_place(world: World, killed_after: int) -> None:
    limit = len(world.cluster.writes) + killed_after
    world.allowed = lambda: len(world.cluster.writes) < limit
    with contextlib.suppress(errors.WritesForbidden):
        await world.reconcile()
    key = world.cluster.objects.get(KEY)
    world.allowed = lambda: True
    world.restart()
    await world.settle()
    assert len(world.cluster.names()) == OBJECTS + 1
    assert key is None or world.cluster.objects[KEY] == key, "a key that was issued stays"


Harm = Callable[[World], None]


def _gone(path: str) -> Harm:
    def delete(world: World) -> None:
        del world.cluster.objects[path]

    return delete


def _edited(path: str) -> Harm:
    def edit(world: World) -> None:
        world.cluster.put(
            path, {**world.cluster.objects[path], "data": {"policy.json": "{}"}}, fields={"f:metadata": {}}
        )

    return edit


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_gone(POLICY), "ConfigMap tenantry-policy had been deleted"),
        (_edited(POLICY), "ConfigMap tenantry-policy had been changed at .data[policy.json]"),
        (_gone(DEPLOYMENT), "Deployment api had been deleted"),
        (
            _gone(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SPACE}/rolebindings/{names.OPERATOR_BINDING}"),
            "RoleBinding tenantry-operator had been deleted",
        ),
    ],
)
async def test_drift_is_put_back_and_told_in_one_event(world: World, harm: Harm, told: str) -> None:
    await world.settle()
    before = world.cluster.names()
    policy = world.cluster.objects[POLICY]["data"]
    harm(world)
    world.watch()
    await world.reconcile()
    assert world.cluster.names() >= before
    assert world.cluster.objects[POLICY]["data"] == policy
    (note,) = world.notes()
    assert told in note


async def test_a_key_that_has_gone_is_seen_by_the_quota_and_issued_anew(world: World) -> None:
    await world.settle()
    quota = f"{INSIDE}/resourcequotas/tenant"
    fields = world.cluster.objects[quota]["metadata"]["managedFields"][0]["fieldsV1"]  # type: ignore[index]

    def count(number: int) -> None:
        used = {"used": {names.COUNTED_SECRETS: str(number)}}
        world.cluster.put(quota, {**world.cluster.objects[quota], "status": used}, fields=fields)
        world.watch()

    count(1)
    policy = world.cluster.objects[POLICY]["data"]
    del world.cluster.objects[KEY]
    await world.reconcile()
    assert KEY not in world.cluster.objects, "nothing says so yet"
    count(0)
    await world.reconcile()
    assert KEY in world.cluster.objects
    assert world.cluster.objects[POLICY]["data"] != policy, "its digest is in the policy"
    assert "Secret key-default had been deleted" in world.notes()[0]


async def test_pods_that_the_quota_refused_are_asked_for_again_once_it_has_room_and_not_all_the_time(
    world: World,
) -> None:
    await world.settle()
    quota = f"{INSIDE}/resourcequotas/tenant"
    message = 'pods "api-x" is forbidden: exceeded quota: tenant'
    refusal = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}

    def books(path: str) -> Mapping[str, object]:
        fields = world.cluster.objects[path]["metadata"]["managedFields"][0]["fieldsV1"]  # type: ignore[index]
        assert isinstance(fields, dict)
        return fields

    def say(path: str, **status: object) -> None:
        raw = world.cluster.objects[path]
        said = {**raw, "status": {**raw.get("status", {}), **status}}  # type: ignore[dict-item]
        world.cluster.put(path, said, fields=books(path))
        world.watch()

    def asked() -> int:
        return world.cluster.writes.count(("PATCH", DEPLOYMENT))

    say(quota, hard={"pods": "6"}, used={"pods": "6"})
    say(DEPLOYMENT, conditions=[refusal])
    before = asked()
    await world.reconcile()
    assert asked() == before, "it has no room"
    say(quota, used={"pods": "5"})
    assert await world.reconcile() == PAUSE.total_seconds()
    assert asked() == before + 1
    world.watch()
    world.now = 3.0
    assert await world.reconcile() == PAUSE.total_seconds() - 3
    assert asked() == before + 1, "not again so soon"
    world.restart()
    await world.reconcile()
    assert asked() == before + 1, "nor by the one who leads next"
    world.now = PAUSE.total_seconds()
    await world.reconcile()
    assert asked() == before + 2
    assert not world.notes(), "it is no drift"
    world.watch()
    world.now += PAUSE.total_seconds()
    assert await world.reconcile() == 2 * PAUSE.total_seconds(), "twice in vain: the pause is twice as long"
    assert asked() == before + 3
    world.watch()
    world.now += PAUSE.total_seconds()
    assert await world.reconcile() == PAUSE.total_seconds()
    assert asked() == before + 3
    say(quota, used={"pods": "6"})
    await world.reconcile()
    say(quota, used={"pods": "5"})
    await world.reconcile()
    assert asked() == before + 4, "there is news of the quota"
    say(DEPLOYMENT, conditions=[])
    world.now += 100
    assert await world.reconcile() is None
    assert asked() == before + 4


@pytest.mark.parametrize("refusal", [(403, "Forbidden"), (422, "Invalid")], ids=str)
async def test_a_tenant_is_told_of_as_ever_though_refused_pods_cannot_be_asked_for_again(
    world: World, refusal: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    await world.settle()
    raw = world.cluster.objects[DEPLOYMENT]
    said = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    fields = raw["metadata"]["managedFields"][0]["fieldsV1"]  # type: ignore[index]
    short = {**raw["status"], "availableReplicas": 0, "conditions": [said]}  # type: ignore[dict-item]
    world.cluster.put(DEPLOYMENT, {**raw, "status": short}, fields=fields)
    world.watch()
    world.cluster.refuse[DEPLOYMENT] = refusal
    assert await world.reconcile() == PAUSE.total_seconds()
    assert world.ready() == "False"
    assert "cannot be asked for again" in caplog.text


@pytest.mark.parametrize("tier_gone", [True, False])
async def test_fences_are_kept_while_a_tenant_is_blocked(world: World, tier_gone: bool) -> None:
    await world.settle()
    if tier_gone:
        world.live.drop_tier("standard", 99)
    else:
        upstream = {"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "missing"}
        world.live.put_tier(
            {"metadata": {"name": "standard", "resourceVersion": "9"}, "spec": {"upstreams": [upstream]}}
        )
    await world.reconcile()
    fence = f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies/default-deny"
    policy = world.cluster.objects[POLICY]
    del world.cluster.objects[fence]
    world.watch()
    await world.reconcile()
    assert fence in world.cluster.objects
    assert world.cluster.objects[POLICY] == policy, "nothing else is touched"
    assert any("NetworkPolicy default-deny had been deleted" in note for note in world.notes())
    writes = len(world.cluster.writes)
    await world.reconcile()
    assert len(world.cluster.writes) == writes


async def test_protection_from_deletion_is_told_at_once(world: World) -> None:
    raw = world.cluster.objects[TENANT]
    world.cluster.put(TENANT, {**raw, "spec": {"tier": "standard", "deletionProtection": True}})
    world.watch()
    await world.reconcile()
    assert world.status()["deletionProtection"] is True


async def test_a_recheck_reads_what_no_watch_reports(world: World) -> None:
    await world.settle()
    del world.cluster.objects[KEY]
    await world.reconcile(recheck=True)
    assert KEY in world.cluster.objects


async def test_a_namespace_of_somebody_else_is_not_touched(world: World) -> None:
    theirs: dict[str, object] = {"metadata": {"name": SPACE, "labels": {"team": "b"}}}
    world.cluster.put(f"/api/v1/namespaces/{SPACE}", theirs)
    await world.reconcile()
    assert world.cluster.objects[f"/api/v1/namespaces/{SPACE}"]["metadata"]["labels"] == {"team": "b"}  # type: ignore[index]
    assert KEY not in world.cluster.objects
    conditions = world.status()["conditions"]
    assert isinstance(conditions, list)
    assert {each["reason"] for each in conditions if each["type"] == "Stalled"} == {"NamespaceConflict"}


async def test_deletion_lets_the_pods_end_then_takes_the_namespace_then_lets_go(world: World) -> None:
    await world.settle()
    raw = world.cluster.objects[TENANT]
    metadata = raw["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["finalizers"] == [FINALIZER]
    world.cluster.put(TENANT, {**raw, "metadata": {**metadata, "deletionTimestamp": NOW.isoformat()}})
    world.watch()
    assert await world.reconcile()
    assert world.cluster.writes[-1] == ("DELETE", DEPLOYMENT)
    world.watch()
    assert await world.reconcile()
    assert world.cluster.writes[-1] == ("DELETE", f"/api/v1/namespaces/{SPACE}")
    world.watch()
    assert await world.reconcile() is None
    assert world.cluster.writes[-1] == ("PATCH", TENANT)


def away(world: World, tmp_path: Path) -> None:
    """Give the operator a Redis that is not there."""
    file = tmp_path / "url"
    file.write_text("redis://:p@127.0.0.1:1")
    found = store(address(file.read_text()), b"s" * 32)
    world.platform = replace(PLATFORM, store=found)
    world.accounts = Accounts(Connection(file), world.live, found, lambda _: None, overlap=1.0)
    world.restart()


async def test_a_redis_that_is_away_holds_up_no_tenant(world: World, tmp_path: Path) -> None:
    away(world, tmp_path)
    await world.settle()
    secret = world.cluster.objects[f"{INSIDE}/secrets/redis"]
    data = secret["data"]
    assert isinstance(data, dict)
    url = base64.b64decode(data["url"]).decode()
    assert url.startswith("redis://tenant-acme:")
    assert url.endswith("@127.0.0.1:1/0")
    writes = len(world.cluster.writes)
    await world.reconcile(recheck=True)
    assert len(world.cluster.writes) == writes


@pytest.mark.parametrize("harm", ["gone", "edited"])
async def test_the_pods_way_to_redis_is_put_back_as_it_was(world: World, tmp_path: Path, harm: str) -> None:
    away(world, tmp_path)
    await world.settle()
    path = f"{INSIDE}/secrets/redis"
    before = world.cluster.objects[path]
    if harm == "gone":
        del world.cluster.objects[path]
    else:
        world.cluster.put(path, {**before, "data": {"url": "bXk="}})
    await world.reconcile(recheck=True)
    assert world.cluster.objects[path]["data"] == before["data"]


async def test_without_redis_there_is_no_such_secret_any_more(world: World, tmp_path: Path) -> None:
    away(world, tmp_path)
    await world.settle()
    world.platform, world.accounts = PLATFORM, None
    world.restart()
    await world.reconcile()
    assert f"{INSIDE}/secrets/redis" not in world.cluster.objects
    assert KEY in world.cluster.objects


async def test_a_deleted_tenant_waits_until_its_user_is_removed(world: World, tmp_path: Path) -> None:
    away(world, tmp_path)
    await world.settle()
    raw = world.cluster.objects[TENANT]
    metadata = raw["metadata"]
    assert isinstance(metadata, dict)
    world.cluster.put(TENANT, {**raw, "metadata": {**metadata, "deletionTimestamp": NOW.isoformat()}})
    for _ in range(4):
        world.watch()
        assert await world.reconcile() is not None
    assert f"/api/v1/namespaces/{SPACE}" not in world.cluster.objects
    conditions = world.status()["conditions"]
    assert isinstance(conditions, list)
    (told,) = [each["message"] for each in conditions if each["type"] == "Ready"]
    assert told.startswith("its user in Redis is not removed yet: Redis does not answer")
