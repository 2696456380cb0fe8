"""What ends in the status although no step has foreseen it."""

import msgspec
from aiohttp import web
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder
from tenantry_operator.live import Live
from tenantry_operator.queue import Turn
from tenantry_operator.reconcile import PATIENCE, Reconciler
from tenantry_operator.render import Objects

from tests.unit.operator.apiserver import Asked, serving
from tests.unit.operator.tenants import PLATFORM, UID, record


class BrokenRenderer:
    """A renderer with a bug."""

    chart = "tenant-0.1.0"

    def digest(self, values: object) -> str:
        """The bug."""
        raise ZeroDivisionError

    async def render(self, release: str, namespace: str, values: object) -> Objects:
        """Not reached."""
        return ()


RAW: dict[str, object] = {
    "metadata": {"name": "acme", "uid": UID, "generation": 1, "resourceVersion": "7"},
    "spec": {"tier": "standard"},
}


async def test_a_bug_shows_in_the_status_once_it_is_no_passing_one() -> None:
    written: list[dict[str, object]] = []

    async def answer(asked: Asked) -> web.Response:
        if asked.path.endswith("/status"):
            written.append(msgspec.json.decode(asked.body)["status"])
            return web.json_response({**RAW, "status": written[-1]})
        return web.json_response({})

    async with serving(answer) as api, Client(api.access, manager="m") as client:
        live = Live()
        live.put_tenant(record(RAW))
        recorder = Recorder(client, controller="c", instance="i")
        reconciler = Reconciler(
            client=client, live=live, renderer=BrokenRenderer(), recorder=recorder, platform=PLATFORM
        )
        await reconciler.unforeseen("acme", Turn(attempt=PATIENCE - 1), ZeroDivisionError())
        assert written == []
        await reconciler.unforeseen("acme", Turn(attempt=PATIENCE), ZeroDivisionError())
    (status,) = written
    conditions = {each["type"]: each for each in msgspec.convert(status["conditions"], list[dict[str, object]])}
    assert conditions["Stalled"]["status"] == "True"
    assert conditions["Stalled"]["reason"] == "InternalError"
    assert "ZeroDivisionError" in str(conditions["Stalled"]["message"])


async def test_a_tenant_that_nobody_knows_needs_nothing() -> None:
    async def answer(_: Asked) -> web.Response:
        raise AssertionError("no request expected")

    async with serving(answer) as api, Client(api.access, manager="m") as client:
        recorder = Recorder(client, controller="c", instance="i")
        reconciler = Reconciler(
            client=client, live=Live(), renderer=BrokenRenderer(), recorder=recorder, platform=PLATFORM
        )
        assert await reconciler.reconcile("gone", Turn()) is None
        assert api.asked == []
