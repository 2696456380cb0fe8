"""WebSockets through the service: the SDK's realtime and responses connections, browsers, accounting, ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from tenantry_service.policy import Limits, Models
from tenantry_service.proxy.messages import Timer
from tenantry_simulator.behaviour import Behaviour

from tests.component.service.harness import CREDENTIAL, KEY, Service, service, until

SAY: dict[str, Any] = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "two words"}],
}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


def browser(running: Service, query: str = "?model=gpt-realtime", *more: str, key: str = KEY) -> Any:
    """A connection as browsers make one: the key among the protocols."""
    protocols = ["realtime", f"openai-insecure-api-key.{key}", *more]
    url = f"ws://127.0.0.1:{running.port}/v1/realtime{query}"
    return websockets.connect(url, subprotocols=protocols, open_timeout=60)  # type: ignore[arg-type]


async def turn(connection: Any) -> list[str]:
    """One turn of a conversation: the kinds of the events that it brought."""
    await connection.conversation.item.create(item=SAY)
    await connection.response.create()
    kinds: list[str] = []
    async for event in connection:
        kinds.append(event.type)
        if event.type == "response.done":
            return kinds
    raise AssertionError(kinds)


async def test_a_realtime_conversation_is_accounted_turn_by_turn(running: Service) -> None:
    async with running.sdk() as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        first = await connection.recv()
        assert first.type == "session.created"
        assert (await turn(connection)).count("response.output_text.delta") == 10
        await turn(connection)
        assert running.metric("tenantry_in_flight_requests") == 1
    rows = await running.rows()
    assert [(row["input_tokens"], row["output_tokens"], row["estimated"]) for row in rows] == [
        (2, 10, 0),
        (4, 10, 0),
        (0, 0, 0),
    ]
    assert {(row["route"], row["status"], row["requested_model"]) for row in rows} == {
        ("/v1/realtime", 101, "gpt-realtime")
    }
    assert running.simulator.last_request["headers"]["authorization"] == f"Bearer {CREDENTIAL}"
    assert running.metric("tenantry_in_flight_requests") == 0
    await until(lambda: not running.engine.telemetry.connections)
    assert running.metric("tenantry_open_connections") == 0


async def test_the_synchronous_sdk_works_as_well(running: Service) -> None:
    def talk() -> list[str]:
        with running.sync_sdk() as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
            connection.response.create()
            kinds: list[str] = []
            for event in connection:
                kinds.append(event.type)
                if event.type == "response.done":
                    break
            return kinds

    assert "response.output_text.delta" in await asyncio.to_thread(talk)


async def test_a_browsers_key_is_taken_from_its_protocols_and_goes_no_further(running: Service) -> None:
    async with browser(running, "?model=gpt-realtime", "openai-project.proj_1") as connection:
        assert connection.subprotocol == "realtime"
        assert json.loads(await connection.recv())["type"] == "session.created"
    seen = running.simulator.last_request["headers"]
    assert seen["sec-websocket-protocol"] == "realtime"
    assert "sec-websocket-extensions" not in seen
    assert KEY not in str(seen)


@pytest.mark.parametrize(
    ("query", "key", "status"),
    [
        ("?model=gpt-realtime", "tn_abcdefghijkl_wrong", 401),
        ("?model=gpt-4o", KEY, 404),
        ("", KEY, 400),
        ("?model=gpt-realtime&model=gpt-4o", KEY, 400),
    ],
)
async def test_a_handshake_that_may_not_be_is_refused_in_http(
    running: Service, query: str, key: str, status: int
) -> None:
    running.serve(models=Models(allow=("gpt-realtime*",)))
    with pytest.raises(websockets.InvalidStatus) as caught:
        await browser(running, query, key=key)
    assert caught.value.response.status_code == status
    assert "error" in json.loads(caught.value.response.body or b"")
    assert not running.simulator.conversations


async def test_an_alias_goes_upstream_by_its_own_name(running: Service) -> None:
    running.serve(models=Models(aliases={"voice": "gpt-realtime"}))
    async with browser(running, "?x=1&model=voice") as connection:
        assert json.loads(await connection.recv())["session"]["model"] == "gpt-realtime"
    assert running.simulator.last_request["target"] == "/v1/realtime?model=gpt-realtime&x=1"


async def test_a_responses_connection_checks_the_model_of_every_request(running: Service) -> None:
    running.serve(models=Models(allow=("gpt-4o-mini",), aliases={"fast": "gpt-4o-mini"}, default="gpt-4o-mini"))
    async with running.sdk() as sdk, sdk.responses.connect() as connection:
        for model in ("gpt-4o-mini", "fast"):
            await connection.response.create(model=model, input="two words")
            events = [event async for event in _until(connection, "response.completed")]
            assert events[-1].response.usage.output_tokens == 10
        await connection.response.create(model="gpt-5", input="two words")
        (event,) = [event async for event in _until(connection, "error")]
        assert "gpt-5" in str(event)
    (conversation,) = running.simulator.conversations
    assert [event["model"] for event in conversation.seen] == ["gpt-4o-mini", "gpt-4o-mini"]
    rows = await running.rows()
    assert [(row["requested_model"], row["input_tokens"], row["output_tokens"]) for row in rows][:2] == [
        ("gpt-4o-mini", 2, 10),
        ("fast", 2, 10),
    ]


async def _until(connection: Any, kind: str) -> AsyncIterator[Any]:
    async for event in connection:
        yield event
        if event.type == kind:
            return


async def test_a_session_ends_when_the_limits_give_no_further_turn(running: Service) -> None:
    running.serve(limits=Limits(requests_per_minute=2))
    async with running.sdk() as sdk:
        connection = await sdk.realtime.connect(model="gpt-realtime").enter()
        await turn(connection)
        await connection.response.create()
        kinds = [event.type async for event in _until(connection, "error")]
        assert kinds[-1] == "error"
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await connection.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "rate_limit_exceeded")
        with pytest.raises(websockets.InvalidStatus) as refused:
            await browser(running)
    assert refused.value.response.status_code == 429
    assert [row["output_tokens"] for row in await running.rows()] == [10, 10]


async def test_a_revoked_key_ends_the_sessions_that_it_opened(running: Service) -> None:
    async with browser(running) as connection:
        assert json.loads(await connection.recv())["type"] == "session.created"
        # By a clock that a pause of the machine does not move.
        running.steady()
        began = running.engine._loop.time()
        running.serve(keys=())
        async with asyncio.timeout(60):
            said = json.loads(await connection.recv())
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await connection.recv()
        assert running.engine._loop.time() - began < 5
    assert said["error"]["code"] == "invalid_api_key"
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "invalid_api_key")


async def test_an_upstream_that_dies_ends_the_session_with_an_error_event(running: Service) -> None:
    running.simulator.behaviour = Behaviour(die_after=4)
    async with browser(running) as connection:
        await connection.recv()
        await connection.send(json.dumps({"type": "response.create"}))
        events: list[Any] = []
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await _all(connection, events)
    assert events[-1]["error"]["code"] == "upstream_interrupted"
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    (row,) = await running.rows()
    assert (row["error_type"], row["estimated"], row["output_tokens"]) == ("provider_interrupted", 1, 1024)


async def _all(connection: Any, into: list[Any]) -> None:
    while True:
        into.append(json.loads(await connection.recv()))


async def test_a_client_that_leaves_in_the_middle_of_an_answer_cancels_it(running: Service) -> None:
    running.simulator.behaviour = Behaviour(output_tokens=1000, gap_ms=20)
    connection = await browser(running)
    await connection.recv()
    await connection.send(json.dumps({"type": "response.create"}))
    await connection.recv()
    connection.transport.abort()
    await until(lambda: running.simulator.cancelled)
    (row,) = await running.rows()
    assert (row["error_type"], row["estimated"]) == ("caller_cancelled", 1)


async def test_a_drained_process_ends_its_sessions_with_an_error_event(running: Service) -> None:
    async with browser(running) as connection:
        await connection.recv()
        await running.engine.drain(0.05)
        assert json.loads(await connection.recv())["error"]["code"] == "draining"
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()


async def test_frames_that_are_none_are_refused_and_cost_nothing(running: Service) -> None:
    async with browser(running) as connection:
        await connection.recv()
        connection.transport.write(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"abcd")
        assert json.loads(await connection.recv())["type"] == "error"
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await connection.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


async def test_a_client_that_does_not_read_is_cut(running: Service) -> None:
    running.engine.seconds[Timer.CLIENT_STALLED] = 1
    running.simulator.behaviour = Behaviour(padding=12_000_000)
    connection = await browser(running)
    await connection.recv()
    connection.transport.pause_reading()
    await connection.send(json.dumps({"type": "response.create"}))
    await until(lambda: not running.engine.telemetry.in_flight)
    connection.transport.abort()
    (row,) = await running.rows()
    assert row["error_type"] != "none"
