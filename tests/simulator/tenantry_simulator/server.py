"""The simulator's server: asyncio and httptools, one protocol object per connection."""

import asyncio
import hashlib
import json
from collections import Counter
from typing import Any, cast
from urllib.parse import parse_qs

import httptools

from tenantry_simulator import answers, media, websocket
from tenantry_simulator.behaviour import Behaviour
from tenantry_simulator.resources import Shelf, form_fields

PREFIX = "x-simulator-"


class Simulator:
    """What all connections share: the behaviour, the expected credential, and the count of what was served."""

    def __init__(self, behaviour: Behaviour, expected_authorization: str | None = None) -> None:
        self.behaviour = behaviour
        self.expected_authorization = expected_authorization
        self.connections: set[Connection] = set()
        #: What is held goes on, once and for all.
        self.released = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self.cancelled = 0
        self.accepted = 0
        self.last_request: dict[str, Any] = {}
        self.sequence = 0
        self.shelf = Shelf()
        self.conversations: list[websocket.Conversation] = []

    def stats(self) -> dict[str, Any]:
        """What was served. ``output_tokens`` counts what was really sent, also in streams that ended early."""
        return {
            "requests": dict(self.requests),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cancelled": self.cancelled,
            "connections_accepted": self.accepted,
            "connections_open": len(self.connections),
            "last_request": self.last_request,
        }


class Connection(asyncio.Protocol):
    """One connection; a request after the other."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.task: asyncio.Task[None] | None = None
        self.conversation: websocket.Conversation | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted."""
        self.transport = cast("asyncio.Transport", transport)
        self.simulator.connections.add(self)
        self.simulator.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone; a stream under way was cancelled."""
        self.simulator.connections.discard(self)
        self.writable.set()
        if self.conversation is not None:
            for task in self.conversation.tasks:
                self.simulator.cancelled += 1
                task.cancel()
        if self.task is not None and not self.task.done():
            self.simulator.cancelled += 1
            self.task.cancel()

    def pause_writing(self) -> None:
        """The reader is slow."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse."""
        if self.conversation is not None:
            self.conversation.feed(data)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.transport.close()

    def _upgrade(self, rest: bytes) -> None:
        """The request was a WebSocket handshake; one that was refused has been answered already."""
        target = self.url.decode("latin-1")
        behaviour = self.simulator.behaviour
        if self.refused or target.partition("?")[0] not in websocket.PATHS:
            self.transport.close()
            return
        self.transport.write(websocket.accept(self.headers))
        self.conversation = websocket.Conversation(self.transport.write, self.transport.close, target, behaviour)
        self.simulator.conversations.append(self.conversation)
        if rest:
            self.conversation.feed(rest)

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.refused = False

    def on_url(self, url: bytes) -> None:
        """Request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        """Part of the body."""
        self.body.append(data)

    def on_message_complete(self) -> None:
        """Answer: at once if nothing has to be waited for, else in a task."""
        simulator = self.simulator
        method = self.parser.get_method().decode()
        path = self.url.decode("latin-1").partition("?")[0]
        body = b"".join(self.body)
        if path.startswith("/simulator/"):
            self._control(method, path, body)
            return
        chosen = {
            name[len(PREFIX) :].replace("-", "_"): value
            for name, value in self.headers.items()
            if name.startswith(PREFIX)
        }
        behaviour = simulator.behaviour.changed(chosen) if chosen else simulator.behaviour
        simulator.requests[f"{method} {path}"] += 1
        simulator.last_request = {"method": method, "target": self.url.decode("latin-1"), "headers": self.headers}
        expected = simulator.expected_authorization
        if expected is not None and self.headers.get("authorization") != expected:
            self.refused = True
            self.answer(401, answers.error(401, "Incorrect API key provided: sk-simu***ator.", "invalid_api_key"))
            return
        if self.parser.should_upgrade():
            return
        request = self._read(body)
        simulator.last_request["body"] = body.decode("utf-8", "replace") if len(body) < 65536 else len(body)
        simulator.last_request["body_sha256"] = hashlib.sha256(body).hexdigest()
        if behaviour.latency_ms or behaviour.stall_after >= 0 or behaviour.gap_ms or behaviour.hold_after >= 0:
            self.task = asyncio.get_running_loop().create_task(self._later(behaviour, method, path, request))
        else:
            self._answer(behaviour, method, path, request)

    def _read(self, body: bytes) -> dict[str, Any]:
        """The fields of a JSON body or of a form; empty for everything else."""
        kind = self.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            return form_fields(kind, body)
        if body and (not kind or kind.startswith("application/json")):
            found = json.loads(body)
            return found if isinstance(found, dict) else {}
        return {}

    async def _later(self, behaviour: Behaviour, method: str, path: str, request: dict[str, Any]) -> None:
        await asyncio.sleep(behaviour.latency_ms / 1000)
        if behaviour.stall_after == 0 or (behaviour.stall_after > 0 and not request.get("stream")):
            await asyncio.Event().wait()
        if behaviour.hold_after == 0:
            await self.simulator.released.wait()
        events = self._answer(behaviour, method, path, request)
        for index, event in enumerate(events):
            if index == behaviour.stall_after:
                await asyncio.Event().wait()
            if index == behaviour.die_after:
                self.transport.abort()
                return
            if index == behaviour.hold_after:
                await self.simulator.released.wait()
            self._write_event(event)
            await self.writable.wait()
            await asyncio.sleep(behaviour.gap_ms / 1000)
        if events:
            self._end_stream(behaviour)

    def _answer(self, behaviour: Behaviour, method: str, path: str, request: dict[str, Any]) -> list[bytes]:
        """Answer at once; a stream with gaps only gets its head here, and its events are returned."""
        simulator = self.simulator
        if behaviour.error_status:
            extra = b""
            if behaviour.retry_after_ms:
                extra = b"retry-after-ms: %d\r\n" % behaviour.retry_after_ms
            message = f"The simulator was told to answer {behaviour.error_status}."
            self.answer(behaviour.error_status, answers.error(behaviour.error_status, message), extra)
            return []
        if behaviour.die_after == 0:
            self.transport.abort()
            return []
        simulator.sequence += 1
        output = behaviour.output_tokens
        cap = request.get("max_completion_tokens", request.get("max_tokens", request.get("max_output_tokens")))
        if isinstance(cap, int):
            output = min(output, cap)
        if path == "/v1/chat/completions" and method == "POST":
            return self._chat(behaviour, request, output)
        if path == "/v1/responses" and method == "POST":
            identifier = f"resp_{simulator.sequence}"
            simulator.input_tokens += answers.count_words(request.get("input", ""))
            simulator.shelf.keep(f"responses/{identifier}", request=request, output=output)
            if request.get("stream"):
                return self._stream(behaviour, answers.response_events(request, identifier, output))
            simulator.output_tokens += output
            self.answer(200, answers.dump(answers.response_object(request, identifier, output, "completed")))
        elif path == "/v1/embeddings" and method == "POST":
            simulator.input_tokens += answers.count_words(request.get("input", ""))
            self.answer(200, answers.embeddings(request))
        elif method == "POST" and path in self._GENERATED:
            return self._generate(behaviour, path, request, output)
        elif method == "GET" and "stream=true" in self.url.decode("latin-1") and (again := self._response(path)):
            return self._stream(behaviour, again)
        elif path == "/v1/models" and method == "GET":
            listed = [answers.model(name) for name in answers.MODELS]
            self.answer(200, answers.dump({"object": "list", "data": listed}))
        elif path.startswith("/v1/models/") and path[11:] in answers.MODELS:
            self.answer(200, answers.dump(answers.model(path[11:])))
        else:
            kept = simulator.shelf.answer(method, path, request)
            if kept is None:
                self.answer(404, answers.error(404, f"Invalid URL ({method} {path})"))
            else:
                self.answer(kept[0], kept[2], b"content-type: %b\r\n" % kept[1].encode())
        return []

    def _response(self, path: str) -> list[bytes]:
        """The events of a response that was made before, from where its reader left off."""
        kept = self.simulator.shelf.get(path.removeprefix("/v1/"))
        if kept is None or not path.startswith("/v1/responses/"):
            return []
        query = parse_qs(self.url.decode("latin-1").partition("?")[2])
        after = int(query.get("starting_after", ["-1"])[0])
        return answers.response_events(kept["request"], kept["id"], kept["output"])[after + 1 :]

    _GENERATED = frozenset(
        [
            "/v1/completions",
            "/v1/moderations",
            "/v1/images/generations",
            "/v1/images/edits",
            "/v1/images/variations",
            "/v1/responses/compact",
            "/v1/responses/input_tokens",
            "/v1/audio/speech",
            "/v1/audio/transcriptions",
            "/v1/audio/translations",
            "/v1/realtime/client_secrets",
            "/v1/realtime/translations/client_secrets",
            "/v1/realtime/sessions",
            "/v1/realtime/transcription_sessions",
        ]
    )

    def _generate(self, behaviour: Behaviour, path: str, request: dict[str, Any], output: int) -> list[bytes]:
        streams = request.get("stream") in (True, "true") or request.get("stream_format") == "sse"
        identifier = f"sim_{self.simulator.sequence}"
        model = str(request.get("model", ""))
        size = len(request["file"][1]) if isinstance(request.get("file"), tuple) else 0
        events: list[bytes] = []
        body, kind = b"", b"application/json"
        match path.removeprefix("/v1/"):
            case "completions" if streams:
                events = answers.completion_events(request, identifier, output)
            case "completions":
                body = answers.completion(request, identifier, output)
            case "moderations":
                body = answers.moderation(request, identifier)
            case name if name.startswith("realtime/"):
                body = answers.client_secret(request)
            case "responses/compact":
                body = answers.dump(answers.response_object(request, identifier, output, "completed"))
            case "responses/input_tokens":
                into = answers.count_words(request.get("input", ""))
                body = answers.dump({"object": "response.input_tokens", "input_tokens": into})
            case "images/generations" | "images/edits" if streams:
                name = "image_generation" if path.endswith("generations") else "image_edit"
                events = media.image_events(request, behaviour.padding, name)
            case "images/generations" | "images/edits" | "images/variations":
                body = media.images(request)
            case "audio/speech" if streams:
                events = media.speech_events(request)
            case "audio/speech":
                body, kind = media.FILLER * max(1, behaviour.padding // len(media.FILLER)), b"audio/mpeg"
            case _ if streams:
                events = media.transcription_events(model, size, output)
            case _ if request.get("response_format") == "text":
                body, kind = "".join(answers.words(output)).encode(), b"text/plain; charset=utf-8"
            case _:
                body = media.transcription(model, size, output)
        if events:
            return self._stream(behaviour, events)
        self.answer(200, body, b"content-type: %b\r\n" % kind, cut=behaviour.die_after > 0)
        return []

    def _chat(self, behaviour: Behaviour, request: dict[str, Any], output: int) -> list[bytes]:
        simulator = self.simulator
        identifier = f"chatcmpl-{simulator.sequence}"
        simulator.input_tokens += answers.count_words(request.get("messages", []))
        if behaviour.omit_usage:
            request = {**request, "stream_options": None}
        if request.get("stream"):
            return self._stream(behaviour, answers.chat_events(request, identifier, output, behaviour.cached_tokens))
        simulator.output_tokens += output
        body = answers.chat(request, identifier, output, behaviour.cached_tokens)
        if behaviour.omit_usage or behaviour.padding:
            whole = json.loads(body)
            if behaviour.omit_usage:
                del whole["usage"]
            body = answers.dump({"padding": "x" * behaviour.padding, **whole})
        self.answer(200, body, until_close=bool(behaviour.until_close), cut=behaviour.die_after > 0)
        return []

    def _stream(self, behaviour: Behaviour, events: list[bytes]) -> list[bytes]:
        framing = b"connection: close" if behaviour.until_close else b"transfer-encoding: chunked"
        self.simulator.statuses[200] += 1
        self._chunked = not behaviour.until_close
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n" + framing + b"\r\n\r\n"
        )
        if behaviour.gap_ms or behaviour.stall_after >= 0 or behaviour.latency_ms or behaviour.hold_after >= 0:
            return events
        for index, event in enumerate(events):
            if index == behaviour.die_after:
                # What was written leaves first; the end is missing.
                self.transport.close()
                return []
            self._write_event(event)
        self._end_stream(behaviour)
        return []

    def _write_event(self, event: bytes) -> None:
        self.simulator.output_tokens += b'"content":"' in event and b'"content":""' not in event
        self.simulator.output_tokens += b"output_text.delta" in event
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)

    def _end_stream(self, behaviour: Behaviour) -> None:
        if behaviour.until_close:
            self.transport.close()
        else:
            self.transport.write(b"0\r\n\r\n")

    def answer(
        self, status: int, body: bytes, extra: bytes = b"", *, until_close: bool = False, cut: bool = False
    ) -> None:
        """Write one whole answer (or, cut, its first half)."""
        self.simulator.statuses[status] += 1
        framing = b"connection: close\r\n" if until_close else b"content-length: %d\r\n" % len(body)
        kind = b"" if extra.startswith(b"content-type:") else b"content-type: application/json\r\n"
        head = b"HTTP/1.1 %d Simulated\r\n" % status + kind
        self.transport.write(head + framing + extra + b"\r\n" + (body[: len(body) // 2] if cut else body))
        if until_close or cut:
            self.transport.close()

    def _control(self, method: str, path: str, body: bytes) -> None:
        simulator = self.simulator
        try:
            if (method, path) == ("GET", "/simulator/stats"):
                self.answer(200, answers.dump(simulator.stats()))
            elif (method, path) == ("PUT", "/simulator/behaviour"):
                simulator.behaviour = Behaviour().changed(json.loads(body))
                self.answer(200, answers.dump({"ok": True}))
            elif (method, path) == ("POST", "/simulator/reset"):
                simulator.reset()
                self.answer(200, answers.dump({"ok": True}))
            elif (method, path) == ("POST", "/simulator/release"):
                simulator.released.set()
                self.answer(200, answers.dump({"ok": True}))
            else:
                self.answer(404, answers.error(404, f"the simulator has no {method} {path}"))
        except ValueError as problem:
            self.answer(400, answers.error(400, str(problem)))
