"""How much a turn of a WebSocket session generates at most, as its client says. Pure.

``limits.requireDeclaredMaxTokens`` wants it said before a turn begins. The Responses API has it in the event that
begins a turn, where ``models.maxOutputTokens`` bounds it. The Realtime API has it in the session (``session.update``)
or in that event, and there sound begins a turn, too, once the model takes it for a whole sentence
(https://platform.openai.com/docs/api-reference/realtime-client-events).
"""

import msgspec
from msgspec import Struct

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.policy import Policy
from tenantry_service.proxy import body as bodies
from tenantry_service.proxy.routes import Plan

#: The client's event that begins a turn.
CREATE = "response.create"
_UPDATE = "session.update"
#: With turn detection, which is on unless it is switched off, sound begins a turn.
_SOUND = frozenset(["input_audio_buffer.append", "input_audio_buffer.commit"])
_TRANSCRIPTION = "transcription"
#: A number, or "inf".
_Cap = int | float | str | None


class _Caps(Struct, gc=False):
    """Where a cap may stand: by its name of today, and by the one of the beta API."""

    type: str = ""
    max_output_tokens: _Cap = None
    max_response_output_tokens: _Cap = None


class _Event(Struct, gc=False):
    type: str = ""
    max_output_tokens: _Cap = None
    response: _Caps | None = None
    session: _Caps | None = None


_decoder = msgspec.json.Decoder(_Event)


class Capping:
    """What one connection has said so far."""

    def __init__(self, policy: Policy, plan: Plan, *, transcribes: bool) -> None:
        """``transcribes``: the session only writes down what it hears, and answers nothing."""
        self._realtime = plan is Plan.REALTIME
        #: The policy's own bound is as good as a declared one.
        self._forced = None if self._realtime else policy.models.max_output_tokens
        #: Whether the client's events have to be seen because of this.
        self.wanted = policy.limits.require_declared_max_tokens and self._forced is None
        self._said = transcribes

    def problem(self, payload: bytes) -> ApiError | None:
        """Why a client's event goes no further; None if it may."""
        if not self.wanted:
            return None
        try:
            event = _decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return errors.malformed("The event is not as the API has it.")
        if event.type == CREATE:
            cap = _cap(event.response) if self._realtime else event.max_output_tokens
            return None if _number(cap) is not None or (cap is None and self._said) else self._undeclared()
        if event.type == _UPDATE and event.session is not None:
            cap = _cap(event.session)
            if cap is not None and _number(cap) is None:
                # What is bounded may get another bound, but not none.
                return self._undeclared()
            self._said = self._said or cap is not None or event.session.type == _TRANSCRIPTION
            return None
        return self._undeclared() if event.type in _SOUND and not self._said else None

    def bound(self, payload: bytes) -> int | None:
        """The cap that an event which begins a turn has to have; None if it may stay as it is."""
        if self._forced is None:
            return None
        try:
            said = _number(_decoder.decode(payload).max_output_tokens)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            said = None
        if said is not None and said <= self._forced and payload.count(b'"max_output_tokens"') == 1:
            return None
        return self._forced if said is None else min(said, self._forced)

    def _undeclared(self) -> ApiError:
        where = "a number, in the session or in the event" if self._realtime else "in the event"
        return errors.malformed(
            f"This endpoint wants to know how much a turn generates at most: set 'max_output_tokens' {where}.",
            param="max_output_tokens",
            code="max_tokens_required",
        )


def _cap(caps: _Caps | None) -> _Cap:
    if caps is None:
        return None
    return caps.max_response_output_tokens if caps.max_output_tokens is None else caps.max_output_tokens


def _number(cap: _Cap) -> int | None:
    return None if isinstance(cap, str) else bodies.whole(cap)
