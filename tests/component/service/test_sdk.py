"""The real OpenAI SDK against the service: answers, and the right exception for every error."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from tenantry_service.policy import Budget, Limits, Models, Upstream, Window
from tenantry_service.proxy.messages import Timer

from tests.component.service.harness import CREDENTIAL, KEY, NOBODY, Service, key_record, service, until

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


def behave(**values: str | int) -> dict[str, str]:
    return {f"x-simulator-{name.replace('_', '-')}": str(value) for name, value in values.items()}


async def read(stream: openai.AsyncStream[ChatCompletionChunk], into: list[str | None]) -> None:
    async for chunk in stream:
        into.append(chunk.choices[0].delta.content)  # noqa: PERF401 what came before an error counts


async def test_a_chat_is_answered_and_billed(running: Service) -> None:
    async with running.sdk() as sdk:
        answer = await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert answer.choices[0].message.content == "This is the simulator speaking; it says what it is"
    (row,) = await running.rows()
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (2, 10, 0)
    assert row["nano_usd"] == 2 * 150 + 10 * 600
    assert (row["tenant"], row["key_id"], row["status"], row["error_type"]) == ("acme", "abcdefghijkl", 200, "none")


async def test_the_synchronous_sdk_works_as_well(running: Service) -> None:
    def call() -> tuple[str | None, list[str]]:
        with running.sync_sdk() as sdk:
            answer = sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
            stream = sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
            return answer.choices[0].message.content, [c.choices[0].delta.content or "" for c in stream]

    whole, pieces = await asyncio.to_thread(call)
    assert whole == "".join(pieces)


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_stream_carries_usage_only_for_those_who_asked(running: Service, wanted: bool) -> None:
    options: openai.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": wanted}
    async with running.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == ([10] if wanted else [])
    assert all(chunk.choices for chunk in chunks[:-1])
    (row,) = await running.rows()
    assert (row["input_tokens"], row["output_tokens"], row["estimated"], row["stream"]) == (2, 10, 0, 1)


async def test_models_are_those_of_the_tenant(running: Service) -> None:
    running.serve(models=Models(allow=("gpt-4o*",), aliases={"fast": "gpt-4o-mini"}))
    async with running.sdk() as sdk:
        assert [model.id async for model in sdk.models.list()] == ["gpt-4o-mini", "gpt-4o", "fast"]
        assert (await sdk.models.retrieve("gpt-4o")).id == "gpt-4o"
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.models.retrieve("gpt-4.1")
        answer = await sdk.chat.completions.create(model="fast", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert answer.model == "gpt-4o-mini"


@pytest.mark.parametrize("key", ["tn_abcdefghijkl_wrong", "tn_nobody_0123", "sk-something-else"])
async def test_a_wrong_key_is_an_authentication_error(running: Service, key: str) -> None:
    async with running.sdk(key) as sdk:
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    assert running.simulator.requests.total() == 0


async def test_a_missing_key_is_an_authentication_error(running: Service) -> None:
    async with running.sdk() as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list(extra_headers={"Authorization": openai.Omit()})


async def test_an_expired_key_is_an_authentication_error(running: Service) -> None:
    running.serve(keys=(key_record(expires_at=datetime(2020, 1, 1, tzinfo=UTC)),))
    async with running.sdk() as sdk:
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk.models.list()
    assert caught.value.code == "expired_api_key"


async def test_a_model_that_is_not_allowed_is_not_found(running: Service) -> None:
    running.serve(models=Models(allow=("gpt-4.1",)))
    async with running.sdk() as sdk:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_field_of_the_wrong_type_is_a_bad_request_that_names_it(running: Service) -> None:
    async with running.sdk() as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, extra_body={"max_tokens": "x"})
    assert caught.value.param == "max_tokens"


async def test_a_body_over_the_limit_is_413_and_the_connection_survives(running: Service) -> None:
    running.serve(max_body_bytes=2000)
    async with running.sdk() as sdk:
        with pytest.raises(openai.APIStatusError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "x" * 3000}])
        assert caught.value.status_code == 413
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)


async def twice(sdk: openai.AsyncOpenAI) -> None:
    """More than one a minute, also where one has come back since the last request (at 600 a minute, in 0.1 s)."""
    for _ in range(2):
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)


async def test_a_rate_limit_is_told_exactly_and_the_sdk_comes_back_in_time(running: Service) -> None:
    running.serve(limits=Limits(requests_per_minute=600, tokens_per_minute=100_000))
    async with running.sdk() as sdk:
        answer = await sdk.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=HELLO)
        assert answer.headers["x-ratelimit-limit-requests"] == "600"
        assert answer.headers["x-ratelimit-remaining-requests"] == "599"
        assert answer.headers["x-request-id"].startswith("req_")
        running.serve(limits=Limits(requests_per_minute=1))
        with pytest.raises(openai.RateLimitError) as caught:
            await twice(sdk)
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after-ms"]) <= 60_000
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_an_exhausted_budget_is_not_retried(running: Service) -> None:
    running.serve(budget=Budget(amount_nano_usd=10, window=Window.DAY))
    async with running.sdk(max_retries=2) as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert caught.value.code == "insufficient_quota"
    assert running.metric("tenantry_requests_total") == 1


async def test_too_many_at_once_are_refused_and_the_slot_comes_back(running: Service) -> None:
    running.serve(limits=Limits(concurrent_requests=1))
    async with running.sdk() as sdk:
        first = asyncio.create_task(
            sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, extra_headers=behave(hold_after=0))
        )
        await until(lambda: running.engine.telemetry.in_flight)
        with pytest.raises(openai.RateLimitError):
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        running.simulator.released.set()
        await first
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)


async def test_an_unreachable_upstream_is_502(running: Service) -> None:
    running.serve(upstreams=(Upstream(name="gone", base_url=f"http://127.0.0.1:{NOBODY}"),))
    async with running.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")


async def test_a_silent_upstream_is_504(running: Service) -> None:
    running.engine.seconds[Timer.FIRST_BYTE] = 0.2
    async with running.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, extra_headers=behave(stall_after=0))
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


@pytest.mark.parametrize(
    ("behaviour", "code"), [("die_after", "upstream_interrupted"), ("stall_after", "upstream_timeout")]
)
async def test_an_upstream_that_fails_in_mid_stream_raises_in_the_sdk_after_the_good_chunks(
    running: Service, behaviour: str, code: str
) -> None:
    if behaviour == "stall_after":
        running.steady()
        running.engine.seconds[Timer.IDLE] = 1.5
    async with running.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, extra_headers=behave(**{behaviour: 4, "gap_ms": 5})
        )
        received: list[str | None] = []
        with pytest.raises(openai.APIError) as caught:
            await read(stream, received)
    assert received == ["", "This", " is", " the"]
    assert caught.value.code == code
    (row,) = await running.rows()
    assert (row["output_tokens"], row["estimated"]) == (3, 1)


async def test_an_upstream_that_dies_before_its_answer_is_502(running: Service) -> None:
    async with running.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, extra_headers=behave(die_after=0))
    assert caught.value.status_code == 502


async def test_an_answer_cut_in_the_middle_is_a_connection_error_and_not_half_an_answer(running: Service) -> None:
    async with running.sdk() as sdk:
        with pytest.raises(openai.APIConnectionError):
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, extra_headers=behave(die_after=1))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (403, openai.PermissionDeniedError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_errors_of_the_upstream_pass_as_they_are(
    running: Service, status: int, error: type[openai.APIStatusError]
) -> None:
    async with running.sdk() as sdk:
        with pytest.raises(error, match="The simulator was told"):
            await sdk.chat.completions.create(
                model="gpt-4o-mini", messages=HELLO, extra_headers=behave(error_status=status)
            )
    (row,) = await running.rows()
    assert (row["nano_usd"], row["status"]) == (0, status)


async def test_a_refused_platform_credential_is_not_an_authentication_error_of_the_caller(running: Service) -> None:
    running.simulator.expected_authorization = "Bearer sk-another"
    async with running.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert caught.value.code == "upstream_credentials_refused"
    assert "sk-" not in str(caught.value.body)


async def test_a_client_that_leaves_cancels_the_upstream_and_pays_for_what_it_saw(running: Service) -> None:
    async with running.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, extra_headers=behave(output_tokens=1000, gap_ms=20)
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
    (row,) = await running.rows()
    assert row["error_type"] == "caller_cancelled"
    assert 1 <= row["output_tokens"] <= running.simulator.output_tokens < 100
    assert row["estimated"] == 1
    await until(lambda: running.simulator.cancelled)
    assert running.simulator.cancelled == 1


async def test_the_request_reaches_the_upstream_without_the_callers_key(running: Service) -> None:
    async with running.sdk() as sdk:
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, extra_headers={"x-mine": "kept"})
    seen = running.simulator.last_request
    assert seen["headers"]["authorization"] == f"Bearer {CREDENTIAL}"
    assert seen["headers"]["x-mine"] == "kept"
    assert KEY not in str(seen)
