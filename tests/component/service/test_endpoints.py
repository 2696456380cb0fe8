"""Every endpoint through the real OpenAI SDK, asynchronous and synchronous, and what the ledger says of it."""

import asyncio
import inspect
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from tenantry_service.policy import Models, Routes, UnknownRoute
from tenantry_service.proxy.messages import Timer

from tests.component.service.harness import CREDENTIAL, Service, service

#: Six seconds of what passes for audio.
SOUND = bytes(6000)
Sdk = Any


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


def sound() -> tuple[str, io.BytesIO]:
    return ("speech.mp3", io.BytesIO(SOUND))


@dataclass(frozen=True)
class Case:
    """One call, what a good answer has, and the row that it leaves: tokens in, tokens out, whether they are counted."""

    call: Callable[[Sdk], Any]
    good: Callable[[Any], object]
    row: tuple[int, int, int] = (0, 0, 0)
    route: str = ""


def events(kind: str) -> Callable[[Any], object]:
    return lambda found: found[-1].type == kind and len(found) > 1


CASES = {
    "responses": Case(
        lambda sdk: sdk.responses.create(model="gpt-4o-mini", input="two words"),
        lambda found: found.output_text.startswith("This is"),
        (2, 10, 0),
        "/v1/responses",
    ),
    "responses stream": Case(
        lambda sdk: sdk.responses.create(model="gpt-4o-mini", input="two words", stream=True),
        events("response.completed"),
        (2, 10, 0),
        "/v1/responses",
    ),
    "completions": Case(
        lambda sdk: sdk.completions.create(model="gpt-4o-mini", prompt="two words"),
        lambda found: found.choices[0].text.startswith("This is"),
        (2, 10, 0),
        "/v1/completions",
    ),
    "completions stream": Case(
        lambda sdk: sdk.completions.create(model="gpt-4o-mini", prompt="two words", stream=True),
        lambda found: len(found) == 10 and all(chunk.choices and chunk.usage is None for chunk in found),
        (2, 10, 0),
        "/v1/completions",
    ),
    "embeddings": Case(
        lambda sdk: sdk.embeddings.create(model="text-embedding-3-small", input=["one two", "three"]),
        lambda found: len(found.data) == 2,
        (3, 0, 0),
        "/v1/embeddings",
    ),
    "image": Case(
        lambda sdk: sdk.images.generate(model="gpt-image-1", prompt="a red cat", n=2),
        lambda found: len(found.data) == 2,
        (3, 544, 0),
        "/v1/images/generations",
    ),
    "image without usage": Case(
        lambda sdk: sdk.images.generate(model="dall-e-3", prompt="a red cat"),
        lambda found: len(found.data) == 1,
        (14, 1056, 1),
        "/v1/images/generations",
    ),
    "image stream": Case(
        lambda sdk: sdk.images.generate(model="gpt-image-1", prompt="a red cat", stream=True, partial_images=1),
        events("image_generation.completed"),
        (3, 272, 0),
        "/v1/images/generations",
    ),
    "image stream of real size": Case(
        lambda sdk: sdk.images.generate(
            model="gpt-image-1", prompt="a red cat", stream=True, extra_headers={"x-simulator-padding": "1000000"}
        ),
        events("image_generation.completed"),
        (3, 272, 0),
        "/v1/images/generations",
    ),
    "image edit": Case(
        lambda sdk: sdk.images.edit(model="gpt-image-1", image=("cat.png", io.BytesIO(bytes(200_000))), prompt="a dog"),
        lambda found: len(found.data) == 1,
        (2, 272, 0),
        "/v1/images/edits",
    ),
    "speech": Case(
        lambda sdk: sdk.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="say so"),
        lambda found: len(found.content) > 1000,
        (20, 84, 1),
        "/v1/audio/speech",
    ),
    "speech stream": Case(
        lambda sdk: sdk.audio.speech.create(
            model="gpt-4o-mini-tts", voice="alloy", input="say so", stream_format="sse"
        ),
        lambda found: found.content.count(b"event: speech.audio.delta\n") == 2,
        (2, 20, 0),
        "/v1/audio/speech",
    ),
    "transcription": Case(
        lambda sdk: sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound()),
        lambda found: found.text.startswith("This is") and found.usage.input_tokens == 60,
        (60, 10, 0),
        "/v1/audio/transcriptions",
    ),
    "transcription by the second": Case(
        lambda sdk: sdk.audio.transcriptions.create(model="whisper-1", file=sound()),
        lambda found: found.usage.seconds == 6,
        (100, 0, 0),
        "/v1/audio/transcriptions",
    ),
    "transcription stream": Case(
        lambda sdk: sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound(), stream=True),
        events("transcript.text.done"),
        (60, 10, 0),
        "/v1/audio/transcriptions",
    ),
    "transcription as text": Case(
        lambda sdk: sdk.audio.transcriptions.create(model="whisper-1", file=sound(), response_format="text"),
        lambda found: found.startswith("This is"),
        (6, 13, 1),
        "/v1/audio/transcriptions",
    ),
    "translation": Case(
        lambda sdk: sdk.audio.translations.create(model="whisper-1", file=sound()),
        lambda found: found.text.startswith("This is"),
        (100, 0, 0),
        "/v1/audio/translations",
    ),
    "moderation": Case(
        lambda sdk: sdk.moderations.create(input="nice"),
        lambda found: not found.results[0].flagged,
        route="/v1/moderations",
    ),
    "client secret": Case(
        lambda sdk: sdk.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-realtime"}),
        lambda found: found.value == "ek_simulated",
        route="/v1/realtime/client_secrets",
    ),
    "file upload": Case(
        lambda sdk: sdk.files.create(file=("data.jsonl", io.BytesIO(b"{}\n" * 100_000)), purpose="batch"),
        lambda found: found.bytes == 300_000 and found.filename == "data.jsonl",
        route="/v1/files",
    ),
    "file list": Case(
        lambda sdk: sdk.files.list(limit=3, extra_query={"odd": "a b&c"}),
        lambda found: found.data == [],
        route="/v1/files",
    ),
    "batch": Case(
        lambda sdk: sdk.batches.create(
            input_file_id="file_1", endpoint="/v1/chat/completions", completion_window="24h"
        ),
        lambda found: found.input_file_id == "file_1",
        route="/v1/batches",
    ),
    "fine-tuning": Case(
        lambda sdk: sdk.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file_1"),
        lambda found: found.training_file == "file_1",
        route="/v1/fine_tuning/jobs",
    ),
    "vector store": Case(
        lambda sdk: sdk.vector_stores.create(name="mine"), lambda found: found.name == "mine", route="/v1/vector_stores"
    ),
    "conversation": Case(
        lambda sdk: sdk.conversations.create(metadata={"a": "b"}),
        lambda found: found.metadata == {"a": "b"},
        route="/v1/conversations",
    ),
}


async def _await(found: Any) -> Any:
    if inspect.isawaitable(found):
        found = await found
    return [event async for event in found] if isinstance(found, openai.AsyncStream) else found


async def _collect(stream: Any, into: list[str]) -> None:
    async for event in stream:
        into.append(event.type)  # noqa: PERF401 what came before an error counts


def _read(found: Any) -> Any:
    return list(found) if isinstance(found, openai.Stream) else found


@pytest.mark.parametrize("name", CASES)
async def test_every_endpoint_answers_and_is_accounted_for(running: Service, name: str) -> None:
    case = CASES[name]

    def synchronously() -> Any:
        with running.sync_sdk() as sdk:
            return _read(case.call(sdk))

    async with running.sdk() as sdk:
        assert case.good(await _await(case.call(sdk)))
    assert case.good(await asyncio.to_thread(synchronously))
    rows = await running.rows()
    assert [(row["input_tokens"], row["output_tokens"], row["estimated"]) for row in rows] == [case.row] * 2
    assert {(row["route"], row["status"], row["error_type"]) for row in rows} == {(case.route, 200, "none")}
    assert running.metric("tenantry_in_flight_requests") == 0


async def test_what_was_stored_can_be_read_changed_and_deleted(running: Service) -> None:
    async with running.sdk() as sdk:
        stored = await sdk.files.create(file=("a.bin", io.BytesIO(bytes(range(256)))), purpose="user_data")
        assert (await sdk.files.content(stored.id)).content == bytes(range(256))
        assert [file.id async for file in sdk.files.list()] == [stored.id]
        assert (await sdk.files.delete(stored.id)).deleted
        store = await sdk.vector_stores.create(name="mine")
        assert (await sdk.vector_stores.update(store.id, name="yours")).name == "yours"
        job = await sdk.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file_1")
        assert (await sdk.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
        upload = await sdk.uploads.create(bytes=10, filename="b", mime_type="text/plain", purpose="batch")
        part = await sdk.uploads.parts.create(upload.id, data=b"0123456789")
        assert (await sdk.uploads.complete(upload.id, part_ids=[part.id])).status == "completed"
        with pytest.raises(openai.NotFoundError):
            await sdk.files.retrieve(stored.id)


async def test_a_response_is_read_again_from_where_its_reader_left_off(running: Service) -> None:
    async with running.sdk() as sdk:
        made = await sdk.responses.create(model="gpt-4o-mini", input="two words", background=True)
        whole = [event async for event in await sdk.responses.retrieve(made.id, stream=True)]
        rest = [event async for event in await sdk.responses.retrieve(made.id, stream=True, starting_after=7)]
        assert (await sdk.responses.cancel(made.id)).status == "cancelled"
        assert (await sdk.responses.input_items.list(made.id)).data == []
        await sdk.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(made.id)
    assert whole[-1].type == "response.completed"
    assert [event.sequence_number for event in rest] == [event.sequence_number for event in whole[8:]]
    assert running.simulator.requests[f"GET /v1/responses/{made.id}"] == 3
    # What was made is paid for once, however often it is read.
    rows = await running.rows()
    assert [row["output_tokens"] for row in rows] == [10, 0, 0, 0, 0, 0, 0]
    assert {row["route"] for row in rows[1:3]} == {"/v1/responses/{id}"}


async def test_a_response_that_is_read_again_and_breaks_off_ends_with_an_error_event(running: Service) -> None:
    headers = {"x-simulator-die-after": "3", "x-simulator-gap-ms": "5"}
    async with running.sdk() as sdk:
        made = await sdk.responses.create(model="gpt-4o-mini", input="two words")
        again = await sdk.responses.retrieve(made.id, stream=True, starting_after=4, extra_headers=headers)
        seen: list[str] = []
        with pytest.raises(openai.APIError, match="what came before this event is incomplete"):
            await _collect(again, seen)
    assert seen == ["response.output_text.delta"] * 3


async def test_a_route_that_nobody_knows_passes_and_is_metered_as_other(running: Service) -> None:
    async with running.sdk() as sdk:
        with pytest.raises(openai.NotFoundError, match=r"Invalid URL \(PUT /v1/novelties/n_1\)"):
            await sdk.put("/novelties/n_1", body={"a": 1}, cast_to=object, options={"params": {"x": "1"}})
    assert running.simulator.last_request["target"] == "/v1/novelties/n_1?x=1"
    assert running.simulator.last_request["headers"]["authorization"] == f"Bearer {CREDENTIAL}"
    (row,) = await running.rows()
    assert (row["route"], row["nano_usd"]) == ("/v1/{other}", 0)
    assert 'gen_ai_operation_name="other"' in running.engine.telemetry.render().decode()


async def test_a_policy_says_which_routes_there_are(running: Service) -> None:
    running.serve(routes=Routes(unknown=UnknownRoute.REFUSE, allow=("/v1/embeddings", "/v1/files*")))
    async with running.sdk() as sdk:
        assert (await sdk.files.list()).data == []
        await sdk.embeddings.create(model="text-embedding-3-small", input="x")
        for refused in ("/novelties", "/chat/completions", "/batches", "/organization/users"):
            with pytest.raises(openai.NotFoundError, match="Invalid URL"):
                await sdk.post(refused, body={"model": "gpt-4o-mini", "messages": []}, cast_to=object)
    assert running.simulator.requests.total() == 2


@pytest.mark.parametrize("name", ["responses", "embeddings", "image", "speech", "transcription", "image edit"])
async def test_a_model_that_is_not_allowed_is_not_found_anywhere(running: Service, name: str) -> None:
    running.serve(models=Models(allow=("gpt-5*",)))
    async with running.sdk() as sdk:
        with pytest.raises(openai.NotFoundError) as caught:
            await _await(CASES[name].call(sdk))
    assert caught.value.code == "model_not_found"
    assert running.simulator.requests.total() == 0


async def test_an_alias_is_resolved_in_a_form_as_well(running: Service) -> None:
    running.serve(models=Models(aliases={"ears": "gpt-4o-transcribe"}))
    async with running.sdk() as sdk:
        found = await sdk.audio.transcriptions.create(model="ears", file=sound())
    assert found.text.startswith("This is")
    assert 'name="model"\r\n\r\ngpt-4o-transcribe\r\n' in running.simulator.last_request["body"]
    (row,) = await running.rows()
    assert (row["requested_model"], row["served_model"]) == ("ears", "gpt-4o-transcribe")


async def test_a_default_model_and_a_forced_maximum_stand_in(running: Service) -> None:
    running.serve(models=Models(default="gpt-4o-mini", max_output_tokens=4))
    async with running.sdk() as sdk:
        answer = await sdk.post("/responses", body={"input": "hello"}, cast_to=openai.types.responses.Response)
        assert answer.output_text == "This is the simulator"
        chat = await sdk.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "x"}], max_completion_tokens=9
        )
    assert chat.usage is not None
    assert chat.usage.completion_tokens == 4
    assert [row["requested_model"] for row in await running.rows()] == ["gpt-4o-mini", "gpt-4o"]


@pytest.mark.parametrize("fault", [{"die_after": "3"}, {"stall_after": "3"}])
async def test_a_stream_of_events_that_breaks_off_ends_with_an_error_event(
    running: Service, fault: dict[str, str]
) -> None:
    headers = {f"x-simulator-{name.replace('_', '-')}": value for name, value in fault.items()}
    if "stall_after" in fault:
        running.steady()
        running.engine.seconds[Timer.IDLE] = 1.5
    async with running.sdk() as sdk:
        stream = await sdk.responses.create(
            model="gpt-4o-mini", input="x", stream=True, extra_headers={**headers, "x-simulator-gap-ms": "5"}
        )
        seen: list[str] = []
        with pytest.raises(openai.APIError, match="what came before this event is incomplete"):
            await _collect(stream, seen)
    assert seen == ["response.created", "response.output_text.delta", "response.output_text.delta"]
    (row,) = await running.rows()
    assert (row["output_tokens"], row["estimated"]) == (2, 1)
