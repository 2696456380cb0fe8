"""JSON bodies of every inspected route: what they ask for, what that may become, and the body that goes upstream. Pure.

What differs between routes is data (:data:`RULES`). Chat requests under a plain policy, which is nearly all there is,
take the shorter way of ``body.py``; the results are the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

from tenantry_service import errors, pricing
from tenantry_service.errors import ApiError
from tenantry_service.limits.decisions import Demand
from tenantry_service.policy import Limits
from tenantry_service.proxy import body as bodies
from tenantry_service.proxy.body import MOST_MEDIA_TOKENS, Estimate
from tenantry_service.proxy.routes import Plan
from tenantry_service.proxy.shapes import Ask
from tenantry_service.proxy.snapshot import Target
from tenantry_service.proxy.usage import given

#: Output tokens of an image of medium quality, and the most that one has (gpt-image-1: 1,056 and 6,240; later models
#: draw larger ones).
IMAGE_TOKENS = 1_056
MOST_IMAGE_TOKENS = 16_000
#: Output tokens per 10 bytes of text that is read aloud: 1,250 tokens are a minute (gpt-4o-mini-tts), and so are about
#: 900 letters. The most: slow speech in a script of one byte per sound.
SPEECH_TOKENS_PER_10_BYTES = 14
MOST_SPEECH_TOKENS_PER_10_BYTES = 60
#: What legacy completions put out if not told otherwise.
COMPLETION_TOKENS = 16


class Rules(NamedTuple):
    """What an inspected route knows. ``caps``: fields that bound its output; ``says_usage``: it has ``stream_options``;
    ``has_default``: the tenant's default model may stand in; ``needs_model``: nothing goes on without one."""

    caps: tuple[str, ...] = ()
    says_usage: bool = False
    has_default: bool = False
    needs_model: bool = True


RULES = {
    Plan.CHAT: Rules(("max_completion_tokens", "max_tokens"), says_usage=True, has_default=True),
    Plan.COMPLETIONS: Rules(("max_tokens",), says_usage=True, has_default=True),
    Plan.RESPONSES: Rules(("max_output_tokens",), has_default=True),
    Plan.EMBEDDINGS: Rules(),
    Plan.IMAGES: Rules(needs_model=False),
    Plan.SPEECH: Rules(),
    Plan.FREE_OF_CHARGE: Rules(needs_model=False),
}


_decoder = msgspec.json.Decoder(Ask)
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_array_decoder = msgspec.json.Decoder(list[Raw])
_WATCHED = (b'"model"', b'"stream"', b'"stream_options"', b'"n"', b'"session"')


def inspect(body: bytes) -> Ask | ApiError:
    """Read a request, or say what is wrong with it (400)."""
    if not bodies.is_text(body):
        return bodies.NOT_UTF8
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return bodies.unreadable(error)


def estimate(plan: Plan, ask: Ask, body: bytes, target: Target, limits: Limits, forced: int | None) -> Estimate:
    """Tokens and money of a request before its answer is known; see :func:`tenantry_service.proxy.body.estimate`.
    ``forced``: the most output tokens that the policy allows."""
    if plan is Plan.FREE_OF_CHARGE:
        return Estimate(Demand(0, 0), 0, 0)
    text, media, parts = bodies.weigh(body)
    if given(ask.previous_response_id) or given(ask.conversation) or (plan is Plan.RESPONSES and given(ask.prompt)):
        # What the upstream remembers is read as well.
        parts += 1
    likely, most, answers = _output(plan, ask, body, target, limits, forced)
    input_tokens, output_tokens = -(-text // 3) + media, likely * answers
    dearest = pricing.worst_case(len(body) + MOST_MEDIA_TOKENS * parts, most * answers, target.price)
    return Estimate(Demand(input_tokens + output_tokens, dearest), input_tokens, output_tokens)


def undeclared(plan: Plan, ask: Ask, limits: Limits, forced: int | None) -> ApiError | None:
    """Why a request that does not say how much it generates at most goes nowhere; None if it may."""
    caps = RULES[plan].caps
    if not limits.require_declared_max_tokens or not caps or forced is not None or _declared(caps, ask) is not None:
        return None
    return errors.malformed(
        f"This endpoint wants to know how much a request generates at most: set '{caps[0]}'.",
        param=caps[0],
        code="max_tokens_required",
    )


def _output(
    plan: Plan, ask: Ask, body: bytes, target: Target, limits: Limits, forced: int | None
) -> tuple[int, int, int]:
    """Likely and most output tokens of one answer, and the number of answers."""
    answers = max(1, bodies.whole(ask.n) or 1, bodies.whole(ask.best_of) or 1)
    match plan:
        case Plan.EMBEDDINGS:
            return 0, 0, 1
        case Plan.IMAGES:
            return IMAGE_TOKENS, MOST_IMAGE_TOKENS, answers
        case Plan.SPEECH:
            tens = -(-len(body) // 10)
            return tens * SPEECH_TOKENS_PER_10_BYTES, tens * MOST_SPEECH_TOKENS_PER_10_BYTES, 1
        case Plan.COMPLETIONS:
            answers *= _prompts(ask.prompt)
            declared = COMPLETION_TOKENS if ask.max_tokens is None else bodies.whole(ask.max_tokens)
        case _:
            declared = _declared(RULES[plan].caps, ask)
    if forced is not None:
        declared = forced if declared is None else min(declared, forced)
    likely, most = bodies.output(declared, target, limits)
    return likely, most, answers


def _declared(caps: Sequence[str], ask: Ask) -> int | None:
    found = (bodies.whole(getattr(ask, cap)) for cap in caps)
    return next((value for value in found if value is not None), None)


def _prompts(prompt: Raw) -> int:
    """How many prompts there are in one: an array of texts or of token arrays is as many."""
    if not bytes(prompt).startswith(b"["):
        return 1
    try:
        entries = _array_decoder.decode(prompt)
    except RecursionError:
        # As deep as could just be read: nothing that anybody means.
        return 1
    return len(entries) if entries and bytes(entries[0])[:1] in (b'"', b"[") else 1


def upstream_body(plan: Plan, ask: Ask, body: bytes, served: str, forced: int | None) -> bytes | ApiError:
    """The body to send: the caller's bytes, unless the model has another name there (``served``; empty: none is
    named), usage must be asked for, the output must be bounded, or two parsers could read it differently."""
    rules = RULES[plan]
    usage = rules.says_usage and bool(ask.stream) and not ask.wants_usage
    renamed = served != ask.named
    bounded = _bounded(rules.caps, ask, forced)
    watched = (*_WATCHED, *(b'"%b"' % cap.encode() for cap in rules.caps))
    ambiguous = any(body.count(word) > 1 for word in watched) or bodies.hides_keys(body)
    if not usage and not renamed and not ambiguous and bounded is None:
        return body
    try:
        fields = _object_decoder.decode(body)
        if usage:
            fields["stream_options"] = bodies.with_usage(fields.get("stream_options"))
        if renamed and ask.model is None and ask.session is not None:
            fields["session"] = _renamed(fields["session"], served)
        elif renamed:
            fields["model"] = Raw(msgspec.json.encode(served))
    except RecursionError:
        return bodies.TOO_DEEP
    if bounded is not None:
        for cap in rules.caps:
            if cap in fields:
                fields[cap] = bounded
        if not any(cap in fields for cap in rules.caps):
            fields[rules.caps[0]] = bounded
    return msgspec.json.encode(fields)


def _bounded(caps: Sequence[str], ask: Ask, forced: int | None) -> Raw | None:
    """The value that the policy puts in place of the caller's; None if the caller's stays."""
    if forced is None or not caps:
        return None
    declared = [bodies.whole(getattr(ask, cap)) for cap in caps if getattr(ask, cap) is not None]
    if declared and all(value is not None and value <= forced for value in declared):
        return None
    return Raw(b"%d" % forced)


def _renamed(session: Raw, served: str) -> Raw:
    fields = _object_decoder.decode(session)
    fields["model"] = Raw(msgspec.json.encode(served))
    return Raw(msgspec.json.encode(fields))


def missing_model() -> ApiError:
    """400 in OpenAI's words."""
    return errors.malformed("you must provide a model parameter", param="model")
