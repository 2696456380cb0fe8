"""Accounting of event streams other than chat's: each event says its own ``type``. Pure.

One meter for all of them (responses, images, speech, transcriptions, and what is not known): usage stands in the event
itself or in the ``response`` that it carries, and the last one counts. Event names: OpenAI's API reference, "Streaming
events".
"""

import re

import msgspec
from msgspec import Raw

from tenantry_service.errors import ApiError
from tenantry_service.proxy import usage as usages
from tenantry_service.proxy.shapes import ABSENT, TypedEvent
from tenantry_service.proxy.sse import EventStream

#: After these nothing comes that matters, whatever happens to the connection.
LAST_WORDS = frozenset(
    [
        "response.completed",
        "response.incomplete",
        "response.failed",
        "image_generation.completed",
        "image_edit.completed",
        "speech.audio.done",
        "transcript.text.done",
    ]
)
_FAILED = frozenset(["error", "response.failed"])
_TYPE = re.compile(rb'"type"\s*:\s*"([a-z_.]{1,64})"')


_decoder = msgspec.json.Decoder(TypedEvent)
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class TypedStreamMeter(EventStream):
    """See the module."""

    __slots__ = ("_sequence",)

    def __init__(self) -> None:
        super().__init__()
        self._sequence = 0

    def _account_payload(self, payload: bytes) -> bool:
        try:
            found = _decoder.decode(payload)
        except _MALFORMED:
            self.deltas += 1
            return True
        self._sequence = max(self._sequence, found.sequence_number)
        self._note(found.type, failed=usages.given(found.error))
        # Escapes are few in text; tokens are counted from it only if the upstream never says how many there were.
        delta = bytes(found.delta)
        if delta.startswith(b'"') and len(delta) > 2:
            self.deltas += 1
            self._bytes += len(delta) - 2
        response = found.response
        tier = ABSENT if response is None else response.service_tier
        for raw in (found.usage, ABSENT if response is None else response.usage):
            self._take(bytes(raw) if usages.given(raw) else None, tier)
        return True

    def _account_large(self, start: bytes, end: bytes) -> None:
        kind = _TYPE.search(start)
        if kind is not None:
            self._note(kind[1].decode("ascii"), failed=False)
        self._take(usages.last_usage(end))

    def _note(self, kind: str, *, failed: bool) -> None:
        if kind in LAST_WORDS:
            self.done = True
        if failed or kind in _FAILED:
            self.failed = True

    def _take(self, raw: bytes | None, tier: Raw = ABSENT) -> None:
        if raw is None:
            return
        found = usages.parse(raw, tier)
        if found is not None:
            self.usage, self.raw_usage = found, raw

    def error_event(self, error: ApiError) -> bytes:
        """The ``error`` event of a stream that ends early. It says the same twice: as the Responses API does (the
        event's own fields), and as the SDK looks for in any stream (``error``, which it raises)."""
        said = msgspec.json.decode(error.body())["error"]
        event = {
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "sequence_number": self._sequence + 1,
            "error": said,
        }
        return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"
