"""Pods follow requests in flight, down to none and back, on real nodes with the real SDK."""

import asyncio
import time

import openai
import pytest

from tests.e2e import load
from tests.e2e.load import ROOM, SLEEPER, SMALL
from tests.e2e.world import ANSWER, COUNTS_ALONE, HELLO, MODEL, Access, World, until

#: Requests in flight that the tenant aims at for each of its pods.
TARGET = 4
#: Seconds from five times the load until enough pods are ready.
ENOUGH_WITHIN = 60.0
#: Seconds until a pod goes when there is less to do: a window of 15 s here, looked at every 15 s, one pod a minute.
FEWER_WITHIN = 180.0
#: Seconds from a request for a sleeping tenant to the first bytes of its answer, 95 of 100 times.
FIRST_BYTE_WITHIN = 5.0
#: How often a tenant is put to sleep and woken up here; `make bench-scale` does it more often.
WAKES = 3


def test_five_times_the_load_gets_its_pods_and_gives_them_back_without_a_cut_stream(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 6, "targetInFlight": TARGET}
    with world.tenant("scaled", autoscaling=scaling, limits=ROOM | COUNTS_ALONE, resources=SMALL):
        world.wait_ready("scaled")
        access = world.access("scaled")
        until(lambda: asked(access) == ANSWER, "the endpoint answers")
        took, cut = asyncio.run(load.grow(world, access, "scaled", TARGET, 60, ENOUGH_WITHIN))
        # Users go on streaming while a pod goes.
        more, fewer = asyncio.run(load.shrink(access, lambda: load.ready(world, "scaled") < 5, FEWER_WITHIN))
        with capsys.disabled():
            print(f"\nfive times the load -> 5 pods ready {took:.1f} s; one fewer {fewer:.0f} s after its end")
    assert (cut, more) == (0, 0)


def test_a_sleeping_tenant_answers_within_seconds_and_two_hundred_at_once(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with world.tenant("sleeper", **SLEEPER):
        world.wait_ready("sleeper")
        access = world.access("sleeper")
        until(lambda: asked(access) == ANSWER, "the endpoint answers")
        took = []
        for _ in range(WAKES):
            load.fall_asleep(world, "sleeper")
            took.append(load.first_byte(access))
        load.fall_asleep(world, "sleeper")
        began = time.monotonic()
        answers = load.crowd(access, 200)
        everybody = time.monotonic() - began
        with capsys.disabled():
            print(
                f"\nasleep -> first byte {', '.join(f'{each:.2f}' for each in took)} s; 200 at once {everybody:.1f} s"
            )
    assert answers == [ANSWER] * 200
    assert load.percentile(took, 0.95) <= FIRST_BYTE_WITHIN


def test_a_bad_key_wakes_nobody_and_an_open_stream_keeps_its_tenant_awake(world: World) -> None:
    with world.tenant("light", **SLEEPER):
        world.wait_ready("light")
        access = world.access("light")
        until(lambda: asked(access) == ANSWER, "the endpoint answers")

        async def stay() -> int:
            async with load.asynchronous(access) as sdk:
                return await load.stream(sdk, 30)

        assert asyncio.run(stay()) == 60
        load.fall_asleep(world, "light")
        for wrong in (f"{access.key[:-4]}none", "sk-of-somebody-else"):
            assert asked(Access(access.endpoint, wrong)) in ("invalid_api_key", None)
        time.sleep(3)
        assert load.asleep(world, "light")


def asked(access: Access) -> str | None:
    """Return the answer to a chat, or the error's code; `None` while nothing answers."""
    try:
        with access.sdk() as sdk:
            return sdk.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content
    except openai.APIConnectionError:
        return None
    except openai.APIStatusError as refused:
        return refused.code
