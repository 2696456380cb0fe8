"""The client against a real HTTP server."""

import asyncio

import msgspec
import pytest
from aiohttp import web
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS
from tenantry_operator.kube.transport import THROTTLED_TRIES

from tests.unit.operator.apiserver import PATIENCE, Asked, refusal, serving


class Named(msgspec.Struct):
    """What these tests read of an object."""

    metadata: dict[str, str]


OBJECT = {"metadata": {"name": "a"}, "data": {"unread": "yes"}}


async def ok(_: Asked) -> web.Response:
    """Any object."""
    return web.json_response(OBJECT)


@pytest.mark.parametrize(
    ("code", "reason", "cause", "kind"),
    [
        (400, "BadRequest", "", errors.BadRequest),
        (401, "Unauthorized", "", errors.Unauthorized),
        (403, "Forbidden", "", errors.Forbidden),
        (403, "Forbidden", "NamespaceTerminating", errors.NamespaceTerminating),
        (404, "NotFound", "", errors.NotFound),
        (409, "Conflict", "", errors.Conflict),
        (409, "AlreadyExists", "", errors.AlreadyExists),
        (410, "Expired", "", errors.Gone),
        (422, "Invalid", "", errors.Invalid),
        (500, "InternalError", "", errors.ServerError),
        (503, "ServiceUnavailable", "", errors.ServerError),
    ],
)
async def test_each_refusal_has_its_type_and_says_why(code: int, reason: str, cause: str, kind: type) -> None:
    async def refuse(_: Asked) -> web.Response:
        return refusal(code, reason, cause=cause)

    async with serving(refuse) as api, Client(api.access, manager="m") as client:
        with pytest.raises(errors.ApiError, match=f"{reason} it is") as caught:
            await client.get(PODS, "a", namespace="n", into=Nothing)
        assert type(caught.value) is kind


async def test_a_page_that_is_no_status_is_quoted() -> None:
    async def proxy(_: Asked) -> web.Response:
        return web.Response(status=502, text="<h1>bad gateway</h1>")

    async with serving(proxy) as api, Client(api.access, manager="m") as client:
        with pytest.raises(errors.ServerError, match="bad gateway"):
            await client.get(PODS, "a", namespace="n", into=Nothing)


async def test_apply_is_server_side_apply_in_our_name() -> None:
    async with serving(ok) as api, Client(api.access, manager="tenantry-operator") as client:
        got = await client.apply(DEPLOYMENTS, "api", {"kind": "Deployment"}, namespace="n", into=Named)
    (asked,) = api.asked
    assert got.metadata == {"name": "a"}
    assert (asked.method, asked.path) == ("PATCH", "/apis/apps/v1/namespaces/n/deployments/api")
    assert asked.query == {"fieldManager": "tenantry-operator", "force": "true"}
    assert asked.headers["Content-Type"] == "application/apply-patch+yaml"
    assert asked.headers["Authorization"] == "Bearer letmein"


async def test_the_status_is_applied_to_its_subresource() -> None:
    async with serving(ok) as api, Client(api.access, manager="m") as client:
        await client.apply(NAMESPACES, "a", {}, subresource="status", force=False, into=Nothing)
    assert api.asked[0].path == "/api/v1/namespaces/a/status"
    assert api.asked[0].query["force"] == "false"


async def test_delete_carries_its_preconditions() -> None:
    async with serving(ok) as api, Client(api.access, manager="m") as client:
        await client.delete(NAMESPACES, "a", uid="u", resource_version="7")
        await client.delete(NAMESPACES, "a")
    first, second = (msgspec.json.decode(asked.body) for asked in api.asked)
    assert first == {"propagationPolicy": "Background", "preconditions": {"uid": "u", "resourceVersion": "7"}}
    assert second == {"propagationPolicy": "Background"}


async def test_lists_are_read_page_by_page_of_one_snapshot() -> None:
    async def paged(asked: Asked) -> web.Response:
        again = asked.query.get("continue")
        metadata = {"resourceVersion": "42"} if again else {"resourceVersion": "42", "continue": "next"}
        return web.json_response({"metadata": metadata, "items": [{"metadata": {"name": again or "first"}}]})

    async with serving(paged) as api, Client(api.access, manager="m") as client:
        found = await client.list(PODS, labels="a=b", into=Named)
    assert [each.metadata["name"] for each in found] == ["first", "next"]
    assert [asked.query.get("continue") for asked in api.asked] == [None, "next"]
    assert {asked.query["labelSelector"] for asked in api.asked} == {"a=b"}


async def test_a_429_is_waited_out_as_told_and_given_up_after_some_tries() -> None:
    patience = [2]

    async def busy(_: Asked) -> web.Response:
        patience[0] -= 1
        return refusal(429, "TooManyRequests", headers={"Retry-After": "0"}) if patience[0] >= 0 else await ok(_)

    async with serving(busy) as api, Client(api.access, manager="m") as client:
        await client.create(CONFIG_MAPS, {}, namespace="n", into=Nothing)
        assert len(api.asked) == 3
        patience[0] = 1000
        with pytest.raises(errors.TooManyRequests):
            await client.create(CONFIG_MAPS, {}, namespace="n", into=Nothing)
        assert len(api.asked) == 3 + THROTTLED_TRIES


async def test_writes_in_flight_are_capped_and_reads_go_past_them() -> None:
    gate, now, most = asyncio.Event(), [0], [0]

    async def slow(asked: Asked) -> web.Response:
        if asked.method == "GET":
            return await ok(asked)
        now[0] += 1
        most[0] = max(most[0], now[0])
        await gate.wait()
        now[0] -= 1
        return await ok(asked)

    async with serving(slow) as api, Client(api.access, manager="m", writes_in_flight=3) as client:
        writes = [asyncio.create_task(client.create(PODS, {}, namespace="n", into=Nothing)) for _ in range(10)]
        async with asyncio.timeout(PATIENCE):
            while now[0] < 3:  # noqa: ASYNC110 - counted by the server
                await asyncio.sleep(0.005)
        await client.get(PODS, "a", namespace="n", into=Nothing)
        gate.set()
        await asyncio.gather(*writes)
    assert most[0] == 3


async def test_a_process_without_the_lease_reads_but_does_not_write() -> None:
    async with serving(ok) as api, Client(api.access, manager="m", may_write=lambda: False) as client:
        await client.get(PODS, "a", namespace="n", into=Nothing)
        with pytest.raises(errors.WritesForbidden):
            await client.create(PODS, {}, namespace="n", into=Nothing)
        with pytest.raises(errors.WritesForbidden):
            await client.delete(PODS, "a", namespace="n")
    assert [asked.method for asked in api.asked] == ["GET"]


async def test_no_answer_in_time_is_unreachable() -> None:
    async def never(_: Asked) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    async with serving(never) as api, Client(api.access, manager="m", request_timeout=0.05) as client:
        with pytest.raises(errors.Unreachable, match="no answer"):
            await client.get(PODS, "a", namespace="n", into=Nothing)


async def test_a_closed_port_is_unreachable() -> None:
    async with serving(ok) as api:
        access = api.access
    async with Client(access, manager="m") as client:
        with pytest.raises(errors.Unreachable):
            await client.get(PODS, "a", namespace="n", into=Nothing)


async def test_an_answer_of_another_shape_names_the_field() -> None:
    async def odd(_: Asked) -> web.Response:
        return web.json_response({"metadata": {"name": 5}})

    async with serving(odd) as api, Client(api.access, manager="m") as client:
        with pytest.raises(errors.Unreadable, match=r"metadata"):
            await client.get(PODS, "a", namespace="n", into=Named)


async def test_every_request_is_counted_also_the_unanswered() -> None:
    seen: list[tuple[str, str, int]] = []

    def observe(verb: str, kind: str, code: int, seconds: float) -> None:
        assert seconds >= 0
        seen.append((verb, kind, code))

    async with serving(ok) as api, Client(api.access, manager="m", observe=observe) as client:
        await client.apply(PODS, "a", {}, namespace="n", into=Nothing)
    async with Client(Access(server="http://127.0.0.1:1"), manager="m", observe=observe) as client:
        with pytest.raises(errors.Unreachable):
            await client.get(PODS, "a", namespace="n", into=Nothing)
    assert seen == [("APPLY", "Pod", 200), ("GET", "Pod", 0)]


async def test_a_cancelled_write_gives_its_place_back() -> None:
    async def never(_: Asked) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    async with serving(never) as api, Client(api.access, manager="m", writes_in_flight=1) as client:
        first = asyncio.create_task(client.create(PODS, {}, namespace="n", into=Nothing))
        async with asyncio.timeout(PATIENCE):
            while not api.asked:  # noqa: ASYNC110 - filled by the server
                await asyncio.sleep(0.005)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(client.create(PODS, {}, namespace="n", into=Nothing))
        async with asyncio.timeout(PATIENCE):
            while len(api.asked) < 2:  # noqa: ASYNC110 - filled by the server
                await asyncio.sleep(0.005)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
