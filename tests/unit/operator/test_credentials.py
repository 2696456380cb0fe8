"""Copies of upstream credentials: read once for all tenants, anew when they have changed."""

import base64

import pytest
from aiohttp import web
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.traffic import Upstream
from tenantry_operator.apply.credentials import Credentials, content_digest
from tenantry_operator.kube.client import Client
from tenantry_operator.plan.facts import Failure

from tests.unit.operator.apiserver import Asked, refusal, serving

UPSTREAMS = (
    Upstream(name="openai", base_url="https://api.openai.com/v1", credentials_secret="openai"),
    Upstream(name="local", base_url="http://vllm.models/v1"),
)
SYSTEM = "tenantry-system"


def encoded(text: str) -> str:
    """As a Secret holds it."""
    return base64.b64encode(text.encode()).decode()


async def test_an_original_is_read_once_for_all_tenants_and_again_when_its_content_changes() -> None:
    held = encoded("first")

    async def answer(_: Asked) -> web.Response:
        return web.json_response({"metadata": {"name": "openai", "uid": "u1"}, "data": {"api-key": held}})

    async with serving(answer) as api, Client(api.access, manager="m") as client:
        credentials = Credentials(client, SYSTEM)
        contents = {"openai": content_digest("u1", held)}
        first = [await credentials.copies(tenant, UPSTREAMS, contents) for tenant in ("acme", "globex", "acme")]
        assert len(api.asked) == 1
        assert [[copy["data"] for copy in copies] for copies in first] == [[{"api-key": held}]] * 3

        held = encoded("second")
        (copy,) = await credentials.copies("acme", UPSTREAMS, {"openai": content_digest("u1", held)})
        assert copy["data"] == {"api-key": held}


async def test_one_that_has_gone_since_the_assessment_is_named() -> None:
    held: dict[str, str] = {"api-key": encoded("first")}

    async def answer(_: Asked) -> web.Response:
        if not held:
            return refusal(404, "NotFound")
        return web.json_response({"metadata": {"name": "openai", "uid": "u1"}, "data": held})

    async with serving(answer) as api, Client(api.access, manager="m") as client:
        credentials = Credentials(client, SYSTEM)
        await credentials.copies("acme", UPSTREAMS, {"openai": content_digest("u1", held["api-key"])})
        held.clear()
        with pytest.raises(Failure, match="Secret openai of tenantry-system has no field api-key") as failure:
            await credentials.copies("globex", UPSTREAMS, {})
    assert failure.value.reason is Reason.CREDENTIALS_NOT_FOUND
