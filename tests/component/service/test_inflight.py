"""What a pod says of its load, which scaling and hand-over go by."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.component.service.harness import Service, service, until


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


async def load(of: Service) -> dict[str, Any]:
    """The pod's answer."""

    def ask() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{of.port}/tenantry/v1/inflight", timeout=60) as answer:
            found = json.load(answer)
        assert isinstance(found, dict)
        return found

    return await asyncio.to_thread(ask)


async def test_an_open_stream_is_counted_until_it_ends(running: Service) -> None:
    assert (await load(running))["requests"] == 0
    held = {"x-simulator-output-tokens": "4", "x-simulator-hold-after": "2"}
    async with running.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], stream=True, extra_headers=held
        )
        await anext(aiter(stream))
        during = await load(running)
        assert (during["requests"], during["streams"], during["idleSeconds"]) == (1, 1, 0.0)
        running.simulator.released.set()
        async for _ in stream:
            pass
    await running.settled()
    after = await load(running)
    assert (after["requests"], after["streams"], after["draining"]) == (0, 0, False)


async def test_a_bad_key_is_no_use_of_the_pod(running: Service) -> None:
    running.engine.last_served -= 100
    async with running.sdk("tn_abcdefghijkl_wrong") as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list()
    assert (await load(running))["idleSeconds"] >= 100
    async with running.sdk() as sdk:
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
    await running.settled()
    assert (await load(running))["idleSeconds"] < 100


async def test_a_draining_pod_says_so(running: Service) -> None:
    await running.engine.drain(0)
    await until(lambda: running.engine.draining)
    assert (await load(running))["draining"] is True
