"""Events in, keys out: whom an event wakes, and in which lane."""

from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.queue import Lane, Turn, WorkQueue
from tenantry_operator.watch import Intake

from tests.unit.operator.tenants import UID, record


async def nothing(_key: str, _turn: Turn) -> float | None:
    """No work."""
    return None


class Recorder(WorkQueue):
    """Notes what is added."""

    def __init__(self) -> None:
        super().__init__(nothing)
        self.added: list[tuple[str, Lane]] = []

    def add(self, key: str, lane: Lane) -> None:
        """Note it."""
        self.added.append((key, lane))


def intake() -> tuple[Intake, list[tuple[str, Lane]]]:
    """An intake and what it adds to its queue."""
    queue = Recorder()
    return Intake(Live(), queue), queue.added


def test_a_tier_and_a_credential_wake_those_who_use_them() -> None:
    taken, added = intake()
    taken.live.put_tenant(record({"metadata": {"name": "acme", "uid": UID}, "spec": {"tier": "standard"}}))
    upstream = {"name": "a", "baseURL": "https://a.example/v1", "credentialsSecret": "openai"}
    tier = {"metadata": {"name": "standard", "resourceVersion": "1"}, "spec": {"upstreams": [upstream]}}
    taken.tier(False, tier)
    secret = {"metadata": {"name": "openai", "uid": "u", "resourceVersion": "2"}, "data": {names.SECRET_FIELD: "eA=="}}
    taken.credential(False, secret)
    taken.credential(True, secret)
    taken.tier(True, tier)
    assert added == [("acme", Lane.CHANGE)] * 4


def test_the_content_of_a_credential_is_not_kept() -> None:
    taken, _ = intake()
    secret = {"metadata": {"name": "openai", "uid": "u", "resourceVersion": "2"}, "data": {names.SECRET_FIELD: "c2s="}}
    taken.credential(False, secret)
    assert taken.live.credentials["openai"].content
    assert "c2s=" not in repr(taken.live)


def test_any_event_shows_that_the_streams_are_alive() -> None:
    now = [0.0]
    taken = Intake(Live(), Recorder(), clock=lambda: now[0])
    now[0] = 50.0
    assert taken.age() == 50.0
    taken.heard("Lease", False, listed=False)
    assert taken.age() == 0.0


def test_a_stream_that_begins_anew_asks_for_complete_lists() -> None:
    asked: list[bool] = []
    taken = Intake(Live(), Recorder(), relisted=lambda: asked.append(True))
    taken.heard("TenantTier", False, listed=False)
    assert asked == []
    taken.heard("TenantTier", False, listed=True)
    assert asked == [True]
