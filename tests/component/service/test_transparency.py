"""A call through the service and one straight to the upstream are the same, byte for byte; nothing that a client sends
makes the service fail, hang or leak."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenantry_service.proxy import routes
from tenantry_service.proxy.messages import Timer
from tenantry_service.proxy.routes import Match, Plan, Route

from tests.component.service.harness import CREDENTIAL, KEY, Service, service, until
from tests.component.service.test_wire import Client

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff\r\n--\r\n--b--\r\n'
)
JSON = b"application/json"
MULTIPART = b"multipart/form-data; boundary=b"


def body(**fields: object) -> bytes:
    """JSON that nobody would write the same way again."""
    return json.dumps({"zzz": [1.50, "\u20ac", {"b": None}], **fields}, indent=1).encode().replace(b"1.5", b"1.50e0")


CALLS: dict[str, tuple[str, str, bytes, bytes]] = {
    "chat": ("POST", "/v1/chat/completions", JSON, body(model="gpt-4o", messages=[])),
    "chat stream": (
        "POST",
        "/v1/chat/completions",
        JSON,
        body(model="gpt-4o", messages=[], stream=True, stream_options={"include_usage": True}),
    ),
    "responses": ("POST", "/v1/responses", JSON, body(model="gpt-4o", input="a b")),
    "response compaction": ("POST", "/v1/responses/compact", JSON, body(model="gpt-4o", input="a b")),
    "input tokens": ("POST", "/v1/responses/input_tokens", JSON, body(model="gpt-4o", input="a b")),
    "responses stream": ("POST", "/v1/responses?x=%20&y", JSON, body(model="gpt-4o", input="a b", stream=True)),
    "completions": ("POST", "/v1/completions", JSON, body(model="gpt-4o", prompt="a b")),
    "embeddings": ("POST", "/v1/embeddings", JSON, body(model="text-embedding-3-small", input=[[1, 2], [3]])),
    "images": ("POST", "/v1/images/generations", JSON, body(model="gpt-image-1", prompt="a cat")),
    "images stream": ("POST", "/v1/images/generations", JSON, body(model="gpt-image-1", prompt="a", stream=True)),
    "image edit": ("POST", "/v1/images/edits", MULTIPART, FORM),
    "speech": ("POST", "/v1/audio/speech", JSON, body(model="gpt-4o-mini-tts", input="a b", voice="x")),
    "speech stream": ("POST", "/v1/audio/speech", JSON, body(model="tts", input="a b", stream_format="sse")),
    "transcription": ("POST", "/v1/audio/transcriptions", MULTIPART, FORM),
    "translation": ("POST", "/v1/audio/translations", MULTIPART, FORM),
    "moderation": ("POST", "/v1/moderations", JSON, body(input=["a", "b"])),
    "file": ("POST", "/v1/files", MULTIPART, FORM),
    "files": ("GET", "/v1/files?limit=2&after=a%2Fb", b"", b""),
    "missing file": ("GET", "/v1/files/file-abc/content", b"", b""),
    "batch": ("POST", "/v1/batches", JSON, body(input_file_id="f")),
    "fine-tuning": ("POST", "/v1/fine_tuning/jobs", JSON, body(model="gpt-4o", training_file="f")),
    "vector store": ("POST", "/v1/vector_stores", JSON, body(name="v")),
    "vector store search": ("POST", "/v1/vector_stores/vs_1/search", JSON, body(query="v")),
    "conversation": ("POST", "/v1/conversations", JSON, body()),
    "deletion": ("DELETE", "/v1/responses/resp_1", b"", b""),
    "client secret": ("POST", "/v1/realtime/client_secrets", JSON, body(session={"model": "gpt-realtime"})),
    "translating secret": ("POST", "/v1/realtime/translations/client_secrets", JSON, body(session={"model": "m"})),
    "realtime session": ("POST", "/v1/realtime/sessions", JSON, body(model="gpt-realtime")),
    "transcription session": ("POST", "/v1/realtime/transcription_sessions", JSON, body()),
    "image variation": ("POST", "/v1/images/variations", MULTIPART, FORM),
    "models": ("GET", "/v1/models", b"", b""),
    "model": ("GET", "/v1/models/gpt-4o", b"", b""),
    "unknown": ("PATCH", "/v1/novelties/n-1:run?a=b", b"application/x-own", bytes(range(256))),
}


def route_of(method: str, target: str) -> Route | None:
    found = routes.match(method, target.partition("?")[0].encode())
    return found.route if isinstance(found, Match) else None


def everything_else() -> dict[str, tuple[str, str, bytes, bytes]]:
    """A call of each row of the table that has none above: all of them pass whatever bytes they bring."""
    called = {route_of(method, target) for method, target, _, _ in CALLS.values()}
    found = {}
    for route in routes.ROUTES:
        if route not in called:
            target = route.template.replace("{id}", "a_1").replace("{model...}", "ft:gpt-4o:x") + "?odd=%20%c3&b"
            kind, content = (b"application/x-own", bytes(range(256))) if route.method == "POST" else (b"", b"")
            found[f"{route.method} {route.template}"] = (route.method, target, kind, content)
    return found


CALLS |= everything_else()


def test_every_row_of_the_table_is_called() -> None:
    assert {route_of(method, target) for method, target, _, _ in CALLS.values()} >= set(routes.ROUTES)
    assert {route.plan for route in routes.ROUTES if f"{route.method} {route.template}" in CALLS} <= {
        Plan.FORWARD,
        Plan.MODEL,
    }


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


async def call(running: Service, port: int, key: str, name: str) -> tuple[int, str | None, bytes, object, object]:
    method, target, kind, content = CALLS[name]
    running.simulator.reset()
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    lines = [
        f"{method} {target} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {key}",
        f"content-length: {len(content)}",
    ]
    lines += [f"content-type: {kind.decode()}"] if kind else []
    client.writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    status, headers, answer = await client.answer()
    client.writer.close()
    seen = running.simulator.last_request
    return status, headers.get("content-type"), answer, seen["target"], seen["body_sha256"]


@pytest.mark.parametrize("name", CALLS)
async def test_request_and_answer_are_those_of_a_direct_call(running: Service, name: str) -> None:
    direct = await call(running, running.simulator_port, CREDENTIAL, name)
    assert await call(running, running.port, KEY, name) == direct
    assert direct[0] in (200, 404)


# Whatever a client sends.

SEEDS = [
    f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()
    + (b"content-type: %b\r\n" % kind if kind else b"")
    + b"content-length: %d\r\n\r\n" % len(content)
    + content
    for method, target, kind, content in CALLS.values()
] + [
    f"GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()
    + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    + b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n\x81\x82abcd\x1a\x1f",
]
SMUGGLED = [
    b"transfer-encoding: chunked\r\n",
    b"content-length: 3\r\n",
    b"transfer-encoding : chunked\r\n",
    b"x: a\nb: c\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    b"\x00",
    b"{" * 2000,
    b'"model":"gpt-4o",',
    b"expect: 100-continue\r\n",
    b"--b",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
]
Edit = tuple[int, int, bytes]
EDITS = st.lists(
    st.tuples(st.integers(0, 700), st.integers(0, 20), st.one_of(st.sampled_from(SMUGGLED), st.binary(max_size=8))),
    max_size=3,
)


def edited(request: bytes, edits: list[Edit]) -> bytes:
    for position, drop, insert in edits:
        at = position % (len(request) + 1)
        request = request[:at] + insert + request[at + drop :]
    return request


async def throw(running: Service, pieces: list[bytes], leave: bool) -> None:
    """Send, read what comes, go: before the answer or behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        if not leave:
            async with asyncio.timeout(0.02):
                while await reader.read(65536):
                    pass
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()


def test_nothing_that_a_client_sends_makes_the_service_fail_hang_or_leak(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        context = service(tmp_path, {Timer.REQUEST_BODY: 1})
        running = runner.run(context.__aenter__())

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(SEEDS), EDITS, st.integers(0, 2000), st.booleans())
        def attack(seed: bytes, edits: list[Edit], cut: int, leave: bool) -> None:
            raw = edited(seed, edits)
            cut = cut % (len(raw) + 1)
            runner.run(throw(running, [raw[:cut], raw[cut:]], leave))
            assert running.engine.telemetry.internal_errors == 0

        async def quiet() -> None:
            await until(lambda: not running.engine.telemetry.in_flight and not running.engine.telemetry.connections)

        async def still_serves() -> None:
            assert (await call(running, running.port, KEY, "chat"))[0] == 200

        try:
            runner.run(still_serves())
            runner.run(quiet())
            before = len(os.listdir("/proc/self/fd"))
            attack()
            runner.run(quiet())
            assert running.engine.held_bytes == 0

            def left() -> int:
                # What is kept is the pool's connections to the upstream, and no more.
                kept = sum(busy + idle for _, busy, idle in running.engine.upstreams.figures())
                return len(os.listdir("/proc/self/fd")) - before - 2 * kept

            # The upstream closes its end when it sees that ours is closed.
            runner.run(until(lambda: left() <= 0))
            assert left() <= 0
            runner.run(still_serves())
        finally:
            runner.run(context.__aexit__(None, None, None))
