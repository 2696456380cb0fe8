"""Clients with the OpenAI SDK: so many requests a second and so many open streams, and what became of each."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx2
import openai

MODEL = "gpt-4o-mini"
#: Milliseconds between two pieces of a stream.
GAP_MS = 500
#: How many failures that say the same are kept.
TOLD = 5


@dataclass(frozen=True)
class Endpoint:
    """What clients are given."""

    base_url: str
    key: str


@dataclass(frozen=True)
class Shape:
    """Load on all endpoints together. Streams last between the two, in seconds."""

    requests_per_second: float = 50.0
    streams: int = 40
    shortest: float = 5.0
    longest: float = 90.0


@dataclass
class Outcomes:
    """What clients have seen. ``ended_early``: a well-formed last event said that the pod had to go."""

    requests: int = 0
    failed_requests: int = 0
    streams: int = 0
    cut_streams: int = 0
    ended_early: int = 0
    #: When those were.
    early: list[datetime] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    alike: Counter[str] = field(default_factory=Counter)
    #: When something failed last (monotonic clock).
    failed_at: float = 0.0

    def fail(self, what: str, error: Exception, began: float) -> None:
        """Remember how it failed, for people."""
        self.failed_at = time.monotonic()
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, openai.APIStatusError):
            said += f" {error.response.text[:200]!r}"  # who has answered: not all that may are ours
        self.alike[said] += 1
        if self.alike[said] <= TOLD:
            at, after = time.strftime("%H:%M:%S"), time.monotonic() - began
            self.failures.append(f"{at} {what} after {after:.2f} s: {said}")


class Load:
    """Clients in a thread of their own, as long as the block lasts; streams that are open then may end."""

    def __init__(self, endpoints: Sequence[Endpoint], shape: Shape, seed: int = 1) -> None:
        self.outcomes = Outcomes()
        self._endpoints, self._shape = endpoints, shape
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(self._shape.longest + 60)
        assert not self._thread.is_alive(), "a client hangs"

    async def _run(self) -> None:
        # No retries, which would hide a gap; kept connections, which are what a pod that leaves has to get rid of.
        clients = [
            openai.AsyncOpenAI(
                base_url=each.base_url, api_key=each.key, max_retries=0, timeout=httpx2.Timeout(60, connect=10)
            )
            for each in self._endpoints
        ]
        tasks: set[asyncio.Task[None]] = set()
        streams = [
            asyncio.create_task(self._streams(clients[number % len(clients)])) for number in range(self._shape.streams)
        ]
        due, turn = time.monotonic(), 0
        while not self._stop.is_set():
            due += 1 / self._shape.requests_per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._request(clients[turn % len(clients)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            turn += 1
        await asyncio.gather(*streams, *tasks)
        for client in clients:
            await client.close()

    async def _request(self, client: openai.AsyncOpenAI) -> None:
        began = time.monotonic()
        self.outcomes.requests += 1
        try:
            answer = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hello there"}]
            )
            assert answer.choices[0].message.content
        except (openai.OpenAIError, AssertionError) as error:
            self.outcomes.failed_requests += 1
            self.outcomes.fail("request", error, began)

    async def _streams(self, client: openai.AsyncOpenAI) -> None:
        # Not all at once: each worker begins somewhere within its first stream's length.
        await asyncio.sleep(self._chance.uniform(0, self._shape.shortest))
        while not self._stop.is_set():
            seconds = self._chance.uniform(self._shape.shortest, self._shape.longest)
            await self._stream(client, round(seconds * 1000 / GAP_MS))

    async def _stream(self, client: openai.AsyncOpenAI, pieces: int) -> None:
        began, got = time.monotonic(), 0
        self.outcomes.streams += 1
        behaviour = {"x-simulator-output-tokens": str(pieces), "x-simulator-gap-ms": str(GAP_MS)}
        try:
            answer = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "hello there"}],
                stream=True,
                max_tokens=pieces,
                extra_headers=behaviour,
            )
            async for chunk in answer:
                got += bool(chunk.choices and chunk.choices[0].delta.content)
            if got != pieces:
                raise openai.OpenAIError(f"{got} of {pieces} pieces, and no word about the rest")
        except openai.OpenAIError as error:
            if got and isinstance(error, openai.APIError) and error.code == "draining":
                self.outcomes.ended_early += 1
                self.outcomes.early.append(datetime.now(UTC))
                return
            self.outcomes.cut_streams += 1
            self.outcomes.fail(f"stream at {got} of {pieces}", error, began)
        except httpx2.HTTPError as error:  # what the SDK lets through in the middle of a stream
            self.outcomes.cut_streams += 1
            self.outcomes.fail(f"stream at {got} of {pieces}", error, began)
