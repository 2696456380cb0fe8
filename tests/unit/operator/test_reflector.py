"""Listing and following one kind, against a real HTTP server."""

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.kube import reflector
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.reflector import Reflector
from tenantry_operator.kube.resources import CONFIG_MAPS

from tests.unit.operator.apiserver import PATIENCE, Api, Asked, refusal, serving


class Meta(msgspec.Struct, rename="camel"):
    """What these tests read."""

    name: str
    resource_version: str


class Named(msgspec.Struct):
    """What these tests read of an object."""

    metadata: Meta


class Seen:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.lists: list[tuple[list[str], str]] = []
        self.changes: list[tuple[str, bool]] = []

    def listed(self, found: list[str], as_of: str) -> None:
        """A list."""
        self.lists.append((found, as_of))

    def changed(self, item: str, gone: bool) -> None:
        """A change."""
        self.changes.append((item, gone))


def thing(name: str, version: int) -> dict[str, object]:
    """An object."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, body: object) -> str:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": body}) + "\n"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(reflector, "MISSING_PAUSE", 0.0)


class Script:
    """An API server that answers the n-th list and the n-th watch as told; after the last, streams stay silent."""

    def __init__(self, lists: list[web.Response], watches: list[str | web.Response]) -> None:
        self._lists, self._watches = iter(lists), iter(watches)
        self.exhausted = asyncio.Event()

    async def __call__(self, asked: Asked) -> web.Response:
        """Answer."""
        if "watch" not in asked.query:
            return next(self._lists)
        found = next(self._watches, None)
        if found is None:
            self.exhausted.set()
            await asyncio.sleep(PATIENCE)
            return web.Response()
        return web.Response(text=found) if isinstance(found, str) else found


def listing(version: int, *names: str) -> web.Response:
    """A list of that version."""
    return web.json_response({"items": [thing(n, 1) for n in names], "metadata": {"resourceVersion": str(version)}})


async def followed(
    script: Script, *, metadata_only: bool = False, missing: Callable[[], None] | None = None
) -> tuple[Seen, Api]:
    """Run a reflector until the script is at its end."""
    seen = Seen()
    async with serving(script) as api, Client(api.access, manager="m") as client:
        following = Reflector(
            client,
            CONFIG_MAPS,
            seen,
            labels="ours=yes",
            into=Named,
            keep=lambda item: item.metadata.name,
            metadata_only=metadata_only,
            missing=missing,
        )
        running = asyncio.create_task(following.run())
        async with asyncio.timeout(PATIENCE):
            await script.exhausted.wait()
        assert following.synced.is_set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return seen, api


def watched_from(api: Api) -> list[str]:
    """The versions from which it was watched."""
    return [asked.query["resourceVersion"] for asked in api.asked if "watch" in asked.query]


async def test_it_goes_on_from_its_list_and_then_from_the_last_version_that_it_heard_of() -> None:
    first = event("ADDED", thing("b", 8)) + event("DELETED", thing("a", 9)) + event("BOOKMARK", thing("", 20))
    seen, api = await followed(Script([listing(7, "a")], [first, event("MODIFIED", thing("b", 21))]))
    assert seen.lists == [(["a"], "7")]
    assert seen.changes == [("b", False), ("a", True), ("b", False)]
    assert watched_from(api) == ["7", "20", "21"]
    assert {asked.query["labelSelector"] for asked in api.asked} == {"ours=yes"}


@pytest.mark.parametrize(
    "expired", [event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}), refusal(410, "Expired")]
)
async def test_only_a_version_that_is_too_old_leads_to_a_new_list(expired: str | web.Response) -> None:
    seen, api = await followed(Script([listing(7, "a"), listing(50, "c")], [expired]))
    assert seen.lists == [(["a"], "7"), (["c"], "50")]
    assert watched_from(api) == ["7", "50"]


async def test_an_empty_list_of_metadata_has_null_for_items_and_is_asked_for_as_such() -> None:
    nothing = web.json_response({"items": None, "metadata": {"resourceVersion": "7"}})
    seen, api = await followed(Script([nothing], []), metadata_only=True)
    assert seen.lists == [([], "7")]
    asked_for = [asked.headers["Accept"] for asked in api.asked]
    assert asked_for[0].startswith("application/json;as=PartialObjectMetadataList;")
    assert asked_for[1].startswith("application/json;as=PartialObjectMetadata;")


async def test_a_failing_server_is_asked_again_from_where_we_were() -> None:
    cut = event("ADDED", thing("b", 8))
    script = Script([refusal(500, "InternalError"), listing(7)], [cut, refusal(503, "ServiceUnavailable")])
    seen, api = await followed(script)
    assert seen.lists == [([], "7")]
    assert watched_from(api) == ["7", "8", "8"]


async def test_a_line_that_arrives_in_pieces_is_one_event() -> None:
    line = event("ADDED", thing("é" * 40_000, 8))
    seen, _ = await followed(Script([listing(7)], [line]))
    assert seen.changes == [("é" * 40_000, False)]


async def test_a_silent_stream_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "SILENCE", 0.05)
    heard, asked_again = False, asyncio.Event()

    async def silent(asked: Asked) -> web.Response:
        if "watch" not in asked.query:
            return listing(7)
        nonlocal heard
        if heard:
            asked_again.set()
        heard = True
        await asyncio.sleep(PATIENCE)
        return web.Response()

    async with serving(silent) as api, Client(api.access, manager="m") as client:
        following = Reflector(client, CONFIG_MAPS, Seen(), labels="", into=Named, keep=lambda item: item.metadata.name)
        running = asyncio.create_task(following.run())
        async with asyncio.timeout(PATIENCE):
            await asked_again.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_without_bookmarks_a_stream_is_short_and_its_being_granted_shows_that_the_server_hears() -> None:
    clock = iter(range(1000))
    script = Script([listing(7)], ["", ""])
    async with serving(script) as api, Client(api.access, manager="m") as client:
        following = Reflector(
            client,
            CONFIG_MAPS,
            Seen(),
            labels="",
            into=Named,
            keep=lambda item: item.metadata.name,
            bookmarks=False,
            clock=lambda: float(next(clock)),
        )
        running = asyncio.create_task(following.run())
        async with asyncio.timeout(PATIENCE):
            await script.exhausted.wait()
        # Ticks of this clock are calls: made, listed, granted twice, asked now.
        assert following.age() == 1.0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    seconds = [int(asked.query["timeoutSeconds"]) for asked in api.asked if "watch" in asked.query]
    shortest, longest = reflector.UNMARKED_SECONDS
    assert all(shortest <= each <= longest < reflector.SILENCE for each in seconds)
    assert watched_from(api) == ["7"] * 3


async def test_a_kind_that_a_cluster_may_lack_is_none_at_all_until_it_is_there_and_again_once_it_goes() -> None:
    told: list[str] = []
    lists = [refusal(404, "NotFound"), listing(7, "a"), refusal(404, "NotFound"), listing(9, "b")]
    seen, _ = await followed(Script(lists, [refusal(404, "NotFound")]), missing=lambda: told.append("missing"))
    assert seen.lists == [(["a"], "7"), (["b"], "9")]
    assert told == ["missing"] * 3


async def test_any_other_kind_that_is_missing_is_a_failure_that_is_tried_again() -> None:
    seen, _ = await followed(Script([refusal(404, "NotFound"), listing(7, "a")], []))
    assert seen.lists == [(["a"], "7")]
