"""API keys as Secrets: issued once, read ever after, replaced once for each rotation, never overwritten."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.resolve import ResolvedKey
from tenantry_operator.apply import keys, rights
from tenantry_operator.apply.keys import Issue
from tenantry_operator.apply.secrets import held
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.plan import names
from tenantry_operator.plan.facts import Failure
from tenantry_operator.plan.keys import IssuedKey, noted

from tests.unit.operator.apiserver import Asked, refusal, serving

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def wanted(name: str = "default", *, rotation: int = 0, grace: int = 3600) -> ResolvedKey:
    """What the spec says of a key."""
    return ResolvedKey(name=name, rotation=rotation, grace_period_seconds=grace, expires_at=None)


class Secrets:
    """Secrets of one namespace: POST creates only, PATCH tests uid and resourceVersion, as the API server does."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.forbidden = 0
        #: What another writer does right before the next patch arrives.
        self.meanwhile: Callable[[dict[str, Any]], None] = lambda _: None

    async def answer(self, asked: Asked) -> web.Response:
        """List by label, GET, POST and merge patch."""
        if self.forbidden:
            self.forbidden -= 1
            return refusal(403, "Forbidden")
        name = asked.path.rpartition("/")[2]
        if asked.method == "GET" and name == "secrets":
            key, _, value = asked.query["labelSelector"].partition("=")
            listed = [each for each in self.stored.values() if each["metadata"].get("labels", {}).get(key) == value]
            return web.json_response({"items": listed})
        if asked.method == "GET":
            found = self.stored.get(name)
            return web.json_response(found) if found else refusal(404, "NotFound")
        body = msgspec.json.decode(asked.body)
        if asked.method == "PATCH":
            return self._patch(self.stored[name], body)
        name = body["metadata"]["name"]
        if name in self.stored:
            return refusal(409, "AlreadyExists")
        body["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": "1"}
        self.stored[name] = {**body, "data": _encoded(body.pop("stringData"))}
        return web.json_response(self.stored[name], status=201)

    def _patch(self, secret: dict[str, Any], body: dict[str, Any]) -> web.Response:
        meanwhile, self.meanwhile = self.meanwhile, lambda _: None
        meanwhile(secret)
        meta, change = secret["metadata"], body["metadata"]
        if (meta["uid"], meta["resourceVersion"]) != (change["uid"], change["resourceVersion"]):
            return refusal(409, "Conflict")
        meta["annotations"] = {**meta.get("annotations", {}), **change["annotations"]}
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
        secret["data"] |= _encoded(body.get("stringData", {}))
        return web.json_response(secret)

    def content(self, name: str) -> str:
        """The key that a Secret holds."""
        return base64.b64decode(self.stored[name]["data"][names.SECRET_FIELD]).decode()


def _encoded(values: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


async def ensure(client: Client, *keys_wanted: ResolvedKey, fresh: bool = False, now: datetime = NOW) -> list[Issue]:
    """Acme's keys as they should be now."""
    known = None if fresh else await held(client, "acme")
    return list(await keys.ensure(client, "acme", keys_wanted, known, now))


def test_a_key_has_its_id_and_secret_apart_and_is_never_the_same_twice() -> None:
    made = {keys.new_key() for _ in range(200)}
    assert len(made) == 200
    for key in made:
        prefix, key_id, secret = key.split("_", 2)
        assert keys.digest_of(key) == (key_id, hashlib.sha256(key.encode()).hexdigest())
        assert prefix == "tn"
        assert len(key_id) == keys.KEY_ID_LENGTH
        assert len(secret) >= 32


@pytest.mark.parametrize("key", ["", "tn", "tn_", "tn_id", "tn_id_", "sk-123", "tn__secret"])
def test_what_is_no_key_is_not_taken_for_one(key: str) -> None:
    assert keys.digest_of(key) is None


@pytest.mark.parametrize("fresh", [True, False])
async def test_two_operators_at_once_issue_one_key(fresh: bool) -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        one, two = await asyncio.gather(
            ensure(client, wanted("default"), wanted("ci"), fresh=fresh),
            ensure(client, wanted("default"), wanted("ci"), fresh=fresh),
        )
    assert one == two
    assert set(secrets.stored) == {"key-default", "key-ci"}
    assert (one[0].key.id, one[0].key.sha256) == keys.digest_of(secrets.content("key-default"))


async def test_what_was_issued_is_only_read() -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        first = await ensure(client, wanted(rotation=3), fresh=True)
        del api.asked[:]
        assert await ensure(client, wanted(rotation=3)) == first
        assert [asked.method for asked in api.asked] == ["GET"]


async def test_a_rotation_replaces_the_key_and_notes_the_former_in_one_write() -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        (first,) = await ensure(client, wanted(), fresh=True)
        former = secrets.content("key-default")
        del api.asked[:]
        (second,) = await ensure(client, wanted(rotation=1))
        assert [asked.method for asked in api.asked] == ["GET", "PATCH"]
        assert await ensure(client, wanted(rotation=1)) == [Issue(second.key)]
    current = secrets.content("key-default")
    assert current != former
    assert second.replaced == first.key
    assert not second.tampered
    assert (second.key.id, second.key.sha256) == keys.digest_of(current)
    assert [(each.id, each.until) for each in second.key.former] == [(first.key.id, NOW + timedelta(hours=1))]
    note = secrets.stored["key-default"]["metadata"]["annotations"][names.KEY_NOTE]
    for key in (former, current):
        assert key.split("_", 2)[2] not in note


async def test_two_operators_rotate_once() -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        await ensure(client, wanted(), fresh=True)
        results = await asyncio.gather(*(ensure(client, wanted(rotation=1)) for _ in range(5)))
    assert len({result[0].key for result in results}) == 1
    assert [result[0].replaced is not None for result in results].count(True) == 1
    assert len(results[0][0].key.former) == 1


async def test_a_rotation_that_somebody_else_has_done_meanwhile_is_taken_as_it_is() -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        await ensure(client, wanted(), fresh=True)
        theirs = keys.new_key()
        known = keys.digest_of(theirs)
        assert known is not None
        note = noted(IssuedKey(name="default", id=known[0], sha256=known[1], rotation=1))

        def rotate(secret: dict[str, Any]) -> None:
            secret["data"] = _encoded({names.SECRET_FIELD: theirs})
            secret["metadata"] |= {"resourceVersion": "2", "annotations": {names.KEY_NOTE: note}}

        secrets.meanwhile = rotate
        (issue,) = await ensure(client, wanted(rotation=1))
    assert issue.replaced is None
    assert (issue.key.id, issue.key.sha256) == keys.digest_of(theirs)
    assert secrets.content("key-default") == theirs


async def test_a_killed_operator_has_rotated_or_not_but_never_twice() -> None:
    """Killed after the write, the next run finds it done; its grace is the one that was granted then."""
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        await ensure(client, wanted(), fresh=True)
        (done,) = await ensure(client, wanted(rotation=1))
        (again,) = await ensure(client, wanted(rotation=1), now=NOW + timedelta(minutes=30))
        assert again == Issue(done.key)
        del api.asked[:]
        (ended,) = await ensure(client, wanted(rotation=1), now=NOW + timedelta(hours=1))
        assert [asked.method for asked in api.asked] == ["GET", "PATCH"]
    assert ended.key.former == ()
    assert ended.key.id == done.key.id


async def test_a_secret_without_a_readable_note_keeps_its_key_and_gets_a_new_note() -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        (first,) = await ensure(client, wanted(rotation=2), fresh=True)
        for broken in ("", "{", '{"rotation": "x"}', '{"former": [{"id": "a"}]}'):
            secrets.stored["key-default"]["metadata"]["annotations"] = {names.KEY_NOTE: broken}
            (issue,) = await ensure(client, wanted(rotation=2))
            assert issue == Issue(first.key)
            assert (await ensure(client, wanted(rotation=2)))[0] == issue


@pytest.mark.parametrize("value", ["tn_mallorysownx_chosenbymallory", "no key at all", ""])
async def test_a_key_that_somebody_wrote_into_the_secret_never_opens_the_door(value: str) -> None:
    secrets = Secrets()
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        (first,) = await ensure(client, wanted(rotation=2), fresh=True)
        secrets.stored["key-default"]["data"] = _encoded({names.SECRET_FIELD: value})
        (issue,) = await ensure(client, wanted(rotation=1))
    assert issue.replaced == first.key
    assert issue.tampered
    assert issue.key.rotation == 2
    assert (issue.key.id, issue.key.sha256) == keys.digest_of(secrets.content("key-default"))
    assert [each.id for each in issue.key.former] == [first.key.id]


async def test_rights_that_arrive_late_are_waited_for_in_a_new_namespace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "PAUSE", 0.0)
    secrets = Secrets()
    secrets.forbidden = 3
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        assert len(await ensure(client, wanted(), fresh=True)) == 1
        secrets.forbidden = 1
        with pytest.raises(errors.Forbidden):
            await ensure(client, wanted("other"))


async def test_a_secret_that_is_not_ours_is_neither_used_nor_overwritten() -> None:
    secrets = Secrets()
    secrets.stored["key-default"] = {"metadata": {"name": "key-default"}, "data": {}}
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        with pytest.raises(Failure, match="was not made by the operator") as caught:
            await ensure(client, wanted(), fresh=True)
    assert caught.value.reason is Reason.OBJECT_CONFLICT
    assert secrets.stored["key-default"]["data"] == {}


@pytest.mark.parametrize("value", ["", "bm8ga2V5", "!!!"])
async def test_a_secret_of_ours_without_a_key_is_reported_with_the_remedy(value: str) -> None:
    secrets = Secrets()
    metadata = {"name": "key-default", "labels": names.labels("acme")}
    secrets.stored["key-default"] = {"metadata": metadata, "data": {names.SECRET_FIELD: value}}
    async with serving(secrets.answer) as api, Client(api.access, manager="m") as client:
        with pytest.raises(Failure, match="delete it"):
            await ensure(client, wanted())
