"""Tenants as a watch tells of them: whom a change wakes, and in which lane."""

from datetime import UTC, datetime

from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.queue import Lane
from tenantry_operator.tenants import Tenants

from tests.unit.operator.tenants import UID, record
from tests.unit.operator.test_watch import Recorder

DYING = {"deletionTimestamp": datetime(2026, 1, 1, tzinfo=UTC).isoformat()}


def tenant(version: int, name: str = "acme", **metadata: object) -> TenantRecord:
    """A Tenant of that version."""
    meta = {"name": name, "uid": UID, "resourceVersion": str(version), "generation": 1, **metadata}
    return record({"metadata": meta, "spec": {"tier": "standard"}})


def sink() -> tuple[Tenants, Live, list[tuple[str, Lane]]]:
    """A sink, what it fills and what it adds to its queue."""
    live, queue = Live(), Recorder()
    return Tenants(live, queue), live, queue.added


def test_a_users_change_and_a_deletion_have_their_lanes_and_echoes_wake_nobody() -> None:
    taken, _, added = sink()
    taken.changed(tenant(1), False)
    taken.changed(tenant(1), False)
    taken.changed(tenant(2, **DYING), False)
    assert added == [("acme", Lane.CHANGE), ("acme", Lane.DELETION)]


def test_whoever_edits_labels_is_not_taken_for_a_user() -> None:
    taken, _, added = sink()
    taken.changed(tenant(1), False)
    taken.changed(tenant(2, labels={"team": "a"}), False)
    taken.changed(tenant(3, labels={"team": "a"}, generation=2), False)
    assert [lane for _, lane in added] == [Lane.CHANGE, Lane.PROGRESS, Lane.CHANGE]


def test_a_tenant_that_is_gone_is_looked_at_once_more() -> None:
    taken, live, added = sink()
    taken.changed(tenant(1), False)
    taken.changed(tenant(2), True)
    assert added[-1] == ("acme", Lane.PROGRESS)
    assert live.tenants == {}


def test_a_list_tells_of_what_is_new_and_of_what_has_gone_unseen_and_nobody_else_is_woken() -> None:
    taken, live, added = sink()
    taken.listed([tenant(1), tenant(2, "bolt")], "5")
    assert added == [("acme", Lane.RESYNC), ("bolt", Lane.RESYNC)]
    del added[:]
    taken.listed([tenant(1), tenant(8, "zeta")], "9")
    assert added == [("zeta", Lane.RESYNC), ("bolt", Lane.PROGRESS)]
    assert set(live.tenants) == {"acme", "zeta"}


def test_what_was_made_after_a_list_was_read_is_not_missed_in_it() -> None:
    taken, live, added = sink()
    taken.changed(tenant(7), False)
    taken.listed([], "6")
    assert set(live.tenants) == {"acme"}
    assert added == [("acme", Lane.CHANGE)]
