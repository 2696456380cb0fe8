"""One request from its first byte to its settled ledger event. No socket, no clock, no await.

Events come in as calls, commands go out as what they return; whoever owns the sockets carries them out in order.
Nothing else decides what happens to a request. The law: a granted reservation is settled exactly once, and after the
end there is no command. Events that no longer matter (a late timer, bytes of a cancelled upstream) are ignored.

    NEW -> RECEIVING -> RESERVING -> CONNECTING -> (UPLOADING <-> BLOCKED ->) WAITING -> ANSWERING -> DONE
                            |  client gone: ABANDONED until the limiter has answered, then DONE
"""

from tenantry_service import errors
from tenantry_service.errors import ErrorType
from tenantry_service.limits.decisions import Refusal, Reservation
from tenantry_service.limits.limiter import Decision, Unknown
from tenantry_service.proxy import answers, headers, recalling
from tenantry_service.proxy.answers import NOTHING_USED, ModelList
from tenantry_service.proxy.ending import limit_error
from tenantry_service.proxy.kept import Purpose
from tenantry_service.proxy.messages import (
    ABORT_CLIENT,
    CLOSE_FAILED_UPSTREAM,
    CLOSE_UPSTREAM,
    ClientHead,
    Commands,
    Gone,
    ResponseHead,
    Timer,
    ToClient,
    ToUpstream,
)
from tenantry_service.proxy.models import ModelLists
from tenantry_service.proxy.receiving import Receiving
from tenantry_service.proxy.states import (
    ABANDONED,
    ANSWERING,
    BACKING_OFF,
    BLOCKED,
    CONNECTING,
    RESERVING,
    TIMERS,
    UPLOADING,
    WAITING,
    State,
)

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


class Exchange(Receiving):
    """See the module."""

    __slots__ = ()

    # From the limiter, and the client's end.

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
        self._reservation = decision
        if self._again is not None:
            return self._answer_again(self._again)
        assert self.asked.endpoint is not None
        return self._open(self.asked.endpoint)

    def on_client_gone(self) -> Commands:
        """The client closed its connection. One that gave an ``Idempotency-Key`` may ask again for what is paid for
        already: its answer is awaited."""
        if self._is_awaited:
            return ()
        return self._give_up(ErrorType.CALLER_CANCELLED, ())

    @property
    def _is_awaited(self) -> bool:
        claims = self._granted
        paid = self.state is WAITING or self.state is ANSWERING
        return paid and bool(claims) and claims[0].purpose is Purpose.IDEMPOTENCY

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
        asked.forget_body()
        expected = 0 if asked.estimate is None else asked.estimate.output_tokens
        answer = self._answer = answers.choose(asked.plan, head, wants_usage=asked.wants_usage, expected=expected)
        self.error_type = errors.upstream_error_type(head.status)
        if self._reservation is None:
            lines = head.lines + headers.id_line(self.request_id)
        else:
            lines = head.lines + headers.answer_lines(self.request_id, self._reservation.standing)
        if self._granted:
            self._take(head.status, head.lines, b"")
            if self._granted[-1].purpose is Purpose.CACHE:
                lines += recalling.MISS
        self._client_head = ClientHead(head.status, lines, None if answer.resized else head.content_length)
        self.state = ANSWERING
        return ()

    def on_upstream_data(self, data: bytes) -> Commands:
        """Bytes of the answer's body."""
        if self.state is not ANSWERING:
            return ()
        assert self._answer is not None
        out = self._answer.feed(data)
        if self._granted:
            self._take_more(out)
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
        lists = self.asked.lists
        if lists is not None and isinstance(answer, ModelList):
            return self._list(lists, rest)
        if rest is None:
            return self._fail(errors.UPSTREAM_INVALID, exact=True)
        if answer.streamed and not framed and not answer.said_all:
            # The rest is half an event; the one of ours that follows must stand on clean ground.
            return self._break_off(errors.UPSTREAM_INTERRUPTED)
        return self._finish(out + rest if rest else out, self._take_head())

    def _list(self, lists: ModelLists, listed: bytes | None) -> Commands:
        """One upstream has said what models it has (or nothing of sense): ask the next one, or answer."""
        assert self.asked.endpoint is not None
        good = listed is not None and lists.take(listed, self.asked.endpoint)
        other = self._fail_over()
        if other:
            return other
        if not good:
            return self._fail(errors.UPSTREAM_INVALID, exact=True)
        return self._finish(lists.whole(), self._take_head())

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
            if self._is_awaited:
                return (ABORT_CLIENT,)
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

    # Asking again, as long as the client has heard nothing.

    def _fail_over(self) -> Commands:
        """Ask the next upstream that serves this model; nothing if there is none, or part of the body is gone."""
        asked = self.asked
        if asked.lists is not None:
            where = asked.lists.next()
            return () if where is None else self._open(where)
        others = () if asked.target is None else asked.target.others
        if self._tried >= len(others) or (asked.upload is not None and asked.upload.passed):
            return ()
        self._tried += 1
        return self._open(others[self._tried - 1])

    def _ask_again(self, head: ResponseHead) -> Commands:
        """What to do about an upstream that did not do what it was asked; nothing if its answer is the answer."""
        refused = head.status in _REFUSED
        if self.asked.lists is not None and self.asked.lists.heard:
            # What the others have said is worth more than this.
            return (CLOSE_UPSTREAM, *(self._fail_over() or self._fail(errors.UPSTREAM_INVALID, exact=True)))
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
