"""A rotation, reconcile by reconcile, against an API server in memory: crashes, and the moments that time brings."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tenantry_operator.apply import keys
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.plan import names

from tests.unit.operator.apiserver import serving
from tests.unit.operator.cluster import Cluster
from tests.unit.operator.test_steps import KEY, POLICY, TENANT, World

HOUR = 3600.0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A cluster with one Tenant that is Ready."""
    cluster = Cluster()
    async with serving(cluster.answer) as api:
        made: list[World] = []
        async with Client(api.access, manager=names.FIELD_MANAGER, may_write=lambda: made[0].allowed()) as client:
            made.append(World(cluster, client))
            await made[0].settle()
            yield made[0]


def says(world: World, generation: int, **key: object) -> None:
    """The Tenant's spec says this of its key."""
    raw: Any = world.cluster.objects[TENANT]
    metadata = {**raw["metadata"], "generation": generation}
    spec = {**raw["spec"], "keys": [{"name": "default", **key}]}
    world.cluster.put(TENANT, {**raw, "metadata": metadata, "spec": spec})
    world.watch()


def shown(world: World) -> tuple[str, str]:
    """Id and digest of the key that the Secret shows."""
    secret: Any = world.cluster.objects[KEY]
    found = keys.digest_of(base64.b64decode(secret["data"]["api-key"]).decode())
    assert found is not None
    return found


def in_force(world: World) -> list[tuple[str, str]]:
    """Id and digest of each key in the policy."""
    policy: Any = world.cluster.objects[POLICY]
    return [(key["id"], key["sha256"]) for key in json.loads(policy["data"]["policy.json"])["keys"]]


async def test_a_rotation_brings_the_operator_back_when_its_grace_ends(world: World) -> None:
    former = shown(world)
    says(world, 2, rotation=1, gracePeriod="1h")
    assert await world.reconcile() == HOUR
    assert in_force(world) == [shown(world), former]
    assert world.notes() == [
        f"Key default: tn_{shown(world)[0]} takes the place of tn_{former[0]}, which is good until 2026-01-02T04:04:05Z"
    ]
    world.now = HOUR
    assert await world.reconcile() is None
    assert in_force(world) == [shown(world)]
    writes = len(world.cluster.writes)
    world.restart()
    assert await world.reconcile() is None
    assert len(world.cluster.writes) == writes


#: Secret, Event, all objects, status: killed before, between and after them.
@pytest.mark.parametrize("killed_after", range(10))
async def test_killed_after_any_write_of_a_rotation_one_key_is_issued_and_its_grace_kept(
    world: World, killed_after: int
) -> None:
    former = shown(world)
    says(world, 2, rotation=1, gracePeriod="1h")
    limit = len(world.cluster.writes) + killed_after
    world.allowed = lambda: len(world.cluster.writes) < limit
    with contextlib.suppress(errors.WritesForbidden):
        await world.reconcile()
    changed = shown(world) != former
    new = shown(world) if changed else None
    world.allowed = lambda: True
    world.now = HOUR / 2  # the next process comes late
    world.restart()
    assert await world.reconcile() == (HOUR / 2 if changed else HOUR)
    assert new is None or shown(world) == new
    assert in_force(world) == [shown(world), former]
    patches = [path for method, path in world.cluster.writes if (method, path) == ("PATCH", KEY)]
    assert len(patches) == 1


async def test_what_somebody_wrote_into_the_secret_never_reaches_the_policy(world: World) -> None:
    issued = shown(world)
    secret: Any = world.cluster.objects[KEY]
    planted = "tn_mallorysownx_" + "m" * 43
    world.cluster.put(KEY, {**secret, "data": {"api-key": base64.b64encode(planted.encode()).decode()}})
    await world.reconcile(recheck=True)
    assert in_force(world) == [shown(world), issued]
    assert planted.split("_")[1] not in str(in_force(world))
    assert "somebody had changed its Secret" in world.notes()[0]
    assert "mallory" not in msgspec.json.encode(world.cluster.objects[POLICY]).decode()
