"""A namespace that was not made for its Tenant."""

from typing import Any

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.apply import namespace as namespaces
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.plan import names

from tests.unit.operator.apiserver import Asked, refusal, serving
from tests.unit.operator.tenants import SPACE, UID

GONE = "2026-01-01T00:00:00Z"


class Namespace:
    """One namespace; a patch of another version is refused."""

    def __init__(self, **metadata: Any) -> None:
        self.metadata = {"name": SPACE, "uid": "namespace-uid", "resourceVersion": "5", **metadata}
        self.patches: list[dict[str, Any]] = []
        self.version = "5"

    async def answer(self, asked: Asked) -> web.Response:
        """GET and merge patch."""
        if asked.method == "GET":
            return web.json_response({"metadata": self.metadata})
        change = msgspec.json.decode(asked.body)["metadata"]
        if (change["uid"], change["resourceVersion"]) != (self.metadata["uid"], self.version):
            return refusal(409, "Conflict")
        self.patches.append(change)
        return web.json_response({"metadata": self.metadata})


async def adopted(namespace: Namespace) -> bool:
    async with serving(namespace.answer) as api, Client(api.access, manager="m") as client:
        return await namespaces.adopt(client, "acme", UID)


async def test_a_namespace_that_says_so_is_taken_over_and_says_so_no_more() -> None:
    namespace = Namespace(annotations={names.ADOPT: "true"})
    assert await adopted(namespace)
    (patch,) = namespace.patches
    assert patch["annotations"] == {names.TENANT_UID: UID, names.ADOPT: None}
    assert patch["labels"] == names.labels("acme")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"annotations": {names.ADOPT: "false"}},
        {"annotations": {names.ADOPT: ""}},
        {"annotations": {names.ADOPT: "true"}, "deletionTimestamp": GONE},
        {"labels": {names.ADOPT: "true"}},
    ],
)
async def test_no_other_namespace_is_touched(metadata: dict[str, Any]) -> None:
    namespace = Namespace(**metadata)
    assert not await adopted(namespace)
    assert namespace.patches == []


async def test_consent_that_was_withdrawn_meanwhile_does_not_count() -> None:
    namespace = Namespace(annotations={names.ADOPT: "true"})
    namespace.version = "6"
    with pytest.raises(errors.Conflict):
        await adopted(namespace)
