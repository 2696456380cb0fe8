"""Events of managed objects in, keys out."""

from datetime import UTC, datetime

import pytest
from tenantry_operator.children import Children
from tenantry_operator.kube.resources import CONFIG_MAPS, NAMESPACES, Resource
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import Child, LiveObject, ManagedMeta, child
from tenantry_operator.queue import Lane

from tests.unit.operator.tenants import SPACE, UID, record
from tests.unit.operator.test_watch import Recorder


def tenant(**metadata: object) -> TenantRecord:
    """The Tenant whose objects these are."""
    meta = {"name": "acme", "uid": UID, "resourceVersion": "1", "generation": 1, **metadata}
    return record({"metadata": meta, "spec": {"tier": "standard"}})


DYING = {"deletionTimestamp": datetime(2026, 1, 1, tzinfo=UTC).isoformat()}


class World:
    """What is known, and who was woken."""

    def __init__(self, owner: TenantRecord | None = None) -> None:
        self.live, self.queue = Live(), Recorder()
        if owner is not None:
            self.live.put_tenant(owner)

    def of(self, resource: Resource) -> Children:
        """Where events of this kind go."""
        return Children(resource, self.live, self.queue)

    def managed(self, version: int, *, resource: Resource = CONFIG_MAPS, tenant: str = "acme", uid: str = "u") -> Child:
        """A managed object of ``acme``'s namespace, or that namespace, with labels of ``tenant``."""
        space = SPACE if resource.namespaced else ""
        name = "a" if resource.namespaced else SPACE
        meta = ManagedMeta(
            name=name, uid=uid, resource_version=str(version), labels=names.labels(tenant), namespace=space
        )
        return child(resource.group_kind, LiveObject(meta))


def test_a_managed_object_wakes_its_tenant_when_it_changed_or_went_and_an_echo_does_not() -> None:
    world = World(tenant())
    taken = world.of(CONFIG_MAPS)
    taken.changed(world.managed(1), False)
    taken.changed(world.managed(2), False)
    taken.changed(world.managed(3), True)
    assert world.queue.added == [("acme", Lane.PROGRESS)] * 2


def test_an_object_that_was_put_back_outlives_the_late_news_of_its_loss() -> None:
    world = World(tenant())
    world.live.put_child(world.managed(5))
    world.of(CONFIG_MAPS).changed(world.managed(4), True)
    assert world.queue.added == []
    assert len(world.live.children("acme")) == 1


@pytest.mark.parametrize(("resource", "woken"), [(CONFIG_MAPS, []), (NAMESPACES, [("acme", Lane.DELETION)])])
def test_of_a_tenant_on_its_way_out_only_pods_and_namespace_matter(
    resource: Resource, woken: list[tuple[str, Lane]]
) -> None:
    world = World(tenant(**DYING))
    world.live.put_child(world.managed(2, resource=resource))
    world.of(resource).changed(world.managed(3, resource=resource), True)
    assert world.queue.added == woken


def test_an_object_labelled_as_another_tenants_is_missed_by_its_own() -> None:
    world = World(tenant())
    world.live.put_child(world.managed(1))
    world.of(CONFIG_MAPS).changed(world.managed(2, tenant="other"), False)
    assert world.queue.added == [("acme", Lane.PROGRESS)]
    assert world.live.children("acme") == world.live.children("other") == []


def test_a_list_finds_what_went_away_unseen_and_leaves_what_is_newer() -> None:
    world = World(tenant())
    world.live.put_child(world.managed(1))
    world.of(CONFIG_MAPS).listed([], "1")
    assert world.queue.added == [("acme", Lane.PROGRESS)]
    world.live.put_child(world.managed(9))
    world.of(CONFIG_MAPS).listed([], "5")
    assert len(world.live.children("acme")) == 1
