"""What we read of the JSON of callers and upstreams: only the fields that matter, the rest is skipped by the parser.

Not compiled, unlike the rest of the hot path: msgspec reads these annotations at run time.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

#: Longer names are nobody's, and would be kept in caches, logs and the ledger.
MAX_MODEL_NAME = 256

#: JSON knows one kind of number: 100.0 is as whole as 100.
Whole = int | float | None
Count = int | None

#: msgspec knows no ``Raw | None``.
ABSENT = Raw()


# Requests.


class StreamOptions(Struct, gc=False):
    """Options of a stream."""

    include_usage: bool | None = None


class Chat(Struct, gc=False):
    """The fields of a chat request that we look at."""

    model: Annotated[str, Meta(max_length=MAX_MODEL_NAME)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Whole = None
    max_tokens: Whole = None
    n: Whole = None

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asked for the usage chunk of a stream."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class Determined(Struct, gc=False):
    """What says that a chat has one answer."""

    stream: bool | None = None
    temperature: int | float | None = None
    seed: int | float | None = None


class Session(Struct, gc=False):
    """The session of a realtime client secret."""

    model: Annotated[str, Meta(max_length=MAX_MODEL_NAME)] | None = None


class Ask(Struct, gc=False):
    """The fields of any inspected request that we look at."""

    model: Annotated[str, Meta(max_length=MAX_MODEL_NAME)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Whole = None
    max_tokens: Whole = None
    max_output_tokens: Whole = None
    n: Whole = None
    best_of: Whole = None
    prompt: Raw = ABSENT
    previous_response_id: Raw = ABSENT
    conversation: Raw = ABSENT
    background: bool | None = None
    session: Session | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asked for the usage chunk of a stream."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def named(self) -> str:
        """The model that is asked for; empty if none is."""
        return self.model or (self.session.model or "" if self.session is not None else "")


# Answers.


class UsageDetails(Struct, gc=False):
    """Parts of a count."""

    cached_tokens: Count = None
    cache_write_tokens: Count = None
    audio_tokens: Count = None
    image_tokens: Count = None
    reasoning_tokens: Count = None


class UsageObject(Struct, gc=False):
    """``usage`` in every spelling."""

    #: ``duration`` where audio is charged by its length.
    type: str | None = None
    seconds: float | None = None
    prompt_tokens: Count = None
    input_tokens: Count = None
    completion_tokens: Count = None
    output_tokens: Count = None
    prompt_tokens_details: UsageDetails | None = None
    input_tokens_details: UsageDetails | None = None
    completion_tokens_details: UsageDetails | None = None
    output_tokens_details: UsageDetails | None = None
    # Audio and realtime spell them in the singular.
    input_token_details: UsageDetails | None = None
    output_token_details: UsageDetails | None = None


class Answered(Struct, gc=False):
    """A whole answer."""

    usage: Raw = ABSENT
    service_tier: Raw = ABSENT


class Delta(Struct, gc=False):
    """What a chat chunk adds."""

    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: Raw = ABSENT


class Choice(Struct, gc=False):
    """One of the answers that a chunk belongs to."""

    delta: Delta | None = None
    #: Legacy completions.
    text: str | None = None


class Chunk(Struct, gc=False):
    """A chat chunk."""

    choices: list[Choice] | None = None
    usage: Raw = ABSENT
    service_tier: Raw = ABSENT
    error: Raw = ABSENT


class ResponseObject(Struct, gc=False):
    """The response that an event carries."""

    usage: Raw = ABSENT
    service_tier: Raw = ABSENT


class TypedEvent(Struct, gc=False):
    """An event of the other streams."""

    type: str = ""
    sequence_number: int = 0
    delta: Raw = ABSENT
    usage: Raw = ABSENT
    response: ResponseObject | None = None
    error: Raw = ABSENT


class Named(Struct, gc=False):
    """An entry of the list of models."""

    id: str


class NamedList(Struct, gc=False):
    """The list of models."""

    data: list[Raw] = []
