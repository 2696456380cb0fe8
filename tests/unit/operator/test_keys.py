"""API keys: issued once, read ever after, never overwritten."""

import asyncio
import base64
import hashlib

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.api.conditions import Reason
from tenantry_operator.apply import keys, rights
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.plan import names
from tenantry_operator.plan.assess import Failure

from tests.unit.operator.apiserver import Asked, refusal, serving


class Secrets:
    """Secrets of one namespace, with create-only POST."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, object]] = {}
        self.forbidden = 0

    async def answer(self, asked: Asked) -> web.Response:
        """GET and POST as the API server does them."""
        if self.forbidden:
            self.forbidden -= 1
            return refusal(403, "Forbidden")
        if asked.method == "GET":
            found = self.stored.get(asked.path.rpartition("/")[2])
            return web.json_response(found) if found else refusal(404, "NotFound")
        body = msgspec.json.decode(asked.body)
        name = body["metadata"]["name"]
        if name in self.stored:
            return refusal(409, "AlreadyExists")
        data = {key: base64.b64encode(value.encode()).decode() for key, value in body.pop("stringData").items()}
        self.stored[name] = {**body, "data": data}
        return web.json_response(self.stored[name], status=201)

    def content(self, name: str) -> str:
        """The key that a Secret holds."""
        data = self.stored[name]["data"]
        assert isinstance(data, dict)
        return base64.b64decode(data[names.SECRET_FIELD]).decode()


def test_a_key_has_its_id_and_secret_apart_and_is_never_the_same_twice() -> None:
    made = {keys.new_key() for _ in range(200)}
    assert len(made) == 200
    for key in made:
        prefix, key_id, secret = key.split("_", 2)
        record = keys.issued("k", key)
        assert record is not None
        assert (prefix, record.id) == ("tn", key_id)
        assert len(key_id) == keys.KEY_ID_LENGTH
        assert len(secret) >= 32
        assert record.sha256 == hashlib.sha256(key.encode()).hexdigest()


@pytest.mark.parametrize("key", ["", "tn", "tn_", "tn_id", "tn_id_", "sk-123", "tn__secret"])
def test_what_is_no_key_is_not_taken_for_one(key: str) -> None:
    assert keys.issued("k", key) is None


@pytest.mark.parametrize("fresh", [True, False])
async def test_two_operators_at_once_issue_one_key(fresh: bool) -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        one, two = await asyncio.gather(
            keys.ensure(client, "acme", ["default", "ci"], fresh=fresh),
            keys.ensure(client, "acme", ["default", "ci"], fresh=fresh),
        )
    assert one == two
    assert set(secrets.stored) == {"key-default", "key-ci"}
    assert one[0] == keys.issued("default", secrets.content("key-default"))


async def test_what_was_issued_is_only_read() -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        first = await keys.ensure(client, "acme", ["default"], fresh=True)
        del api.asked[:]
        assert await keys.ensure(client, "acme", ["default"], fresh=False) == first
        assert [asked.method for asked in api.asked] == ["GET"]


async def test_rights_that_arrive_late_are_waited_for_in_a_new_namespace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "PAUSE", 0.0)
    secrets = Secrets()
    secrets.forbidden = 3
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        assert len(await keys.ensure(client, "acme", ["default"], fresh=True)) == 1
        secrets.forbidden = 1
        with pytest.raises(errors.Forbidden):
            await keys.ensure(client, "acme", ["other"], fresh=False)


async def test_a_secret_that_is_not_ours_is_neither_used_nor_overwritten() -> None:
    secrets = Secrets()
    secrets.stored["key-default"] = {"metadata": {"name": "key-default"}, "data": {}}
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        with pytest.raises(Failure, match="was not made by the operator") as caught:
            await keys.ensure(client, "acme", ["default"], fresh=True)
    assert caught.value.reason is Reason.OBJECT_CONFLICT
    assert secrets.stored["key-default"]["data"] == {}


@pytest.mark.parametrize("value", ["", "bm8ga2V5", "!!!"])
async def test_a_secret_of_ours_without_a_key_is_reported_with_the_remedy(value: str) -> None:
    secrets = Secrets()
    metadata = {"name": "key-default", "labels": names.labels("acme")}
    secrets.stored["key-default"] = {"metadata": metadata, "data": {names.SECRET_FIELD: value}}
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        with pytest.raises(Failure, match="delete it"):
            await keys.ensure(client, "acme", ["default"], fresh=False)
