"""The kinds of answers that an upstream gives, and what is done with each while it passes. Pure.

A new kind (another stream format, binary) is a new class here and a line in :func:`choose`.
"""

from tenantry_service.errors import ApiError
from tenantry_service.pricing import NO_USAGE, Usage
from tenantry_service.proxy import models
from tenantry_service.proxy.chat_stream import ChatStreamMeter
from tenantry_service.proxy.events import TypedStreamMeter
from tenantry_service.proxy.messages import ResponseHead
from tenantry_service.proxy.routes import Plan
from tenantry_service.proxy.sse import EventStream
from tenantry_service.proxy.usage import AnswerMeter


class Used:
    """What an answer used. Not ``exact``: counted by us, and without the input."""

    __slots__ = ("exact", "raw", "usage")

    def __init__(self, usage: Usage, exact: bool, raw: bytes | None = None) -> None:
        self.usage = usage
        self.exact = exact
        self.raw = raw


NOTHING_USED = Used(NO_USAGE, exact=True)
UNKNOWN_USE = Used(NO_USAGE, exact=False)


def counted(size: int) -> Used:
    """What an answer of ``size`` bytes is held to be if it does not say itself: a token per four bytes."""
    return Used(Usage(output=-(-size // 4)), exact=False)


class Answer:
    """Passes every byte and cannot tell what was used."""

    #: An event stream, which can be ended by an event of ours.
    streamed = False
    #: The client gets another number of bytes than the upstream sent.
    resized = False

    def feed(self, data: bytes) -> bytes:
        """More of the answer came; returns what the client gets now."""
        return data

    def finish(self) -> bytes | None:
        """The answer is complete; returns the rest for the client, None if it is no valid answer."""
        return b""

    @property
    def said_all(self) -> bool:
        """The answer says of itself that it is complete, whatever happens to the connection."""
        return False

    @property
    def failed(self) -> bool:
        """The answer says of itself that the upstream failed, whatever its status."""
        return False

    @property
    def takes_comments(self) -> bool:
        """A comment may be put in here: the answer is a stream of events, between two of which it stands."""
        return False

    def used(self) -> Used:
        """What was used up to now."""
        return UNKNOWN_USE

    def ending(self, error: ApiError) -> bytes | None:
        """The bytes that end the answer early in good order; None if only cutting the connection can."""
        return None


class Opaque(Answer):
    """An answer that we cannot read: counted by its size."""

    def __init__(self) -> None:
        self._seen = 0

    def feed(self, data: bytes) -> bytes:
        """Passes as it came."""
        self._seen += len(data)
        return data

    def used(self) -> Used:
        """As much as passed."""
        return counted(self._seen)


class Unpaid(Answer):
    """An answer that costs nothing: an upstream's own error or redirection, or what is free of charge."""

    def used(self) -> Used:
        """Nothing."""
        return NOTHING_USED


class Flat(Answer):
    """An answer that says nothing and whose size means nothing (speech): held to be what was expected."""

    def __init__(self, expected: int) -> None:
        self._expected = expected

    def used(self) -> Used:
        """What was expected."""
        return Used(Usage(output=self._expected), exact=False)


class Json(Answer):
    """One JSON object with its usage. ``expected``: the output of one without, if its size says nothing about it."""

    def __init__(self, expected: int | None = None) -> None:
        self._meter = AnswerMeter()
        self._expected = expected

    def feed(self, data: bytes) -> bytes:
        """Passes as it came."""
        self._meter.feed(data)
        return data

    def used(self) -> Used:
        """The upstream's word, once the whole object is there."""
        found = self._meter.finish()
        if found is not None:
            return Used(found[0], exact=True, raw=found[1])
        return counted(self._meter.seen) if self._expected is None else Used(Usage(output=self._expected), exact=False)


class Whatever(Json):
    """A JSON answer of a route that nobody knows: charged if it says what it used, else free."""

    def used(self) -> Used:
        """The upstream's word, or nothing."""
        used = super().used()
        return used if used.exact else NOTHING_USED


class Stream(Answer):
    """Server-sent events."""

    streamed = True
    # Whatever its length was, a stream that breaks off has another.
    resized = True

    def __init__(self, meter: EventStream) -> None:
        self._meter = meter

    def feed(self, data: bytes) -> bytes:
        """Whole events."""
        return self._meter.feed(data)

    def finish(self) -> bytes:
        """What was held of an unfinished event."""
        return self._meter.finish()

    @property
    def said_all(self) -> bool:
        """The last word of its kind was seen."""
        return self._meter.done

    @property
    def failed(self) -> bool:
        """An error event was seen."""
        return self._meter.failed

    @property
    def takes_comments(self) -> bool:
        """Between two events."""
        return self._meter.between_events

    def used(self) -> Used:
        """The upstream's word if it came, else what was counted."""
        meter = self._meter
        if meter.usage is not None:
            return Used(meter.usage, exact=True, raw=meter.raw_usage)
        return Used(Usage(output=meter.counted_output), exact=False)

    def ending(self, error: ApiError) -> bytes:
        """An error event."""
        return self._meter.abort() + self._meter.error_event(error)


class TypedStream(Stream):
    """Events that say their type. ``expected``: the output of a stream that never says it and cannot be counted."""

    def __init__(self, expected: int = 0) -> None:
        super().__init__(TypedStreamMeter())
        self._expected = expected

    def used(self) -> Used:
        """The upstream's word if it came, else what was counted, and no less than was expected."""
        used = super().used()
        return used if used.exact else Used(Usage(output=max(self._expected, used.usage.output)), exact=False)


class FreeStream(Stream):
    """Events of a route that nobody knows (charged if they say what was used), or of one that is ``unpaid``."""

    def __init__(self, *, unpaid: bool = False) -> None:
        super().__init__(TypedStreamMeter())
        self._unpaid = unpaid

    def used(self) -> Used:
        """The upstream's word, or nothing."""
        used = super().used()
        return used if used.exact and not self._unpaid else NOTHING_USED


class ModelList(Answer):
    """An upstream's models, held back until they can be filtered."""

    resized = True

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Held, up to a bound."""
        self._size += len(data)
        if self._size <= models.MAX_LIST_BYTES:
            self._parts.append(data)
        return b""

    def finish(self) -> bytes | None:
        """The whole list."""
        return None if self._size > models.MAX_LIST_BYTES else b"".join(self._parts)


def choose(plan: Plan, head: ResponseHead, *, wants_usage: bool, expected: int = 0) -> Answer:
    """The kind of an answer, by its status, its media type and what was asked for. ``expected``: output tokens."""
    if head.status >= 300:
        return Unpaid()
    readable = head.encoding in (b"", b"identity")
    streamed = readable and head.media_type == b"text/event-stream"
    match plan:
        case Plan.MODEL_LIST:
            return ModelList()
        case Plan.CHAT | Plan.COMPLETIONS:
            if not readable:
                # In spite of the encoding that we asked for.
                return Opaque()
            return Stream(ChatStreamMeter(strip_usage=not wants_usage)) if streamed else Json()
        case Plan.RESPONSES | Plan.EMBEDDINGS | Plan.IMAGES | Plan.IMAGE_FORM | Plan.SPEECH:
            if streamed:
                return TypedStream(0 if plan is Plan.RESPONSES else expected)
            # A response in the background has no usage yet, a vector or an image has no size in tokens.
            return Json(expected) if readable and head.media_type == b"application/json" else Flat(expected)
        case Plan.TRANSCRIPTION:
            if streamed:
                return TypedStream()
            return Json() if readable and head.media_type == b"application/json" else Opaque()
        case Plan.OTHER:
            if streamed:
                return FreeStream()
            return Whatever() if readable and head.media_type == b"application/json" else Unpaid()
        case _:
            return FreeStream(unpaid=True) if streamed else Unpaid()
