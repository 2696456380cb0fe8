"""Complete lists against what is known: what is new, what has gone, and who hears of it."""

from collections.abc import AsyncIterator

import pytest
from tenantry_operator.kube.client import Client
from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.queue import Lane
from tenantry_operator.resync import Resync

from tests.unit.operator.apiserver import serving
from tests.unit.operator.cluster import Cluster
from tests.unit.operator.tenants import record

API = "/apis/tenantry.dev/v1alpha1"
SECRET = "/api/v1/namespaces/tenantry-system/secrets/openai"
UPSTREAM = {"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "openai"}


class World:
    """A cluster, what is known of it, and who was told of news."""

    def __init__(self, cluster: Cluster, client: Client) -> None:
        self.cluster, self.live = cluster, Live()
        self.told: list[tuple[str, Lane]] = []
        self.resync = Resync(client, self.live, self._notify, platform_namespace="tenantry-system")

    def _notify(self, tenant: str, lane: Lane, _pause: float) -> None:
        self.told.append((tenant, lane))

    def tier(self, **spec: object) -> None:
        """Create or change the tier."""
        self.cluster.put(f"{API}/tenanttiers/standard", {"metadata": {"name": "standard"}, "spec": spec})

    def tenant(self, name: str) -> None:
        """A Tenant is known."""
        self.live.put_tenant(record({"metadata": {"name": name}, "spec": {"tier": "standard"}}))

    def later(self) -> None:
        """Something else of that kind is written, so that the collection is of a newer version."""
        self.cluster.put(f"{API}/tenanttiers/other", {"metadata": {"name": "other"}, "spec": {}})

    def credentials(self, value: str) -> None:
        """Create or change the Secret."""
        metadata = {"name": "openai", "labels": {names.CREDENTIALS_LABEL: "true"}}
        self.cluster.put(SECRET, {"metadata": metadata, "data": {names.SECRET_FIELD: value}})

    async def news(self) -> list[tuple[str, Lane]]:
        """Read everything; who was told of something."""
        self.told.clear()
        await self.resync.everything()
        return sorted(self.told)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Two Tenants of one tier with credentials, read once."""
    cluster = Cluster()
    async with serving(cluster.answer) as api, Client(api.access, manager="m") as client:
        made = World(cluster, client)
        made.tenant("acme")
        made.tenant("bolt")
        made.tier(upstreams=[UPSTREAM])
        made.credentials("c2s=")
        await made.news()
        yield made


async def test_what_has_not_changed_wakes_nobody(world: World) -> None:
    assert await world.news() == []
    assert world.cluster.writes == []


async def test_a_tier_that_changed_or_went_is_news_for_all_its_tenants(world: World) -> None:
    world.tier(upstreams=[UPSTREAM], limits={"requestsPerMinute": 7})
    both = [("acme", Lane.CHANGE), ("bolt", Lane.CHANGE)]
    assert await world.news() == both
    del world.cluster.objects[f"{API}/tenanttiers/standard"]
    world.later()
    assert [each for each in await world.news() if each[1] is Lane.CHANGE] == both


async def test_credentials_that_changed_or_went_are_news_for_those_who_use_them(world: World) -> None:
    both = [("acme", Lane.CHANGE), ("bolt", Lane.CHANGE)]
    world.credentials("c2s=")
    assert await world.news() == [], "written again, with the same content"
    world.credentials("c2stdHdv")
    assert await world.news() == both
    del world.cluster.objects[SECRET]
    assert await world.news() == both
    assert world.live.credentials == {}


async def test_only_the_content_tells_credentials_apart_and_it_is_not_kept(world: World) -> None:
    (known,) = world.live.credentials.values()
    assert known.content
    assert "c2s=" not in repr(world.live)
