"""Pods that are told to look at their policy again."""

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.apply import pods
from tenantry_operator.kube.client import Client

from tests.unit.operator.apiserver import Asked, serving
from tests.unit.operator.tenants import SPACE

WANTED = {"tenantry.dev/policy-revision": "new"}


@pytest.mark.parametrize(
    ("phase", "annotations", "told"),
    [
        ("Running", {}, True),
        ("Running", {"tenantry.dev/policy-revision": "old"}, True),
        ("Running", WANTED | {"other": "kept"}, False),
        # It may have mounted the policy as it was a moment ago, and begins to answer in the next.
        ("Pending", {}, True),
        ("Succeeded", {}, False),
        ("Failed", {}, False),
    ],
)
async def test_every_pod_that_may_answer_by_an_old_policy_is_told(
    phase: str, annotations: dict[str, str], told: bool
) -> None:
    patched: list[dict[str, str]] = []

    async def answer(asked: Asked) -> web.Response:
        if asked.method == "GET":
            pod = {"metadata": {"name": "api-1", "annotations": annotations}, "status": {"phase": phase}}
            return web.json_response({"items": [pod]})
        patched.append(msgspec.json.decode(asked.body)["metadata"]["annotations"])
        return web.json_response({})

    async with serving(answer) as api, Client(api.access, manager="m") as client:
        assert await pods.refresh(client, SPACE, "acme", WANTED) == int(told)
    assert patched == ([WANTED] if told else [])
