"""Finding out what an answer used. Pure.

OpenAI writes usage in two spellings (``prompt_tokens`` of chat and embeddings, ``input_tokens`` of responses, images
and audio); both give one :class:`~tenantry_service.pricing.Usage`.
"""

import json
import math
import re
from typing import Final

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from tenantry_service.pricing import Usage
from tenantry_service.proxy.shapes import ABSENT, Answered, UsageDetails, UsageObject

#: An answer up to this size is parsed whole; of a larger one only the end is looked at, where usage stands.
WHOLE_BYTES: Final = 256 * 1024
TAIL_BYTES: Final = 16 * 1024

#: No answer has more tokens than this, whatever it says; JSON's own integers end at 2^53, SQLite's at 2^63.
MOST_TOKENS: Final = 1_000_000_000

#: What a minute of audio counts as where it is charged by its length: OpenAI asks the same for a minute of whisper-1 as
#: for 1,000 audio tokens of gpt-4o-transcribe (0.006 USD).
AUDIO_TOKENS_PER_MINUTE = 1_000

#: A service tier as JSON; `priority` is the longest there is.
_TIER = re.compile(rb'"([a-z_-]{1,32})"')
#: Those of OpenAI.
_TIERS_KNOWN: Final = {b'"%b"' % tier.encode(): tier for tier in ("auto", "default", "flex", "priority", "scale")}
_TIERS = re.compile(rb'"service_tier"[ ]?:[ ]?("[a-z_-]{1,32}")')

_usage_decoder: Final = msgspec.json.Decoder(UsageObject)
_answer_decoder: Final = msgspec.json.Decoder(Answered)
#: The fields of details that are not there.
_NOTHING_SAID: Final[tuple[int | None, ...]] = astuple(UsageDetails())
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def given(raw: Raw) -> bool:
    """Whether a raw field is there and not null."""
    return bool(raw) and bytes(raw) != b"null"


def parse(raw: bytes, tier: Raw = ABSENT) -> Usage | None:
    """Read a usage object; None if it is not one or counts nothing (a usage without tokens bills nobody). ``tier``: the
    service tier that the answer around it names."""
    try:
        found = _usage_decoder.decode(raw)
    except _MALFORMED:
        return None
    # All fields at once: asking for each costs as much.
    kind, seconds, into, into_too, out, out_too, of_in, of_in_2, of_out, of_out_2, of_in_3, of_out_3 = astuple(found)
    into = into_too if into is None else into
    out = out_too if out is None else out
    if into is None and out is None:
        return _heard(seconds) if kind == "duration" else None
    before, after = of_in or of_in_2 or of_in_3, of_out or of_out_2 or of_out_3
    cached, written, heard, seen, _ = _NOTHING_SAID if before is None else astuple(before)
    _, _, spoken, drawn, reasoned = _NOTHING_SAID if after is None else astuple(after)
    return Usage(
        _count(into),
        _count(out),
        _count(cached),
        _count(written),
        _count(heard),
        _count(spoken),
        _count(reasoned),
        _count(seen),
        _count(drawn),
        _tier(tier) if tier else "",
    )


def _tier(raw: Raw) -> str:
    """A word in quotes; whatever else stands there is no tier."""
    known = _TIERS_KNOWN.get(bytes(raw))
    if known is not None:
        return known
    named = _TIER.fullmatch(raw)
    return "" if named is None else named[1].decode()


def _count(said: int | None) -> int:
    if said is None or said < 0:
        return 0
    return said if said < MOST_TOKENS else MOST_TOKENS


def _heard(seconds: float | None) -> Usage | None:
    """Audio that is charged by its length, as tokens."""
    if seconds is None or not 0 <= seconds < MOST_TOKENS // AUDIO_TOKENS_PER_MINUTE * 60:
        return None
    tokens = math.ceil(seconds * AUDIO_TOKENS_PER_MINUTE / 60)
    return Usage(input=tokens, audio_input=tokens)


class AnswerMeter:
    """Reads the usage of one JSON answer while it passes. Holds the answer up to ``WHOLE_BYTES``, then its tail."""

    __slots__ = ("_cut", "_parts", "_size", "seen")

    def __init__(self) -> None:
        #: Bytes that passed.
        self.seen = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Look at more of the answer."""
        self._parts.append(data)
        self.seen += len(data)
        self._size += len(data)
        if self._size > WHOLE_BYTES:
            tail = b"".join(self._parts)[-TAIL_BYTES:]
            self._parts, self._size, self._cut = [tail], len(tail), True

    def finish(self) -> tuple[Usage, bytes] | None:
        """Usage and its raw JSON, or None if the answer has none."""
        answer = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        tier = ABSENT
        if self._cut:
            raw = last_usage(answer)
            tiers = _TIERS.findall(answer)
            tier = Raw(tiers[-1]) if tiers else ABSENT
        else:
            raw, tier = _usage_of(answer)
        if raw is None:
            return None
        usage = parse(raw, tier)
        return None if usage is None else (usage, raw)


def _usage_of(answer: bytes) -> tuple[bytes | None, Raw]:
    try:
        found = _answer_decoder.decode(answer)
    except _MALFORMED:
        return None, ABSENT
    usage = bytes(found.usage)
    return None if not usage or usage == b"null" else usage, found.service_tier


def last_usage(tail: bytes) -> bytes | None:
    """The last usage object in the end of some JSON."""
    text = tail.decode("utf-8", "replace")
    start = text.rfind('"usage"')
    brace = text.find("{", start)
    if start < 0 or brace < 0 or text[start + 7 : brace].strip() != ":":
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(text, brace)
    except (ValueError, RecursionError):
        return None
    return text[brace:end].encode()
