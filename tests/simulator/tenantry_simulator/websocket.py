"""The simulator's WebSockets: realtime and responses. Speaks RFC 6455 in its own words; text messages of one frame."""

import asyncio
import base64
import hashlib
import json
import struct
from collections.abc import Callable
from urllib.parse import parse_qs

from tenantry_simulator import answers
from tenantry_simulator.answers import Json
from tenantry_simulator.behaviour import Behaviour

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PATHS = ("/v1/realtime", "/v1/responses")


def accept(headers: dict[str, str]) -> bytes:
    """The 101 for a handshake; the first protocol that is no key is chosen."""
    key = base64.b64encode(hashlib.sha1(f"{headers['sec-websocket-key']}{GUID}".encode()).digest()).decode()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {key}",
    ]
    offered = [word.strip() for word in headers.get("sec-websocket-protocol", "").split(",") if word.strip()]
    if offered:
        lines.append(f"Sec-WebSocket-Protocol: {offered[0]}")
    return "\r\n".join([*lines, "", ""]).encode()


def text(payload: bytes, opcode: int = 1) -> bytes:
    """A frame of ours."""
    size = len(payload)
    if size < 126:
        extended = struct.pack("!B", size)
    else:
        extended = struct.pack("!BH", 126, size) if size < 65536 else struct.pack("!BQ", 127, size)
    return bytes([0x80 | opcode]) + extended + payload


class Conversation:
    """One connection after its handshake."""

    def __init__(
        self, write: Callable[[bytes], None], close: Callable[[], None], target: str, behaviour: Behaviour
    ) -> None:
        self._write = write
        self._close = close
        self._path, _, query = target.partition("?")
        self._model = parse_qs(query).get("model", [""])[0]
        self._behaviour = behaviour
        self._buffer = b""
        self._words = 0
        self._turns = 0
        self.tasks: set[asyncio.Task[None]] = set()
        #: Every event that the client sent.
        self.seen: list[Json] = []
        if self._path == "/v1/realtime":
            self._say("session.created", session={"type": "realtime", "model": self._model})

    def _say(self, kind: str, **fields: object) -> None:
        self._write(text(answers.dump({"type": kind, "event_id": f"event_{self._turns}", **fields})))

    def feed(self, data: bytes) -> None:
        """Bytes of the client."""
        self._buffer += data
        while len(self._buffer) >= 6:
            opcode, size, start = self._buffer[0] & 15, self._buffer[1] & 127, 2
            if size == 126:
                size, start = struct.unpack_from("!H", self._buffer, 2)[0], 4
            elif size == 127:
                size, start = struct.unpack_from("!Q", self._buffer, 2)[0], 10
            end = start + 4 + size
            if len(self._buffer) < end:
                return
            key, masked = self._buffer[start : start + 4], self._buffer[start + 4 : end]
            self._buffer = self._buffer[end:]
            payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(masked))
            if opcode == 8:
                self._write(text(payload, 8))
                self._close()
            elif opcode == 9:
                self._write(text(payload, 10))
            elif opcode == 1:
                self._on_event(json.loads(payload))

    def _on_event(self, event: Json) -> None:
        self.seen.append(event)
        if event.get("type") == "conversation.item.create":
            self._words += answers.count_words(event.get("item", {}))
        if event.get("type") != "response.create":
            return
        self._turns += 1
        if self._path == "/v1/responses":
            self._model = event.get("model", self._model)
            request = {**event, "model": self._model}
            told = [
                line.removeprefix(b"data: ")
                for raw in answers.response_events(request, f"resp_{self._turns}", self._behaviour.output_tokens)
                for line in raw.split(b"\n")
                if line.startswith(b"data: ")
            ]
        else:
            told = self._realtime_turn()
        task = asyncio.get_running_loop().create_task(self._tell(told))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _realtime_turn(self) -> list[bytes]:
        identifier, output = f"resp_{self._turns}", self._behaviour.output_tokens
        usage = {
            "total_tokens": self._words + output,
            "input_tokens": self._words,
            "output_tokens": output,
            "input_token_details": {"text_tokens": self._words, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": output, "audio_tokens": 0},
        }
        response: Json = {"id": identifier, "object": "realtime.response", "status": "in_progress", "usage": None}
        done = {**response, "status": "completed", "usage": usage, "padding": "x" * self._behaviour.padding}
        deltas: list[Json] = [
            {"type": "response.output_text.delta", "response_id": identifier, "delta": word}
            for word in answers.words(output)
        ]
        events: list[Json] = [
            {"type": "response.created", "response": response},
            *deltas,
            {"type": "response.done", "response": done},
        ]
        return [answers.dump(event) for event in events]

    async def _tell(self, told: list[bytes]) -> None:
        for index, event in enumerate(told):
            if index == self._behaviour.die_after:
                self._close()
                return
            self._write(text(event))
            if self._behaviour.gap_ms:
                await asyncio.sleep(self._behaviour.gap_ms / 1000)
