"""Usage events as bytes: a JSON array in the order of the fields, in streams and journals.

Not compiled: msgspec reads these annotations at run time. Readers and writers may be of different versions: missing
fields at the end get their defaults, unknown ones are ignored.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from tenantry_service.ledger.event import UsageEvent

#: No request uses more (an answer has a billion tokens at most), nor costs a million USD: sums stay within 64 bits.
_Count = Annotated[int, Meta(ge=0, le=10**12)]
_Money = Annotated[int, Meta(ge=0, le=10**15)]
#: Ids and names have bounds far below these.
_Word = Annotated[str, Meta(max_length=512)]
_Id = Annotated[str, Meta(min_length=1, max_length=200)]
#: Year 2200, in Unix milliseconds: later is no time.
_Moment = Annotated[int, Meta(ge=0, le=7_258_118_400_000)]
#: A day is longer than any request; more is somebody's clock.
_Duration = Annotated[int, Meta(ge=0, le=366 * 86_400_000)]


class _Wire(Struct, array_like=True, gc=False):
    """The fields of :class:`UsageEvent`, with what a row can hold."""

    event_id: _Id
    tenant: _Word
    key_id: _Word
    occurred_at_ms: _Moment
    duration_ms: _Duration
    route: _Word
    requested_model: _Word
    served_model: _Word
    upstream: _Word
    status: Annotated[int, Meta(ge=0, le=32_767)]
    error_type: _Word
    stream: bool
    input_tokens: _Count
    cached_input_tokens: _Count
    output_tokens: _Count
    reasoning_tokens: _Count
    nano_usd: _Money
    estimated: bool
    price_version: _Word
    policy_revision: _Word
    usage: Annotated[str, Meta(max_length=1_000_000)] | None
    cache_write_tokens: _Count = 0
    audio_input_tokens: _Count = 0
    audio_output_tokens: _Count = 0
    image_input_tokens: _Count = 0
    image_output_tokens: _Count = 0
    service_tier: _Word = ""
    key_name: _Word = ""


class NoEvent(ValueError):  # noqa: N818 - says what happened
    """The bytes are no usage event; the message says what is wrong with them."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Wire)
encode = _encoder.encode
#: A NUL in JSON, perhaps: neither database keeps one in text. (Patterns in the types would cost half of the decoding.)
_ESCAPED_NUL = b"\\u0000"


def decode(data: bytes) -> UsageEvent:
    """Read an event.

    Raises:
        NoEvent: it is none, or one that no row can hold.
    """
    try:
        wire = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NoEvent(str(error)) from error
    if not wire.event_id.isascii() or not wire.event_id.isprintable() or " " in wire.event_id:
        raise NoEvent("an id has printable ASCII characters only, and no space")
    fields = msgspec.structs.astuple(wire)
    if _ESCAPED_NUL in data and any(isinstance(field, str) and "\0" in field for field in fields):
        raise NoEvent("a text with NUL in it")
    return UsageEvent._make(fields)
