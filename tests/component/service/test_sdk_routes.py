"""Every row of the route table by the method that the OpenAI SDK has for it, asynchronous and synchronous."""

import asyncio
import inspect
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tenantry_service.proxy.messages import Timer
from tenantry_service.proxy.routes import ROUTES

from tests.component.service.harness import Service, service

#: The id of everything that the simulator keeps in these tests.
I = "abc_1"  # noqa: E741
MODEL = "gpt-4o-mini"
HELLO = [{"role": "user", "content": "hello"}]
Sdk = Any


def sound() -> tuple[str, io.BytesIO]:
    return ("speech.mp3", io.BytesIO(bytes(6000)))


def picture() -> tuple[str, io.BytesIO]:
    return ("cat.png", io.BytesIO(bytes(2000)))


CALLS: dict[str, Callable[[Sdk], Any]] = {
    "POST /v1/chat/completions": lambda s: s.chat.completions.create(model=MODEL, messages=HELLO),
    "GET /v1/chat/completions": lambda s: s.chat.completions.list(),
    "GET /v1/chat/completions/{id}": lambda s: s.chat.completions.retrieve(I),
    "POST /v1/chat/completions/{id}": lambda s: s.chat.completions.update(I, metadata={"a": "b"}),
    "DELETE /v1/chat/completions/{id}": lambda s: s.chat.completions.delete(I),
    "GET /v1/chat/completions/{id}/messages": lambda s: s.chat.completions.messages.list(I),
    "POST /v1/completions": lambda s: s.completions.create(model=MODEL, prompt="hello"),
    "POST /v1/responses": lambda s: s.responses.create(model=MODEL, input="hello"),
    "POST /v1/responses/compact": lambda s: s.responses.compact(model=MODEL, input="hello"),
    "POST /v1/responses/input_tokens": lambda s: s.responses.input_tokens.count(model=MODEL, input="hello"),
    "GET /v1/responses/{id}": lambda s: s.responses.retrieve(I),
    "DELETE /v1/responses/{id}": lambda s: s.responses.delete(I),
    "POST /v1/responses/{id}/cancel": lambda s: s.responses.cancel(I),
    "GET /v1/responses/{id}/input_items": lambda s: s.responses.input_items.list(I),
    "POST /v1/embeddings": lambda s: s.embeddings.create(model="text-embedding-3-small", input="hello"),
    "POST /v1/images/generations": lambda s: s.images.generate(model="gpt-image-1", prompt="a cat"),
    "POST /v1/images/edits": lambda s: s.images.edit(model="gpt-image-1", image=picture(), prompt="a dog"),
    "POST /v1/images/variations": lambda s: s.images.create_variation(model="dall-e-2", image=picture()),
    "POST /v1/audio/speech": lambda s: s.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="hello"),
    "POST /v1/audio/transcriptions": lambda s: s.audio.transcriptions.create(model="whisper-1", file=sound()),
    "POST /v1/audio/translations": lambda s: s.audio.translations.create(model="whisper-1", file=sound()),
    "POST /v1/moderations": lambda s: s.moderations.create(input="hello"),
    "POST /v1/realtime/client_secrets": lambda s: s.realtime.client_secrets.create(
        session={"type": "realtime", "model": "gpt-realtime"}
    ),
    "POST /v1/realtime/translations/client_secrets": lambda s: s.realtime.translations.client_secrets.create(
        session={"model": "gpt-realtime-translate"}
    ),
    "POST /v1/realtime/sessions": lambda s: s.beta.realtime.sessions.create(model="gpt-realtime"),
    "POST /v1/realtime/transcription_sessions": lambda s: s.beta.realtime.transcription_sessions.create(),
    "POST /v1/conversations": lambda s: s.conversations.create(),
    "GET /v1/conversations/{id}": lambda s: s.conversations.retrieve(I),
    "POST /v1/conversations/{id}": lambda s: s.conversations.update(I, metadata={"a": "b"}),
    "DELETE /v1/conversations/{id}": lambda s: s.conversations.delete(I),
    "GET /v1/conversations/{id}/items": lambda s: s.conversations.items.list(I),
    "POST /v1/conversations/{id}/items": lambda s: s.conversations.items.create(I, items=HELLO),
    "GET /v1/conversations/{id}/items/{id}": lambda s: s.conversations.items.retrieve(I, conversation_id=I),
    "DELETE /v1/conversations/{id}/items/{id}": lambda s: s.conversations.items.delete(I, conversation_id=I),
    "GET /v1/files": lambda s: s.files.list(),
    "POST /v1/files": lambda s: s.files.create(file=("a", io.BytesIO(b"x")), purpose="batch"),
    "GET /v1/files/{id}": lambda s: s.files.retrieve(I),
    "DELETE /v1/files/{id}": lambda s: s.files.delete(I),
    "GET /v1/files/{id}/content": lambda s: s.files.content(I),
    "POST /v1/uploads": lambda s: s.uploads.create(bytes=1, filename="a", mime_type="text/plain", purpose="batch"),
    "POST /v1/uploads/{id}/parts": lambda s: s.uploads.parts.create(I, data=b"x"),
    "POST /v1/uploads/{id}/complete": lambda s: s.uploads.complete(I, part_ids=["part_1"]),
    "POST /v1/uploads/{id}/cancel": lambda s: s.uploads.cancel(I),
    "GET /v1/batches": lambda s: s.batches.list(),
    "POST /v1/batches": lambda s: s.batches.create(
        input_file_id=I, endpoint="/v1/chat/completions", completion_window="24h"
    ),
    "GET /v1/batches/{id}": lambda s: s.batches.retrieve(I),
    "POST /v1/batches/{id}/cancel": lambda s: s.batches.cancel(I),
    "GET /v1/fine_tuning/jobs": lambda s: s.fine_tuning.jobs.list(),
    "POST /v1/fine_tuning/jobs": lambda s: s.fine_tuning.jobs.create(model=MODEL, training_file=I),
    "GET /v1/fine_tuning/jobs/{id}": lambda s: s.fine_tuning.jobs.retrieve(I),
    "POST /v1/fine_tuning/jobs/{id}/cancel": lambda s: s.fine_tuning.jobs.cancel(I),
    "POST /v1/fine_tuning/jobs/{id}/pause": lambda s: s.fine_tuning.jobs.pause(I),
    "POST /v1/fine_tuning/jobs/{id}/resume": lambda s: s.fine_tuning.jobs.resume(I),
    "GET /v1/fine_tuning/jobs/{id}/events": lambda s: s.fine_tuning.jobs.list_events(I),
    "GET /v1/fine_tuning/jobs/{id}/checkpoints": lambda s: s.fine_tuning.jobs.checkpoints.list(I),
    "GET /v1/fine_tuning/checkpoints/{id}/permissions": lambda s: s.fine_tuning.checkpoints.permissions.list(I),
    "POST /v1/fine_tuning/checkpoints/{id}/permissions": lambda s: s.fine_tuning.checkpoints.permissions.create(
        I, project_ids=["p"]
    ),
    "DELETE /v1/fine_tuning/checkpoints/{id}/permissions/{id}": lambda s: s.fine_tuning.checkpoints.permissions.delete(
        I, fine_tuned_model_checkpoint=I
    ),
    "GET /v1/vector_stores": lambda s: s.vector_stores.list(),
    "POST /v1/vector_stores": lambda s: s.vector_stores.create(name="mine"),
    "GET /v1/vector_stores/{id}": lambda s: s.vector_stores.retrieve(I),
    "POST /v1/vector_stores/{id}": lambda s: s.vector_stores.update(I, name="yours"),
    "DELETE /v1/vector_stores/{id}": lambda s: s.vector_stores.delete(I),
    "POST /v1/vector_stores/{id}/search": lambda s: s.vector_stores.search(I, query="hello"),
    "GET /v1/vector_stores/{id}/files": lambda s: s.vector_stores.files.list(I),
    "POST /v1/vector_stores/{id}/files": lambda s: s.vector_stores.files.create(I, file_id=I),
    "GET /v1/vector_stores/{id}/files/{id}": lambda s: s.vector_stores.files.retrieve(I, vector_store_id=I),
    "POST /v1/vector_stores/{id}/files/{id}": lambda s: s.vector_stores.files.update(
        I, vector_store_id=I, attributes={}
    ),
    "DELETE /v1/vector_stores/{id}/files/{id}": lambda s: s.vector_stores.files.delete(I, vector_store_id=I),
    "GET /v1/vector_stores/{id}/files/{id}/content": lambda s: s.vector_stores.files.content(I, vector_store_id=I),
    "POST /v1/vector_stores/{id}/file_batches": lambda s: s.vector_stores.file_batches.create(I, file_ids=[I]),
    "GET /v1/vector_stores/{id}/file_batches/{id}": lambda s: s.vector_stores.file_batches.retrieve(
        I, vector_store_id=I
    ),
    "POST /v1/vector_stores/{id}/file_batches/{id}/cancel": lambda s: s.vector_stores.file_batches.cancel(
        I, vector_store_id=I
    ),
    "GET /v1/vector_stores/{id}/file_batches/{id}/files": lambda s: s.vector_stores.file_batches.list_files(
        I, vector_store_id=I
    ),
    "GET /v1/models": lambda s: s.models.list(),
    "GET /v1/models/{model...}": lambda s: s.models.retrieve("gpt-4o"),
    "DELETE /v1/models/{model...}": lambda s: s.models.delete("gpt-4o"),
}
#: What the simulator keeps, by path.
KEPT = (
    *(f"{kind}/{I}" for kind in ("chat/completions", "responses", "conversations", "files", "uploads", "batches")),
    *(f"{kind}/{I}" for kind in ("fine_tuning/jobs", "fine_tuning/checkpoints", "vector_stores", "models")),
    f"conversations/{I}/items/{I}",
    f"vector_stores/{I}/files/{I}",
    f"vector_stores/{I}/file_batches/{I}",
)


def test_the_sdk_is_asked_for_every_row_of_the_table_and_for_no_other() -> None:
    assert set(CALLS) == {f"{route.method} {route.template}" for route in ROUTES}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    patient = {Timer.FIRST_BYTE: 60, Timer.IDLE: 60}
    async with service(tmp_path, patient) as found:
        yield found


def fill(running: Service) -> None:
    """What one call has deleted is there for the next."""
    for path in KEPT:
        running.simulator.shelf.keep(path)
    running.simulator.requests.clear()


def path_of(name: str) -> str:
    return name.replace("{id}", I).replace("{model...}", "gpt-4o")


@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
async def test_every_method_of_the_sdk_arrives_at_its_route_and_leaves_its_row(
    running: Service, synchronous: bool
) -> None:
    def all_at_once() -> dict[str, list[str]]:
        arrived = {}
        with running.sync_sdk() as sdk:
            for name, call in CALLS.items():
                fill(running)
                call(sdk)
                arrived[name] = list(running.simulator.requests.elements())
        return arrived

    async def one_by_one() -> dict[str, list[str]]:
        arrived = {}
        async with running.sdk() as sdk:
            for name, call in CALLS.items():
                fill(running)
                found = call(sdk)
                if inspect.isawaitable(found):
                    await found
                arrived[name] = list(running.simulator.requests.elements())
        return arrived

    arrived = await asyncio.to_thread(all_at_once) if synchronous else await one_by_one()
    assert arrived == {name: [path_of(name)] for name in CALLS}
    rows = await running.rows()
    assert sorted(row["route"] for row in rows) == sorted(route.template for route in ROUTES if route.metered)
    assert {row["error_type"] for row in rows} == {"none"}
    assert running.metric("tenantry_in_flight_requests") == 0
