"""What a request's body asks for, how much that may become, and the body that the upstream gets. Pure.

Only the fields that matter are typed; the rest is skipped by the parser. The original bytes go on unless something has
to change, and then nothing else does: values keep their exact bytes.
"""

import re
from typing import Final

import msgspec
from msgspec import Raw

from tenantry_service import errors, pricing
from tenantry_service.errors import ApiError
from tenantry_service.limits.decisions import Demand
from tenantry_service.policy import Limits
from tenantry_service.proxy.learned import Learned
from tenantry_service.proxy.shapes import Chat
from tenantry_service.proxy.snapshot import Target

#: Tokens that one image, file or audio part counts as for the token limit: a high-detail image of 1,024 x 1,024 is 765
#: (GPT-4o), other models take up to some 1,500.
MEDIA_TOKENS: Final = 1_500
#: Bytes of embedded media per token on top of that: 16 KB/s of MP3 become about 10 tokens/s of audio.
MEDIA_BYTES_PER_TOKEN: Final = 1_000
#: The most that one such part costs: a large image is 48,169 tokens to gpt-4o-mini, a file fills a context of 128,000.
MOST_MEDIA_TOKENS: Final = 128_000
#: Output tokens a request without a declared cap counts as for the token limit (never for money). Real answers have a
#: median of a few hundred; what comes beyond becomes debt.
UNDECLARED_OUTPUT_TOKENS: Final = 1_024

# What refers to media or holds it. Escapes inside such a word hide it from this guess, not from the bill.
_MEDIA_FIELDS: Final = (b'"image_url"', b'"file_id"', b'"file_data"', b'"input_audio"')
# Keys as short as ours; one with an escape may spell any of ours.
_SHORT_KEY: Final = re.compile(rb'"((?:[^"\\]|\\u[0-9a-fA-F]{4}){1,32})"\s*:')
# Runs of base64 as data URLs and input_audio carry them. Text has no run of that length without a space.
_EMBEDDED: Final = re.compile(rb"[A-Za-z0-9+/=_-]{1024,}")


_chat_decoder: Final = msgspec.json.Decoder(Chat)
_object_decoder: Final = msgspec.json.Decoder(dict[str, Raw])
TOO_DEEP = errors.malformed("The JSON body of your request is nested too deeply.")
NOT_UTF8 = errors.malformed("We could not parse the JSON body of your request: it is not UTF-8. Encode it as UTF-8.")
_INCLUDE_USAGE = Raw(b'{"include_usage":true}')


def inspect_chat(body: bytes) -> Chat | ApiError:
    """Read a chat request, or say what is wrong with it (400)."""
    if not is_text(body):
        return NOT_UTF8
    try:
        return _chat_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return unreadable(error)


def is_text(body: bytes) -> bool:
    """Whether a body is UTF-8, as JSON is (RFC 8259 8.1). The parser does not look at what it skips."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def unreadable(error: Exception) -> ApiError:
    """What a parser's error means to whoever sent the body."""
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, msgspec.ValidationError):
        problem, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`") or None
        if field is None and "`model`" in str(error):
            return errors.malformed("you must provide a model parameter", param="model")
        return errors.malformed(f"Invalid value for '{field or 'body'}': {problem}.", param=field)
    return errors.malformed(
        f"We could not parse the JSON body of your request: {error}. Send a JSON object encoded as UTF-8."
    )


def whole(value: float | None) -> int | None:
    """A number as an integer, rounded down; None for what cannot be one (the upstream says what is wrong with it)."""
    if value is None or value != value or not 0 <= value < 2**63:
        return None
    return int(value)


class Estimate:
    """What is reserved, and what a request without an answer counts as."""

    __slots__ = ("demand", "input_tokens", "learned", "output_tokens")

    def __init__(self, demand: Demand, input_tokens: int, output_tokens: int, learned: Learned | None = None) -> None:
        self.demand = demand
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        #: To be told how long the answer was: there is one, of a length that nobody declared.
        self.learned = learned


def estimate(chat: Chat, body: bytes, target: Target, limits: Limits) -> Estimate:
    """Tokens and money of a request before its answer is known.

    Tokens are a fair guess: a token per three bytes of text (bytes and not characters, which bounds other scripts
    better), so many per image, and the declared output. Money is the worst case: a token per byte whatever the byte is,
    the most per image, and the most the model can put out.
    """
    text, media, parts = weigh(body)
    answers = max(1, whole(chat.n) or 1)
    declared = chat.max_completion_tokens if chat.max_completion_tokens is not None else chat.max_tokens
    likely, most = output(whole(declared), target, limits)
    input_tokens, output_tokens = -(-text // 3) + media, likely * answers
    dearest = pricing.worst_case(len(body) + MOST_MEDIA_TOKENS * parts, most * answers, target.price)
    learned = target.learned if declared is None and answers == 1 else None
    return Estimate(Demand(input_tokens + output_tokens, dearest), input_tokens, output_tokens, learned)


def weigh(body: bytes) -> tuple[int, int, int]:
    """A body's bytes of text, the likely tokens of its media, and how many parts may be media."""
    text = len(body)
    media = 0
    # A part that is not plain text says its type; an image's word stands twice in it, as its type and as its field.
    # (Not ``in``: it tries first whether these bytes are a number, and to fail takes longer than to search.)
    parts = sum(body.count(field) for field in _MEDIA_FIELDS) if body.find(b'"type"') >= 0 else 0
    if text > 1024:
        for run in _EMBEDDED.findall(body):
            text -= len(run)
            media += len(run) // MEDIA_BYTES_PER_TOKEN
            parts = parts or 1
    return text, media + MEDIA_TOKENS * ((parts + 1) // 2), parts


def output(declared: int | None, target: Target, limits: Limits) -> tuple[int, int]:
    """The likely and the most output tokens of one answer, with what the request declares."""
    most = target.price.max_output
    if declared is not None:
        # For a model that the table does not know, the table's maximum proves nothing.
        most = min(declared, most) if target.price.capped else declared
        return most, most
    likely = target.learned.most or UNDECLARED_OUTPUT_TOKENS
    likely = min(likely, UNDECLARED_OUTPUT_TOKENS)
    limit = limits.tokens_per_minute
    if limit is not None and limit < likely * 4:
        # A quarter of a small limit: a request that declares nothing must still fit into it.
        likely = limit // 4
    return min(likely, most), most


def upstream_body(chat: Chat, body: bytes, target: Target) -> bytes | ApiError:
    """The body to send: the caller's bytes, with the alias resolved and usage asked for in a stream. A body that two
    parsers could read differently (a key given twice, or hidden by escapes) is written as we read it."""
    usage = bool(chat.stream) and not chat.wants_usage
    renamed = target.served != target.requested
    ambiguous = body.count(b'"model"') > 1 or hides_keys(body)
    if not usage and not renamed and not ambiguous:
        return body
    if not renamed and not ambiguous and chat.stream_options is None and b"stream_options" not in body:
        # Nothing to be replaced, under whatever spelling: one field more in front of the others.
        brace = body.index(b"{") + 1
        return b"".join((body[:brace], b'"stream_options":{"include_usage":true},', body[brace:]))
    try:
        fields = _object_decoder.decode(body)
        if usage:
            fields["stream_options"] = with_usage(fields.get("stream_options"))
    except RecursionError:
        return TOO_DEEP
    if renamed:
        fields["model"] = Raw(msgspec.json.encode(target.served))
    return msgspec.json.encode(fields)


def hides_keys(body: bytes) -> bool:
    """Whether escapes may spell a key that we look for."""
    return body.find(b"\\u") >= 0 and any(b"\\u" in key for key in _SHORT_KEY.findall(body))


def with_usage(options: Raw | None) -> Raw:
    """``stream_options`` that ask for usage. Other options of the caller (``include_obfuscation``) stay."""
    if options is None or bytes(options) == b"null":
        return _INCLUDE_USAGE
    fields = _object_decoder.decode(options)
    fields["include_usage"] = Raw(b"true")
    return Raw(msgspec.json.encode(fields))
