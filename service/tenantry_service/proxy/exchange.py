"""One request from its first byte to its settled ledger event. No socket, no clock, no await.

Events come in as calls, commands go out as what they return; whoever owns the sockets carries them out in order.
Nothing else decides what happens to a request. The law: a granted reservation is settled exactly once, and after the
end there is no command. Events that no longer matter (a late timer, bytes of a cancelled upstream) are ignored.

    NEW -> RECEIVING -> RESERVING -> CONNECTING -> (UPLOADING <-> BLOCKED ->) WAITING -> ANSWERING -> DONE
                            |  client gone: ABANDONED until the limiter has answered, then DONE
"""

import enum
from collections.abc import Sequence
from typing import Final

from tenantry_service import errors, pricing
from tenantry_service.errors import ApiError, ErrorType
from tenantry_service.limits.buckets import Dimension, Refusal, Reservation
from tenantry_service.limits.limiter import Decision, Unknown
from tenantry_service.pricing import Usage
from tenantry_service.proxy import answers, headers
from tenantry_service.proxy.answers import NOTHING_USED, Answer, Used
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.messages import (
    ABORT_CLIENT,
    CLOSE_FAILED_UPSTREAM,
    CLOSE_UPSTREAM,
    CONTINUE_READING,
    ClientHead,
    Command,
    Commands,
    Gone,
    OpenUpstream,
    Refuse,
    RequestHead,
    Reserve,
    ResponseHead,
    Settle,
    Timer,
    ToClient,
    ToUpstream,
)
from tenantry_service.proxy.snapshot import Endpoint, Snapshot
from tenantry_service.proxy.upload import Upload

#: nginx's word for a request whose client left before there was a status.
CLIENT_CLOSED_REQUEST = 499


#: The longest wait for an upstream that says when it may be asked again. Longer ones are the caller's.
MOST_WAIT_MS = 2_000
#: The request was not served, and another upstream may: its credential is bad, or it is busy.
_REFUSED = frozenset([401, 429, 503])
#: The upstream broke down over the request; what it did until then, it does not charge for.
_FAILED = frozenset([500, 502, 504])
_BUSY = frozenset([429, 503])
#: WHATWG HTML 9.2.6: a line that begins with a colon is for nobody.
_COMMENT = b": keep-alive\n\n"
_NEVER_ASKED = {
    Gone.UNREACHABLE: errors.UPSTREAM_UNREACHABLE,
    Gone.INTERRUPTED: errors.UPSTREAM_UNREACHABLE,
    Gone.SUSPENDED: errors.UPSTREAM_SUSPENDED,
    Gone.OVERLOADED: errors.NO_CONNECTION,
}


class State(enum.IntEnum):
    """Where an exchange is."""

    NEW = 0
    RECEIVING = 1
    RESERVING = 2
    ABANDONED = 3
    CONNECTING = 4
    #: The body passes through: the client owes the next piece, or the upstream takes none.
    UPLOADING = 5
    BLOCKED = 6
    WAITING = 7
    #: The same upstream is asked again when it said that it may be.
    BACKING_OFF = 8
    ANSWERING = 9
    DONE = 10


#: The timer that runs in each state. It starts anew with every byte of request and answer.
TIMERS: Final[tuple[Timer | None, ...]] = (
    None,
    Timer.REQUEST_BODY,
    None,
    None,
    Timer.CONNECT,
    Timer.REQUEST_BODY,
    Timer.IDLE,
    Timer.FIRST_BYTE,
    Timer.RETRY,
    Timer.IDLE,
    None,
)

# Asking an enum class for a member costs ten times as much as asking the module.
NEW: Final = State.NEW
RECEIVING: Final = State.RECEIVING
RESERVING: Final = State.RESERVING
ABANDONED: Final = State.ABANDONED
CONNECTING: Final = State.CONNECTING
UPLOADING: Final = State.UPLOADING
BLOCKED: Final = State.BLOCKED
WAITING: Final = State.WAITING
BACKING_OFF: Final = State.BACKING_OFF
ANSWERING: Final = State.ANSWERING
DONE: Final = State.DONE
#: While the client shall send no more of a body that passes through.
HOLDING: Final = frozenset([RESERVING, ABANDONED, CONNECTING, BLOCKED, BACKING_OFF])
_NO_ERROR: Final = ErrorType.NONE


class Exchange:
    """See the module. The public attributes tell how it went, for metrics and ledger."""

    __slots__ = (
        "_answer",
        "_client_head",
        "_head_sent",
        "_request_id_line",
        "_reservation",
        "_retried",
        "_snapshot",
        "_tried",
        "_whole",
        "asked",
        "elapsed",
        "error_type",
        "request_id",
        "state",
        "status",
        "wait_seconds",
    )

    def __init__(self, snapshot: Snapshot, request_id: str) -> None:
        self._snapshot = snapshot
        self.request_id = request_id
        self._request_id_line = b"x-request-id: %b\r\n" % request_id.encode()
        self.state = NEW
        self.asked = Asked()
        #: The status that the client got (499: it left before), and how the exchange ended.
        self.status = CLIENT_CLOSED_REQUEST
        self.error_type = _NO_ERROR
        self._reservation: Reservation | None = None
        self._client_head: ClientHead | None = None
        self._head_sent = False
        #: The request goes upstream in one piece.
        self._whole = True
        #: Other upstreams that were asked, and whether one was asked twice.
        self._tried = 0
        self._retried = False
        #: Told by whoever has a clock when an upstream's head arrives: seconds since the request began.
        self.elapsed = 0.0
        #: How long to back off.
        self.wait_seconds = 0.0
        self._answer: Answer | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.state.name}>"

    @property
    def streamed(self) -> bool:
        """Whether the answer was an event stream."""
        return self._answer is not None and self._answer.streamed

    # Events from the client.

    def on_request(
        self,
        head: RequestHead,
        now: float,
        body_start: Sequence[bytes] = (),
        complete: bool = False,
        draining: bool = False,
        ledger_full: bool = False,
    ) -> Commands:
        """The head of the request, and as much of its body as came with it; ``now`` in Unix seconds."""
        if self.state is not NEW:
            return ()
        error = (
            errors.DRAINING if draining else self.asked.read_head(head, self._snapshot, now, ledger_full=ledger_full)
        )
        if error is not None:
            return self._refuse(error)
        self.state = RECEIVING
        if self.asked.upload is not None:
            return self._receive_upload(self.asked.upload, head, body_start, complete=complete)
        for data in body_start:
            refused = self.on_body(data)
            if refused:
                return refused
        if complete:
            return self.on_body_end()
        return (CONTINUE_READING,) if head.expects_continue else ()

    def on_body(self, data: bytes) -> Commands:
        """More of the request's body."""
        if self.asked.upload is not None:
            return self._pass_body(self.asked.upload, data)
        if self.state is not RECEIVING:
            return ()
        error = self.asked.read_body(data)
        return () if error is None else self._refuse(error)

    def on_body_end(self) -> Commands:
        """The request is complete."""
        asked = self.asked
        if asked.upload is not None:
            return self._end_body(asked.upload)
        if self.state is not RECEIVING:
            return ()
        error = asked.understand()
        if error is not None:
            return self._refuse(error)
        assert asked.caller is not None
        if asked.estimate is not None:
            self.state = RESERVING
            return (Reserve(asked.caller.view.policy, asked.estimate.demand),)
        if asked.endpoint is not None:
            return self._open(asked.endpoint)
        self.state = ANSWERING
        lines = b"content-type: application/json\r\n" + self._request_id_line
        return self._finish(asked.own_answer, ClientHead(200, lines, len(asked.own_answer)))

    # A body that passes through.

    def _receive_upload(
        self, upload: Upload, head: RequestHead, body_start: Sequence[bytes], *, complete: bool
    ) -> Commands:
        for data in body_start:
            refused = upload.take(data, hold=True)
            if refused is not None:
                return self._refuse(refused)
        refused = upload.end() if complete else None
        if refused is not None:
            return self._refuse(refused)
        if upload.ready:
            return self._begin_upload()
        return self._ask_for_body(head.expects_continue)

    def _begin_upload(self) -> Commands:
        asked = self.asked
        asked.understand_upload()
        assert asked.caller is not None
        assert asked.estimate is not None
        self.state = RESERVING
        return (Reserve(asked.caller.view.policy, asked.estimate.demand),)

    def _ask_for_body(self, expected: bool) -> Commands:
        return (CONTINUE_READING,) if expected else ()

    def _pass_body(self, upload: Upload, data: bytes) -> Commands:
        state = self.state
        if state is DONE or state is ABANDONED:
            return ()
        hold = state is RECEIVING or state is RESERVING or state is CONNECTING
        refused = upload.take(data, hold=hold)
        if refused is not None:
            return self._stop(refused, refused)
        if state is RECEIVING:
            return self._begin_upload() if upload.ready else ()
        self.asked.target = upload.target
        return () if hold else (ToUpstream(upload.frame(data)),)

    def _end_body(self, upload: Upload) -> Commands:
        if self.state is DONE or self.state is ABANDONED or upload.ended:
            return ()
        refused = upload.end()
        if refused is not None:
            return self._stop(refused, refused)
        if self.state is RECEIVING:
            return self._begin_upload()
        if self.state is RESERVING or self.state is CONNECTING:
            return ()
        if self.state is not ANSWERING:
            self.state = WAITING
        return (ToUpstream(upload.frame_end(), last=True),)

    def on_upstream_full(self) -> Commands:
        """The upstream takes no more of the request for now."""
        if self.state is UPLOADING:
            self.state = BLOCKED
        return ()

    def on_upstream_drained(self) -> Commands:
        """The upstream takes more of the request."""
        if self.state is BLOCKED:
            self.state = UPLOADING
        return ()

    # From the limiter.

    def on_reserved(self, decision: Decision) -> Commands:
        """The limiter's answer."""
        if self.state is ABANDONED:
            if isinstance(decision, Reservation):
                self._reservation = decision
            return self._end(self._settle(NOTHING_USED))
        if self.state is not RESERVING:
            return ()
        # The limiter has spoken: from here on nobody waits for it any more, whatever goes wrong.
        self.state = CONNECTING
        if isinstance(decision, Unknown):
            return self._refuse(errors.LIMITS_UNKNOWN)
        if isinstance(decision, Refusal):
            return self._refuse(limit_error(decision), headers.rate_limit_lines(decision.standing))
        assert self.asked.endpoint is not None
        self._reservation = decision
        return self._open(self.asked.endpoint)

    def on_client_gone(self) -> Commands:
        """The client closed its connection."""
        return self._give_up(ErrorType.CALLER_CANCELLED, ())

    # Events from the upstream.

    def on_upstream_sent(self) -> Commands:
        """The request has been written to a connection."""
        if self.state is CONNECTING:
            self.state = WAITING
            upload = self.asked.upload
            if upload is not None and not self._whole:
                self.state = WAITING if upload.ended else UPLOADING
                held = ToUpstream(upload.frame_held(), last=upload.ended)
                return (held, *self._ask_for_body(self.asked.expects_continue and not upload.ended))
        return ()

    def on_upstream(self, head: ResponseHead | None, data: bytes, end: bool) -> Commands:
        """What one read of the upstream brought: perhaps the head, perhaps data, perhaps the (framed) end."""
        if head is not None:
            refused = self.on_upstream_head(head)
            if refused:
                return refused
        return self._on_last(data, framed=True) if end else self.on_upstream_data(data)

    def on_upstream_head(self, head: ResponseHead) -> Commands:
        """The head of the answer. It is held until the first bytes of the body, so that both leave in one write."""
        if self.state is not WAITING and self.state is not UPLOADING and self.state is not BLOCKED:
            return ()
        if head.status >= 400:
            again = self._ask_again(head)
            if again:
                return again
        if head.status == 401:
            # The platform's credential is bad, the caller's key is good; and the body may quote that credential.
            return (CLOSE_UPSTREAM, *self._fail(errors.UPSTREAM_CREDENTIALS, exact=True))
        asked = self.asked
        assert asked.caller is not None
        asked.forget_body()
        expected = 0 if asked.estimate is None else asked.estimate.output_tokens
        answer = self._answer = answers.choose(
            asked.plan, head, asked.caller.view, wants_usage=asked.wants_usage, expected=expected
        )
        self.error_type = errors.upstream_error_type(head.status)
        lines = head.lines + self._request_id_line
        if self._reservation is not None:
            lines += headers.rate_limit_lines(self._reservation.standing)
        self._client_head = ClientHead(head.status, lines, None if answer.resized else head.content_length)
        self.state = ANSWERING
        return ()

    def on_upstream_data(self, data: bytes) -> Commands:
        """Bytes of the answer's body."""
        if self.state is not ANSWERING:
            return ()
        assert self._answer is not None
        out = self._answer.feed(data)
        return (ToClient(out, self._take_head()),) if out else ()

    def on_upstream_end(self, framed: bool) -> Commands:
        """The answer is complete. ``framed`` is False if only the end of the connection says so."""
        return self._on_last(b"", framed=framed)

    def _on_last(self, data: bytes, *, framed: bool) -> Commands:
        if self.state is not ANSWERING:
            return ()
        answer = self._answer
        assert answer is not None
        out = answer.feed(data) if data else b""
        rest = answer.finish()
        if rest is None:
            return self._fail(errors.UPSTREAM_INVALID, exact=True)
        if answer.streamed and not framed and not answer.said_all:
            # The rest is half an event; the one of ours that follows must stand on clean ground.
            return self._break_off(errors.UPSTREAM_INTERRUPTED)
        return self._finish(out + rest if rest else out, self._take_head())

    def on_upstream_gone(self, gone: Gone) -> Commands:
        """The upstream could not be reached, or was lost before the end of its answer."""
        match self.state:
            case State.CONNECTING:
                return self._fail_over() or self._fail(_NEVER_ASKED[gone], exact=True)
            case State.WAITING if self.asked.idempotent and (other := self._fail_over()):
                return other
            case State.UPLOADING | State.BLOCKED:
                return self._fail(errors.UPSTREAM_INVALID, exact=True)
            case State.WAITING:
                error = errors.UPSTREAM_UNREACHABLE if gone is Gone.UNREACHABLE else errors.UPSTREAM_INVALID
                return self._fail(error, exact=gone is Gone.UNREACHABLE)
            case State.ANSWERING:
                return self._break_off(errors.UPSTREAM_INTERRUPTED)
            case _:
                return ()

    # Time.

    def on_timer(self, timer: Timer) -> Commands:
        """Something took too long. A timer of another state than the present one comes late and means nothing."""
        if timer is Timer.DRAIN:
            return self._stop(errors.DRAINING, errors.DRAIN_DEADLINE)
        if timer is Timer.QUIET:
            return self._keep_alive()
        if timer is Timer.CLIENT_STALLED:
            return self._give_up(ErrorType.CALLER_TOO_SLOW, (ABORT_CLIENT,))
        if timer is not TIMERS[self.state]:
            return ()
        match timer:
            case Timer.REQUEST_BODY if self.state is UPLOADING:
                return (CLOSE_UPSTREAM, *self._fail(errors.BODY_TIMEOUT, exact=True))
            case Timer.REQUEST_BODY:
                return self._refuse(errors.BODY_TIMEOUT)
            case Timer.IDLE if self.state is BLOCKED:
                return (CLOSE_UPSTREAM, *self._fail(errors.UPSTREAM_TIMEOUT, exact=True))
            case Timer.RETRY:
                assert self.asked.endpoint is not None
                return self._open(self.asked.endpoint)
            case Timer.CONNECT:
                other = self._fail_over()
                return (CLOSE_FAILED_UPSTREAM, *(other or self._fail(errors.UPSTREAM_TIMEOUT, exact=True)))
            case Timer.FIRST_BYTE:
                return (CLOSE_FAILED_UPSTREAM, *self._fail(errors.UPSTREAM_TIMEOUT, exact=False))
            case _:
                return (CLOSE_UPSTREAM, *self._break_off(errors.UPSTREAM_STALLED))

    def on_overload(self) -> Commands:
        """There is no room for more of the request's body."""
        return self._stop(errors.NO_ROOM, errors.NO_ROOM)

    def _keep_alive(self) -> Commands:
        answer = self._answer
        if self.state is not ANSWERING or not self._head_sent or answer is None or not answer.takes_comments:
            return ()
        return (ToClient(_COMMENT),)

    def on_internal_error(self) -> Commands:
        """An error of ours came between: whatever state this is, end it in good order."""
        return self._stop(errors.INTERNAL, errors.INTERNAL)

    def _stop(self, early: ApiError, late: ApiError) -> Commands:
        """End from our side: ``early`` while nothing was sent to the upstream, ``late`` after that."""
        match self.state:
            case State.NEW | State.RECEIVING:
                return self._refuse(early)
            case State.RESERVING:
                self.state = ABANDONED
                return self._refusal(early)
            case State.CONNECTING | State.UPLOADING | State.BLOCKED | State.BACKING_OFF:
                return (CLOSE_UPSTREAM, *self._fail(early, exact=True))
            case State.WAITING:
                return (CLOSE_UPSTREAM, *self._fail(late, exact=False))
            case State.ANSWERING:
                return (CLOSE_UPSTREAM, *self._break_off(late))
            case _:
                return ()

    # Asking again, as long as the client has heard nothing.

    def _fail_over(self) -> Commands:
        """Ask the next upstream that serves this model; nothing if there is none, or part of the body is gone."""
        asked = self.asked
        others = () if asked.target is None else asked.target.others
        if self._tried >= len(others) or (asked.upload is not None and asked.upload.passed):
            return ()
        self._tried += 1
        return self._open(others[self._tried - 1])

    def _ask_again(self, head: ResponseHead) -> Commands:
        """What to do about an upstream that did not do what it was asked; nothing if its answer is the answer."""
        refused = head.status in _REFUSED
        if not refused and not (head.status in _FAILED and self.asked.repeatable):
            return ()
        other = self._fail_over()
        if other:
            return (CLOSE_UPSTREAM, *other)
        upload = self.asked.upload
        wait_ms = head.retry_after_ms
        if wait_ms is None or head.status not in _BUSY or self._retried or (upload is not None and upload.passed):
            return ()
        patience = self.asked.read_timeout
        if wait_ms > MOST_WAIT_MS or (patience is not None and self.elapsed + wait_ms / 1000 > patience / 2):
            # Our caller can wait better than we can.
            return ()
        self._retried = True
        self.wait_seconds = wait_ms / 1000
        self.state = BACKING_OFF
        return (CLOSE_UPSTREAM,)

    # The ways to end.

    def _open(self, endpoint: Endpoint) -> Commands:
        self.state = CONNECTING
        self.asked.endpoint = endpoint
        request = self.asked.upstream_request(endpoint)
        self._whole = self.asked.upload is None or self.asked.upload.ended
        return (OpenUpstream(endpoint, request, self._whole),)

    def _refusal(self, error: ApiError, lines: bytes = b"") -> tuple[Command, ...]:
        self.status, self.error_type = error.status, error.error_type
        return (Refuse(error, self._request_id_line + headers.lines(error.headers) + lines),)

    def _refuse(self, error: ApiError, lines: bytes = b"") -> Commands:
        """An error of ours where nothing is reserved."""
        return self._end(self._refusal(error, lines))

    def _fail(self, error: ApiError, *, exact: bool) -> Commands:
        """An error of ours before the client got anything. ``exact``: the upstream surely did no work."""
        refusal = self._refusal(error)
        return self._end((*refusal, *self._settle(NOTHING_USED if exact else self._used())))

    def _break_off(self, error: ApiError) -> Commands:
        """The answer ends before its end: by an error event in a stream, or by cutting the connection."""
        assert self._answer is not None
        if self._answer.said_all:
            # The stream had said its last word; only the connection was not closed properly.
            return self._finish(self._answer.finish() or b"", self._take_head())
        if not self._answer.streamed and not self._head_sent:
            return self._fail(error, exact=False)
        settled = self._settle(self._used())
        self.error_type = error.error_type
        ending = self._answer.ending(error)
        if ending is None:
            return self._end((ABORT_CLIENT, *settled))
        return self._end((ToClient(ending, self._take_head(), last=True), *settled))

    def _give_up(self, error_type: ErrorType, first: tuple[Command, ...]) -> Commands:
        """The client is lost, or as good as lost."""
        match self.state:
            case State.DONE | State.ABANDONED:
                return ()
            case State.RESERVING:
                self.error_type = error_type
                self.state = State.ABANDONED
                return first
            case State.NEW | State.RECEIVING:
                self.error_type = error_type
                return self._end(first)
            case State.CONNECTING | State.UPLOADING | State.BLOCKED | State.BACKING_OFF:
                self.error_type = error_type
                return self._end((*first, CLOSE_UPSTREAM, *self._settle(NOTHING_USED)))
            case _:
                if self._answer is None or not self._answer.said_all:
                    self.error_type = error_type
                return self._end((*first, CLOSE_UPSTREAM, *self._settle(self._used())))

    def _finish(self, rest: bytes, head: ClientHead | None) -> Commands:
        """The answer is complete."""
        if head is not None:
            self.status = head.status
        if self._answer is not None and self._answer.failed:
            self.error_type = ErrorType.PROVIDER_FAILED
        settled = () if self._reservation is None else self._settle(self._used())
        return self._end((ToClient(rest, head, last=True), *settled))

    def _end(self, commands: tuple[Command, ...]) -> Commands:
        self.state = DONE
        self.asked.forget_body()
        return commands

    def _take_head(self) -> ClientHead | None:
        head, self._client_head = self._client_head, None
        if head is not None:
            self._head_sent = True
            self.status = head.status
        return head

    # Settling.

    def _used(self) -> Used:
        """What the upstream said was used, or else what passed by: the estimated input and the counted output; of an
        answer that nobody saw, what was expected of it."""
        used = answers.UNKNOWN_USE if self._answer is None else self._answer.used()
        estimate = self.asked.estimate
        if used.exact or estimate is None:
            return used
        output = estimate.output_tokens if self._answer is None else used.usage.output
        return Used(Usage(estimate.input_tokens, output), exact=False)

    def _settle(self, used: Used) -> tuple[Command, ...]:
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return ()
        caller, target = self.asked.caller, self.asked.target
        assert caller is not None
        assert target is not None
        cost = pricing.price(used.usage, target.price.rates)
        return (Settle(caller.view.policy, reservation, used.usage, used.exact, cost, used.raw),)


def limit_error(refusal: Refusal) -> ApiError:
    """What a refusal of the limiter is to the caller."""
    if refusal.dimension is Dimension.BUDGET:
        return errors.BUDGET_EXHAUSTED
    wait_ms = None if refusal.wait_us is None else max(1, -(-refusal.wait_us // 1000))
    return errors.rate_limited(refusal.dimension.value, refusal.limit, refusal.requested, wait_ms)
