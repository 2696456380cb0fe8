"""The roll-out loop: what it writes, in which order, and what it leaves alone."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from aiohttp import web
from msgspec.structs import replace
from tenantry_operator import metrics
from tenantry_operator.api.rollout import Standing
from tenantry_operator.api.tenant import TenantStatus
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.plan.waves import Phase
from tenantry_operator.render import Objects
from tenantry_operator.rollout import Rollouts

from tests.unit.operator.apiserver import Api, Asked, refusal, serving
from tests.unit.operator.tenants import PLATFORM, settled

NOW = datetime(2026, 2, 1, tzinfo=UTC)
Metadata = dict[str, object]


class Chart:
    """A renderer of which only the identity is asked."""

    chart = "tenant-0.1.0"

    def digest(self, values: object) -> str:
        """Always the same chart."""
        return "chart"

    async def render(self, release: str, namespace: str, values: object) -> Objects:
        """Nobody asks."""
        raise AssertionError


class Stored:
    """The API server's side: tiers with their status, revisions, and what may not be written."""

    def __init__(self) -> None:
        self.version = 100
        self.revisions: list[dict[str, object]] = []
        self.statuses: list[dict[str, object]] = []
        self.refuses = ""

    async def answer(self, asked: Asked) -> web.Response:
        """As the API server would."""
        if self.refuses and self.refuses in asked.path and asked.method != "GET":
            return refusal(500, "InternalError")
        if asked.path.endswith("/controllerrevisions"):
            if asked.method == "GET":
                return web.json_response({"items": self.revisions, "metadata": {"resourceVersion": "1"}})
            self.revisions.append(msgspec.json.decode(asked.body))
        if asked.method == "DELETE":
            gone = asked.path.rpartition("/")[2]
            self.revisions = [each for each in self.revisions if gone not in str(each)]
        if asked.path.endswith("/status"):
            self.statuses.append(msgspec.json.decode(asked.body)["status"])
            return web.json_response(self.tier(status=self.statuses[-1]))
        return web.json_response({})

    def tier(self, *, status: object = None, **spec: object) -> dict[str, object]:
        """The tier's JSON, newer than before."""
        self.version += 1
        said = {"rollout": {"waves": [50, 100], "pause": "1m"}, **spec}
        metadata = {"name": "standard", "uid": "tier", "generation": 1, "resourceVersion": str(self.version)}
        return {"metadata": metadata, "spec": said, "status": status or {}}


def ready(live: Live, name: str, revision: str) -> None:
    """A Ready Tenant that is on this revision."""
    seen = settled()
    known = live.tenants.get(name)
    version = str(int(known.meta.resource_version) + 1 if known else 1)
    meta = replace(seen.meta, name=name, uid=f"uid-{name}", resource_version=version)
    status: TenantStatus = replace(seen.status, rollout=Standing(revision=revision))
    live.put_tenant(TenantRecord(meta, status, seen.tenant))


def rollouts(api: Api, client: Client, live: Live, wake: Callable[[str], None]) -> Rollouts:
    """The loop on this API server, at a standing time."""
    recorder = Recorder(client, controller="c", instance="i")
    return Rollouts(client, live, Chart(), recorder, PLATFORM, wake, now=lambda: NOW, clock=lambda: 1000.0)


def wrote(api: Api) -> list[str]:
    """What was written to, in order."""
    return [asked.path.rpartition("/")[2] for asked in api.asked if asked.method != "GET"]


async def test_a_revision_is_stored_and_a_wave_noted_before_anybody_is_woken_by_it() -> None:
    store, live = Stored(), Live()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        at_wake: list[tuple[str, int]] = []
        loop = rollouts(api, client, live, lambda name: at_wake.append((name, len(wrote(api)))))
        live.put_tier(store.tier())
        await loop.everything()
        (old,) = live.revisions
        for name in ("a", "b"):
            ready(live, name, old)
        live.put_tier(store.tier(budget={"amount": "1"}, status=store.statuses[-1]))
        del api.asked[:]
        await loop.everything()
        assert wrote(api)[:2] == ["controllerrevisions", "status"]
        assert [writes for _, writes in at_wake] == [3]  # the Event came, too
        assert store.statuses[-1]["wave"] == 1
        assert live.decisions["standard"].may_move == {at_wake[0][0]}


@pytest.mark.parametrize("refuses", ["controllerrevisions", "status"])
async def test_nobody_moves_by_what_could_not_be_noted(refuses: str) -> None:
    store, live, woken = Stored(), Live(), list[str]()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        loop = rollouts(api, client, live, woken.append)
        live.put_tier(store.tier())
        await loop.everything()
        (old,) = live.revisions
        ready(live, "a", old)
        live.put_tier(store.tier(budget={"amount": "1"}, status=store.statuses[-1]))
        store.refuses = refuses
        await loop.everything()
        assert woken == []
        assert live.decisions["standard"].target == old


async def test_a_start_with_nothing_new_writes_nothing() -> None:
    store, live = Stored(), Live()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        live.put_tier(store.tier())
        await rollouts(api, client, live, lambda _: None).everything()
        (revision,) = live.revisions
        ready(live, "a", revision)
        await rollouts(api, client, live, lambda _: None).everything()
        again, status = Live(), store.statuses[-1]
        again.put_tier(store.tier(status=status))
        ready(again, "a", revision)
        del api.asked[:]
        await rollouts(api, client, again, lambda _: None).everything()
        assert wrote(api) == []
        assert again.decisions["standard"].phase is Phase.COMPLETE


async def test_numbers_that_change_often_are_written_now_and_then() -> None:
    store, live = Stored(), Live()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        loop = rollouts(api, client, live, lambda _: None)
        live.put_tier(store.tier())
        await loop.everything()
        (revision,) = live.revisions
        before = len(store.statuses)
        for name in ("a", "b", "c"):
            ready(live, name, revision)
            await loop.everything()
        assert len(store.statuses) == before


async def test_who_is_only_just_coming_to_the_tier_does_not_disturb_its_peace() -> None:
    store, live = Stored(), Live()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        loop = rollouts(api, client, live, lambda _: None)
        live.put_tier(store.tier())
        await loop.everything()
        ready(live, "a", "other-tier-1")
        await loop.everything()
        assert live.decisions["standard"].phase is Phase.COMPLETE


async def test_a_rollback_to_a_revision_that_nobody_knows_moves_nobody_and_says_so() -> None:
    store, live = Stored(), Live()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        loop = rollouts(api, client, live, lambda _: None)
        live.put_tier(store.tier(rollout={"rollbackTo": "standard-gone"}))
        await loop.everything()
        assert live.decisions["standard"].phase is Phase.PAUSED
        assert "standard-gone" in str(store.statuses[-1]["conditions"])


async def test_old_revisions_go_but_none_that_a_tenant_is_on() -> None:
    store, live = Stored(), Live()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        loop = rollouts(api, client, live, lambda _: None)
        for amount in range(1, 15):
            live.put_tier(
                store.tier(budget={"amount": str(amount)}, status=store.statuses[-1] if store.statuses else {})
            )
            await loop.everything()
            if amount == 1:
                (first,) = live.revisions
                ready(live, "a", first)
                live.tenants["a"] = replace_pin(live.tenants["a"], first)
        deleted = [asked.path.rpartition("/")[2] for asked in api.asked if asked.method == "DELETE"]
        assert len(deleted) == len(set(deleted)) == 2
        assert first not in deleted


def replace_pin(record: TenantRecord, revision: str) -> TenantRecord:
    """The Tenant, pinned to this revision."""
    tenant = settled().tenant
    assert not isinstance(tenant, ValueError)
    return TenantRecord(record.meta, record.status, replace(tenant, spec=replace(tenant.spec, tier_revision=revision)))


async def test_what_a_tier_leaves_behind_goes_except_the_revisions_that_tenants_are_on() -> None:
    store, live = Stored(), Live()
    async with serving(store.answer) as api, Client(api.access, manager="m") as client:
        loop = rollouts(api, client, live, lambda _: None)
        live.put_tier(store.tier())
        await loop.everything()
        (used,) = live.revisions
        ready(live, "a", used)
        live.put_tier(store.tier(budget={"amount": "1"}, status=store.statuses[-1]))
        await loop.everything()
        label = {"tier": "standard"}
        assert metrics.REGISTRY.get_sample_value("tenantry_rollout_halted", label) == 0
        live.drop_tier("standard", store.version)
        await loop.attend("standard")
        assert metrics.REGISTRY.get_sample_value("tenantry_rollout_halted", label) is None
        assert list(live.revisions) == [used]
