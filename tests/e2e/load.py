"""What the tests and the benchmark of scaling ask of a tenant on real nodes, with the real SDK."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import openai

from tests.e2e.world import HELLO, MODEL, Access, World, namespace, simulated, until

#: Limits that are in nobody's way.
ROOM: dict[str, Any] = {"requestsPerMinute": 60_000, "tokensPerMinute": 100_000_000, "concurrentRequests": 1000}
#: A tenant that sleeps as soon as one may.
SLEEPER: dict[str, Any] = {"autoscaling": {"minReplicas": 0, "maxReplicas": 1, "idleAfter": "10s"}, "limits": ROOM}
#: Pods of which a small machine runs many.
SMALL = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}


async def stream(sdk: openai.AsyncOpenAI, seconds: int) -> int:
    """One stream of so many seconds; the pieces that came of it, which is an error's if it was cut."""
    slow = simulated(output_tokens=seconds * 2, gap_ms=500)
    pieces = 0
    asked = await sdk.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, max_tokens=seconds * 2, extra_headers=slow
    )
    async for chunk in asked:
        pieces += bool(chunk.choices and chunk.choices[0].delta.content)
    return pieces


def asynchronous(access: Access) -> openai.AsyncOpenAI:
    """The SDK without retries, which would hide a gap."""
    return openai.AsyncOpenAI(base_url=access.endpoint, api_key=access.key, max_retries=0, timeout=90)


def first_byte(access: Access) -> float:
    """Ask for a stream; the seconds until its first piece."""
    with access.sdk(timeout=60) as sdk:
        began = time.monotonic()
        with sdk.chat.completions.create(model=MODEL, messages=HELLO, stream=True) as answer:
            next(chunk for chunk in answer if chunk.choices and chunk.choices[0].delta.content)
            took = time.monotonic() - began
            for _ in answer:
                pass
    return took


def crowd(access: Access, size: int) -> list[str | None]:
    """So many requests at once, and their answers. Raises whatever one of them was refused with."""

    async def ask() -> list[str | None]:
        async with asynchronous(access) as sdk:
            every = (sdk.chat.completions.create(model=MODEL, messages=HELLO) for _ in range(size))
            return [answer.choices[0].message.content for answer in await asyncio.gather(*every)]

    return asyncio.run(ask())


def ready(world: World, tenant: str) -> int:
    """Pods that answer."""
    found = world.kubectl("get", f"tenant/{tenant}", "--output", "jsonpath={.status.readyReplicas}")
    return int(found or 0)


def asleep(world: World, tenant: str) -> bool:
    """No pod, and its status says so."""
    reason = world.kubectl("get", f"tenant/{tenant}", "--output", "jsonpath={.status.conditions[0].reason}")
    return reason == "Asleep" and not world.items("pods", "--namespace", namespace(tenant))


def fall_asleep(world: World, tenant: str) -> None:
    """Wait until it sleeps, its last pod included."""
    until(lambda: asleep(world, tenant), f"{tenant} sleeps")


async def grow(
    world: World, access: Access, tenant: str, target: int, seconds: int, within: float
) -> tuple[float, int]:
    """A pod's worth of streams, then five times as many: the seconds until there are five pods, and streams cut."""
    async with asynchronous(access) as sdk:
        open_streams = [asyncio.create_task(stream(sdk, seconds + 5)) for _ in range(target)]
        await asyncio.sleep(5)
        open_streams += [asyncio.create_task(stream(sdk, seconds)) for _ in range(4 * target)]
        took = await asyncio.to_thread(until, lambda: ready(world, tenant) >= 5, "enough pods", within)
        pieces = await asyncio.gather(*open_streams, return_exceptions=True)
    whole = [(seconds + 5) * 2] * target + [seconds * 2] * (4 * target)
    return took, sum(got != wanted for got, wanted in zip(pieces, whole, strict=True))


async def shrink(access: Access, fewer: Callable[[], bool], within: float) -> tuple[int, float]:
    """Short streams without a pause while pods go: how many were cut, and the seconds until there were so few."""
    over = asyncio.Event()

    async def user() -> int:
        cut = 0
        async with asynchronous(access) as sdk:
            while not over.is_set():
                try:
                    cut += await stream(sdk, 10) != 20
                except openai.OpenAIError:
                    cut += 1
        return cut

    users = [asyncio.create_task(user()) for _ in range(2)]
    try:
        took = await asyncio.to_thread(until, fewer, "fewer pods", within)
    finally:
        over.set()
    return sum(await asyncio.gather(*users)), took


def percentile(values: Sequence[float], share: float) -> float:
    """Of a few values: the one below which that share of them is."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
