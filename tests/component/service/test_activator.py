"""The activator between the OpenAI SDK and a pod that comes late, all on real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from tenantry_service.activator import door, pods
from tenantry_service.activator.door import Door, House
from tenantry_service.activator.sleepers import FRESH, Sleepers
from tenantry_service.activator.waiting import Waiting
from tenantry_service.policy import Limits
from tenantry_service.roster import Sleeper, SleeperKey, SyncAnswer

from tests.component.service.harness import KEY, SDK_TIMEOUT, Service, chat_request, key_record, service, until

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "two words"}]}


@dataclass
class Activator:
    """An activator in this process, and what it has called for."""

    port: int
    house: House
    calls: list[float]
    answered: list[float]

    def tells(self, *addresses: str, **more: Any) -> None:
        """What the operator says of acme now."""
        record = key_record()
        key = SleeperKey(id=record.id, sha256=record.sha256, expires_at=more.pop("expires_at", None))
        sleepers = self.house.sleepers
        version = sleepers.version + 1
        sleeper = Sleeper(tenant="acme", version=version, keys=(key,), addresses=addresses, **more)
        sleepers.take(SyncAnswer(epoch="one", version=version, complete=True, sleepers=(sleeper,)), sleepers.epoch)

    def wakes(self, pod: Service) -> None:
        """There is a pod."""
        self.tells(f"127.0.0.1:{pod.port}")

    def sdk(self, key: str = KEY, **options: Any) -> openai.AsyncOpenAI:
        """A developer's client, without retries."""
        url = f"http://127.0.0.1:{self.port}/v1"
        return openai.AsyncOpenAI(base_url=url, api_key=key, **{"max_retries": 0, "timeout": SDK_TIMEOUT, **options})

    async def asked(self) -> None:
        """Wait until a request waits."""
        await until(lambda: self.house.waiting.total)


@pytest.fixture
async def activator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Activator]:
    # A pod that is there is never one that does not answer, however slow the machine is.
    monkeypatch.setattr(pods, "CONNECT", 60.0)
    calls: list[float] = []
    sleepers = Sleepers(time.monotonic)
    waiting = Waiting(300, 250, lambda: calls.append(time.monotonic()))
    house = House(sleepers, waiting, patience=60, control=lambda path: (200, b"ok\n") if path == b"/healthz" else None)
    server = await asyncio.get_running_loop().create_server(lambda: Door(house), "127.0.0.1", 0, backlog=512)
    found = Activator(server.sockets[0].getsockname()[1], house, calls, [])
    found.tells()
    yield found
    server.close()


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


async def test_a_request_wakes_its_tenant_waits_and_is_answered(activator: Activator, pod: Service) -> None:
    async with activator.sdk() as sdk:
        asked = asyncio.create_task(sdk.chat.completions.create(**CHAT))
        await activator.asked()
        assert activator.house.waiting.tenants() == ("acme",)
        activator.wakes(pod)
        assert (await asked).choices[0].message.content
        # The next one finds the door open.
        assert (await sdk.chat.completions.create(**CHAT)).choices
    assert len(activator.calls) == 1
    assert activator.house.waiting.cold_start.cumulative()[-1][1] == 1
    assert [row["tenant"] for row in await pod.rows()] == ["acme", "acme"]


async def test_two_hundred_at_once_are_all_answered_and_wake_it_once(activator: Activator, pod: Service) -> None:
    async with activator.sdk(timeout=60) as sdk:
        asked = [asyncio.create_task(sdk.chat.completions.create(**CHAT)) for _ in range(200)]
        await until(lambda: activator.house.waiting.total == 200)
        # The pod has an address before it listens: one request finds out, for all.
        activator.tells("127.0.0.1:1")
        await asyncio.sleep(0.2)
        activator.wakes(pod)
        answers = await asyncio.gather(*asked)
    assert all(answer.choices for answer in answers)
    assert len(activator.calls) == 1
    assert activator.house.waiting.total == 0
    assert activator.house.waiting.cold_start.cumulative()[-1][1] == 1
    assert activator.house.waiting.held.cumulative()[-1][1] == 200


async def test_a_stream_passes_as_it_comes(activator: Activator, pod: Service) -> None:
    activator.wakes(pod)
    # Whatever stands still for a moment, what is still to come then takes longer than is asked for below.
    slow = {"x-simulator-output-tokens": "5", "x-simulator-gap-ms": "200"}
    came = []
    async with activator.sdk() as sdk:
        async for chunk in await sdk.chat.completions.create(**CHAT, stream=True, extra_headers=slow):
            if chunk.choices and chunk.choices[0].delta.content:
                came.append(time.monotonic())  # noqa: PERF401 - when, not what
    assert len(came) == 5
    assert came[-1] - came[0] > 0.15  # not all at the end


async def test_an_upload_larger_than_what_is_held_passes(activator: Activator, pod: Service) -> None:
    async with activator.sdk() as sdk:
        asked = asyncio.create_task(sdk.files.create(file=("large.jsonl", bytes(5 * 1024 * 1024)), purpose="batch"))
        await activator.asked()
        (open_door,) = activator.house.open
        await asyncio.sleep(0.1)
        assert len(open_door._buffer) < 1024 * 1024
        activator.wakes(pod)
        assert (await asked).bytes == 5 * 1024 * 1024


@pytest.mark.parametrize("key", ["tn_abcdefghijkl_wrong", "tn_unknownunkno_wrong", "sk-something"])
async def test_a_bad_key_wakes_nobody(activator: Activator, key: str) -> None:
    async with activator.sdk(key) as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.chat.completions.create(**CHAT)
    assert not activator.calls


async def test_neither_does_one_that_has_expired_nor_a_spent_budget(activator: Activator) -> None:
    async with activator.sdk() as sdk:
        activator.tells(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        with pytest.raises(openai.AuthenticationError) as expired:
            await sdk.chat.completions.create(**CHAT)
        activator.tells(budget_spent=True)
        with pytest.raises(openai.RateLimitError) as spent:
            await sdk.chat.completions.create(**CHAT)
    assert expired.value.code == "expired_api_key"
    assert spent.value.code == "insufficient_quota"
    assert not activator.calls


async def test_while_the_operator_is_silent_an_unknown_key_is_not_called_bad(activator: Activator) -> None:
    activator.house.sleepers._answered -= FRESH + 1
    async with activator.sdk("tn_unknownunkno_wrong") as sdk:
        with pytest.raises(openai.InternalServerError) as refused:
            await sdk.models.list()
    assert refused.value.status_code == 503
    assert refused.value.response.headers["retry-after"] == "1"


async def test_beyond_its_bound_a_request_is_told_to_come_back(activator: Activator, pod: Service) -> None:
    activator.house.waiting = Waiting(300, 1, lambda: None)
    async with activator.sdk() as sdk:
        first = asyncio.create_task(sdk.chat.completions.create(**CHAT))
        await activator.asked()
        with pytest.raises(openai.InternalServerError) as refused:
            await sdk.chat.completions.create(**CHAT)
        assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("waking_up", "2")
        activator.wakes(pod)
        assert (await first).choices


async def test_nobody_waits_for_ever(activator: Activator) -> None:
    activator.house.patience = 0.2
    async with activator.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as refused:
            await sdk.chat.completions.create(**CHAT)
    assert refused.value.code == "waking_up"
    assert refused.value.response.headers["retry-after"] == "5"
    assert activator.house.waiting.total == 0


async def test_who_leaves_waits_no_more(activator: Activator) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", activator.port)
    writer.write(chat_request())
    await activator.asked()
    writer.close()
    await until(lambda: not activator.house.waiting.total)
    assert activator.house.waiting.tenants() == ()


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_stream_that_waits_long_is_kept_alive_and_then_told(
    activator: Activator, pod: Service, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    monkeypatch.setattr(door, "QUIET", 0.05)
    if refuses:
        pod.serve(limits=Limits(requests_per_minute=1))
        async with pod.sdk() as sdk:
            await sdk.chat.completions.create(**CHAT)
    reader, writer = await asyncio.open_connection("127.0.0.1", activator.port)
    writer.write(chat_request(stream=True))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert await reader.readline() == b": waking up\n"
    activator.wakes(pod)
    rest = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    events = [line for line in rest.split(b"\n") if line.startswith(b"data: ")]
    if refuses:
        (event,) = events
        assert b"rate_limit_exceeded" in event
    else:
        assert events[-1] == b"data: [DONE]"
        assert len(events) > 2


async def test_requests_that_are_none_are_refused(activator: Activator) -> None:
    for sent in (
        b"nonsense\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nauthorization: Bearer a\r\nauthorization: b\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", activator.port)
        writer.write(sent)
        assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_control_routes_are_its_own(activator: Activator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", activator.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"200" in await asyncio.wait_for(reader.read(), 60)
    writer.close()
