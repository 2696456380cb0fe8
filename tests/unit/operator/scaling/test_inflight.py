"""Asking pods what they have to do, against a real HTTP server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from tenantry_operator.scaling.inflight import PATH, InFlight, Scraper

Answer = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def pod(answer: Answer) -> AsyncIterator[int]:
    """A server that answers as a pod does; its port."""
    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def says(text: str, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status, content_type="application/json")

    return answer


async def test_a_pods_words_are_read() -> None:
    text = '{"requests": 3, "streams": 2, "draining": true, "idleSeconds": 0.0, "later": "added"}'
    async with pod(says(text)) as port, Scraper(timeout=60) as scraper:
        assert await scraper.read("127.0.0.1", port) == InFlight(requests=3, streams=2, draining=True)


@pytest.mark.parametrize("answer", [says("no", 503), says("not JSON"), says('{"requests": "many"}')])
async def test_whoever_does_not_answer_in_these_words_has_said_nothing(answer: Answer) -> None:
    async with pod(answer) as port, Scraper(timeout=60) as scraper:
        assert await scraper.read("127.0.0.1", port) is None


async def test_a_pod_that_is_not_there_has_said_nothing() -> None:
    async with Scraper() as scraper:
        assert await scraper.read("127.0.0.1", 1) is None


async def test_a_silent_pod_holds_nobody_up() -> None:
    over = asyncio.Event()

    async def silence(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with pod(silence) as stuck, pod(says('{"requests": 1}')) as port, Scraper(timeout=60) as patient:
        waiting = asyncio.create_task(patient.read("127.0.0.1", stuck))
        assert await patient.read("127.0.0.1", port) == InFlight(requests=1)
        assert not waiting.done()
        async with Scraper(timeout=0.2) as scraper:
            assert await scraper.read("127.0.0.1", stuck) is None
        over.set()
        await waiting
