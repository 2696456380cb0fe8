"""What the events of a WebSocket session say, as far as it matters here. Pure."""

import msgspec
from msgspec import Raw, Struct

from tenantry_service.errors import ApiError
from tenantry_service.proxy import usage
from tenantry_service.proxy.frames import Message
from tenantry_service.proxy.shapes import ABSENT

#: Events that say what a turn used.
SETTLES = frozenset(
    [
        "response.done",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "conversation.item.input_audio_transcription.completed",
    ]
)
BEGINS = frozenset(["response.created"])


class _Response(Struct, gc=False):
    usage: Raw = ABSENT


class Event(Struct, gc=False):
    """An event of either side."""

    type: str = ""
    model: str | None = None
    usage: Raw = ABSENT
    response: _Response | None = None


_decoder = msgspec.json.Decoder(Event)
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read(payload: bytes) -> Event | None:
    """An event; None if it is none."""
    try:
        return _decoder.decode(payload)
    except _MALFORMED:
        return None


def rewritten(payload: bytes, served: str, most: int | None) -> bytes:
    """A client's event, written anew; it names the model ``served`` and ``most`` output tokens, where given."""
    fields = _object_decoder.decode(payload)
    if served:
        fields["model"] = Raw(msgspec.json.encode(served))
    if most is not None:
        fields["max_output_tokens"] = Raw(b"%d" % most)
    return msgspec.json.encode(fields)


def usage_of(message: Message) -> tuple[str, bytes | None]:
    """Type and usage of an upstream's event."""
    if not message.payload:
        return _type_of(message.start), usage.last_usage(message.end)
    event = read(message.payload)
    if event is None:
        return "", None
    for raw in (event.usage, event.response.usage if event.response is not None else ABSENT):
        if usage.given(raw):
            return event.type, bytes(raw)
    return event.type, None


def _type_of(start: bytes) -> str:
    head, found, rest = start.partition(b'"type":')
    return rest.lstrip()[1:].partition(b'"')[0].decode("ascii", "replace") if found and len(head) < 256 else ""


def error_event(error: ApiError) -> bytes:
    """As both APIs write it."""
    said = msgspec.json.decode(error.body())["error"]
    return msgspec.json.encode({"type": "error", "status": error.status, "error": said})
