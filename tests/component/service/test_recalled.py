"""Answers that are given again: a retry of the OpenAI SDK is never paid twice, a cached question is asked once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tenantry_service.policy import Keeping

from tests.component.service.harness import Service, service, until

MESSAGES = [{"role": "user", "content": "two words"}]
PATH = "POST /v1/chat/completions"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path, cache=Keeping(), idempotency=Keeping()) as found:
        yield found


async def test_a_retry_after_a_timeout_gets_the_answer_that_was_paid_for(running: Service) -> None:
    client = running.sdk(max_retries=8, timeout=0.3)
    headers = {"idempotency-key": "order-1", "x-simulator-latency-ms": "500"}
    answer = await client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini",
        messages=MESSAGES,  # type: ignore[arg-type]
        extra_headers=headers,
    )
    assert answer.parse().usage is not None
    assert answer.headers["x-tenantry-replayed"] == "true"
    assert running.simulator.requests[PATH] == 1
    assert sum(row["nano_usd"] > 0 for row in await running.rows()) == 1


async def test_a_stream_that_was_left_comes_again_whole(running: Service) -> None:
    # It is under way until it is released.
    client, headers = running.sdk(), {"idempotency-key": "order-2", "x-simulator-hold-after": "2"}
    options: dict[str, Any] = {"model": "gpt-4o-mini", "messages": MESSAGES, "stream": True, "extra_headers": headers}
    first = await client.chat.completions.create(**options)
    async for _ in first:
        break
    await first.close()
    with pytest.raises(openai.ConflictError, match="under way"):
        await client.chat.completions.create(**options)
    running.simulator.released.set()
    await until(lambda: not running.engine.telemetry.in_flight)
    words = [chunk.choices[0].delta.content async for chunk in await client.chat.completions.create(**options)]
    assert sum(bool(word) for word in words) == 10
    assert running.simulator.requests[PATH] == 1
    assert running.simulator.cancelled == 0


async def test_a_form_that_comes_again_is_answered_again(running: Service) -> None:
    client = running.sdk()
    answers = [
        await client.audio.transcriptions.with_raw_response.create(
            model="whisper-1",
            # More than one read of a socket: its end comes after the answer has been found.
            file=("speech.mp3", bytes(600_000)),
            extra_headers={"idempotency-key": "order-5"},
        )
        for _ in range(3)
    ]
    assert [answer.headers.get("x-tenantry-replayed") for answer in answers] == [None, "true", "true"]
    assert len({answer.http_response.content for answer in answers}) == 1
    assert running.simulator.requests["POST /v1/audio/transcriptions"] == 1
    assert [row["nano_usd"] > 0 for row in await running.rows()] == [True, False, False]
    with pytest.raises(openai.ConflictError, match="another request"):
        await client.audio.transcriptions.create(
            model="whisper-1", file=("speech.mp3", bytes(5)), extra_headers={"idempotency-key": "order-5"}
        )


async def test_a_key_is_no_other_requests_key(running: Service) -> None:
    client, headers = running.sdk(), {"idempotency-key": "order-3"}
    await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_headers=headers)  # type: ignore[arg-type]
    with pytest.raises(openai.ConflictError, match="another request"):
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, extra_headers=headers)  # type: ignore[arg-type]


async def test_a_question_with_one_answer_is_asked_once(running: Service) -> None:
    client = running.sdk()
    answers = [
        await client.embeddings.with_raw_response.create(model="text-embedding-3-small", input="words")
        for _ in range(3)
    ]
    assert [answer.headers["x-tenantry-cache"] for answer in answers] == ["miss", "hit", "hit"]
    assert len({answer.http_response.content for answer in answers}) == 1
    assert running.simulator.requests["POST /v1/embeddings"] == 1
    assert [row["nano_usd"] > 0 for row in await running.rows()] == [True, False, False]
    assert running.metric("tenantry_recalled_answers_total") == 3


async def test_a_claim_whose_upstream_fails_is_free_for_the_next_attempt(running: Service) -> None:
    client = running.sdk(max_retries=0)
    for status in ("500", "0"):
        headers = {"idempotency-key": "order-4", "x-simulator-error-status": status}
        work = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_headers=headers)  # type: ignore[arg-type]
        if status == "500":
            with pytest.raises(openai.InternalServerError):
                await work
        else:
            assert (await work).usage is not None
    await asyncio.sleep(0)
    assert running.simulator.requests[PATH] == 2
