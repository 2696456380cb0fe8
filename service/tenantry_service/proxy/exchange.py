"""One request from its first byte to its settled ledger event. No socket, no clock, no await.

Events come in as calls, commands go out as what they return; whoever owns the sockets carries them out in order.
Nothing else decides what happens to a request. The law: a granted reservation is settled exactly once, and after the
end there is no command. Events that no longer matter (a late timer, bytes of a cancelled upstream) are ignored.

    NEW -> RECEIVING -> RESERVING -> CONNECTING -> WAITING -> ANSWERING -> DONE
                            |  client gone: ABANDONED until the limiter has answered, then DONE
"""

import enum
from collections.abc import Sequence

from tenantry_service import errors, pricing
from tenantry_service.errors import ApiError, ErrorType
from tenantry_service.limits.buckets import Dimension, Refusal, Reservation
from tenantry_service.limits.limiter import Decision, Unknown
from tenantry_service.pricing import Usage
from tenantry_service.proxy import answers, headers, models, routes
from tenantry_service.proxy import body as bodies
from tenantry_service.proxy.answers import NOTHING_USED, Answer, Used
from tenantry_service.proxy.body import Chat, Estimate
from tenantry_service.proxy.messages import (
    ABORT_CLIENT,
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
)
from tenantry_service.proxy.routes import Plan, Route
from tenantry_service.proxy.snapshot import OTHER_MODEL, Caller, Endpoint, Snapshot, Target

#: nginx's word for a request whose client left before there was a status.
CLIENT_CLOSED_REQUEST = 499


class State(enum.Enum):
    """Where an exchange is, and the timer that runs there. It starts anew with every byte of request and answer."""

    NEW = ("new", None)
    RECEIVING = ("receiving", Timer.REQUEST_BODY)
    RESERVING = ("reserving", None)
    ABANDONED = ("abandoned", None)
    CONNECTING = ("connecting", Timer.CONNECT)
    WAITING = ("waiting", Timer.FIRST_BYTE)
    ANSWERING = ("answering", Timer.IDLE)
    DONE = ("done", None)

    def __init__(self, label: str, timer: Timer | None) -> None:
        self.label = label
        self.timer = timer


class Exchange:
    """See the module. The public attributes tell how it went, for metrics and ledger."""

    __slots__ = (
        "_answer",
        "_body",
        "_chat",
        "_client_head",
        "_estimate",
        "_head",
        "_head_sent",
        "_parameter",
        "_request_id_line",
        "_reservation",
        "_size",
        "_snapshot",
        "_target",
        "caller",
        "error_type",
        "request_id",
        "route",
        "state",
        "status",
    )

    def __init__(self, snapshot: Snapshot, request_id: str) -> None:
        self._snapshot = snapshot
        self.request_id = request_id
        self._request_id_line = b"x-request-id: %b\r\n" % request_id.encode()
        self.state = State.NEW
        #: The status that the client got (499: it left before), and how the exchange ended.
        self.status = CLIENT_CLOSED_REQUEST
        self.error_type = ErrorType.NONE
        self.route: Route | None = None
        self.caller: Caller | None = None
        self._head: RequestHead
        self._body: list[bytes] = []
        self._size = 0
        self._parameter = ""
        self._chat: Chat | None = None
        self._target: Target | None = None
        self._estimate: Estimate | None = None
        self._reservation: Reservation | None = None
        self._client_head: ClientHead | None = None
        self._head_sent = False
        self._answer: Answer | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.state.label}>"

    # What the metrics and the ledger read.

    @property
    def operation(self) -> str:
        """The metric label of the route."""
        return routes.OTHER_OPERATION if self.route is None else self.route.operation

    @property
    def model_label(self) -> str:
        """The metric label of the model."""
        return OTHER_MODEL if self._target is None else self._target.label

    @property
    def target(self) -> Target | None:
        """What the model meant, once that is known."""
        return self._target

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
        *,
        complete: bool = False,
        draining: bool,
        ledger_full: bool,
    ) -> Commands:
        """The head of the request, and as much of its body as came with it; ``now`` in Unix seconds."""
        if self.state is not State.NEW:
            return ()
        commands = self._on_head(head, now, draining=draining, ledger_full=ledger_full, complete=complete)
        for data in body_start:
            commands = (*commands, *self.on_body(data))
        return (*commands, *self.on_body_end()) if complete else commands

    def _on_head(self, head: RequestHead, now: float, *, draining: bool, ledger_full: bool, complete: bool) -> Commands:
        self._head = head
        if draining:
            return self._refuse(errors.DRAINING)
        found = routes.match(head.method, head.path)
        if isinstance(found, ApiError):
            return self._refuse(found)
        self.route, self._parameter = found
        caller = head.bearer.caller(self._snapshot, now)
        if isinstance(caller, ApiError):
            return self._refuse(caller)
        self.caller = caller
        limit = caller.view.policy.max_body_bytes
        if head.content_length is not None and head.content_length > limit:
            return self._refuse(errors.body_too_large(limit))
        if ledger_full and self.route.metered:
            return self._refuse(errors.LEDGER_FULL)
        self.state = State.RECEIVING
        return (CONTINUE_READING,) if head.expects_continue and not complete else ()

    def on_body(self, data: bytes) -> Commands:
        """More of the request's body."""
        if self.state is not State.RECEIVING:
            return ()
        assert self.caller is not None
        self._size += len(data)
        if self._size > self.caller.view.policy.max_body_bytes:
            self._body = []
            return self._refuse(errors.body_too_large(self.caller.view.policy.max_body_bytes))
        self._body.append(data)
        return ()

    def on_body_end(self) -> Commands:
        """The request is complete."""
        if self.state is not State.RECEIVING:
            return ()
        assert self.route is not None
        assert self.caller is not None
        view = self.caller.view
        match self.route.plan:
            case Plan.CHAT:
                return self._ask_for_chat()
            case Plan.MODEL_LIST:
                return self._open(view.primary, self._head, b"")
            case Plan.MODEL:
                target = view.find(self._parameter)
                if isinstance(target, ApiError):
                    return self._refuse(target)
                self._target = target
                if target.served == target.requested:
                    return self._open(target.endpoint, self._head, b"")
                self.state = State.ANSWERING
                answer = models.model_object(target.requested)
                return self._finish(answer, ClientHead(200, self._local_lines(), len(answer)))

    def _ask_for_chat(self) -> Commands:
        assert self.caller is not None
        view = self.caller.view
        body = b"".join(self._body)
        self._body = [body]
        chat = bodies.inspect_chat(body)
        if isinstance(chat, ApiError):
            return self._refuse(chat)
        target = view.find(chat.model)
        if isinstance(target, ApiError):
            return self._refuse(target)
        self._chat, self._target = chat, target
        self._estimate = bodies.estimate(chat, body, target, view.policy.limits)
        self.state = State.RESERVING
        return (Reserve(view.policy, self._estimate.demand),)

    def on_reserved(self, decision: Decision) -> Commands:
        """The limiter's answer."""
        if self.state is State.ABANDONED:
            if isinstance(decision, Reservation):
                self._reservation = decision
            return self._end(self._settle(NOTHING_USED))
        if self.state is not State.RESERVING:
            return ()
        if isinstance(decision, Unknown):
            return self._refuse(errors.LIMITS_UNKNOWN)
        if isinstance(decision, Refusal):
            return self._refuse(_limit_error(decision), headers.rate_limit_lines(decision.standing))
        assert self._chat is not None
        assert self._target is not None
        self._reservation = decision
        body = bodies.upstream_body(self._chat, self._body[0], self._target)
        self._body = []
        return self._open(self._target.endpoint, self._head, body)

    def on_client_gone(self) -> Commands:
        """The client closed its connection."""
        return self._give_up(ErrorType.CALLER_CANCELLED, ())

    # Events from the upstream.

    def on_upstream_sent(self) -> Commands:
        """The request has been written to a connection."""
        if self.state is State.CONNECTING:
            self.state = State.WAITING
        return ()

    def on_upstream(self, head: ResponseHead | None, data: bytes, end: bool) -> Commands:
        """What one read of the upstream brought: perhaps the head, perhaps data, perhaps the (framed) end."""
        commands = () if head is None else self.on_upstream_head(head)
        if data:
            commands = (*commands, *self.on_upstream_data(data))
        return (*commands, *self.on_upstream_end(framed=True)) if end else commands

    def on_upstream_head(self, head: ResponseHead) -> Commands:
        """The head of the answer. It is held until the first bytes of the body, so that both leave in one write."""
        if self.state is not State.WAITING:
            return ()
        if head.status == 401:
            # The platform's credential is bad, the caller's key is good; and the body may quote that credential.
            return (CLOSE_UPSTREAM, *self._fail(errors.UPSTREAM_CREDENTIALS, exact=True))
        self.state = State.ANSWERING
        self.error_type = errors.upstream_error_type(head.status)
        lines = head.lines + self._request_id_line
        if self._reservation is not None:
            lines += headers.rate_limit_lines(self._reservation.standing)
        assert self.route is not None
        assert self.caller is not None
        wants_usage = self._chat is not None and self._chat.wants_usage
        self._answer = answers.choose(self.route.plan, head, self.caller.view, wants_usage=wants_usage)
        length = None if self._answer.resized else head.content_length
        self._client_head = ClientHead(head.status, lines, length)
        return ()

    def on_upstream_data(self, data: bytes) -> Commands:
        """Bytes of the answer's body."""
        if self.state is not State.ANSWERING:
            return ()
        assert self._answer is not None
        out = self._answer.feed(data)
        return (ToClient(out, self._take_head()),) if out else ()

    def on_upstream_end(self, framed: bool) -> Commands:
        """The answer is complete. ``framed`` is False if only the end of the connection says so."""
        if self.state is not State.ANSWERING:
            return ()
        assert self._answer is not None
        rest = self._answer.finish()
        if rest is None:
            return self._fail(errors.UPSTREAM_INVALID, exact=True)
        if self._answer.streamed and not framed and not self._answer.said_all:
            # The rest is half an event; the one of ours that follows must stand on clean ground.
            return self._break_off(errors.UPSTREAM_INTERRUPTED)
        return self._finish(rest, self._take_head())

    def on_upstream_gone(self, gone: Gone) -> Commands:
        """The upstream could not be reached, or was lost before the end of its answer."""
        match self.state:
            case State.CONNECTING:
                return self._fail(errors.UPSTREAM_UNREACHABLE, exact=True)
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
        if timer is Timer.CLIENT_STALLED:
            return self._give_up(ErrorType.CALLER_TOO_SLOW, (ABORT_CLIENT,))
        if timer is not self.state.timer:
            return ()
        match timer:
            case Timer.REQUEST_BODY:
                return self._refuse(errors.BODY_TIMEOUT)
            case Timer.CONNECT:
                return (CLOSE_UPSTREAM, *self._fail(errors.UPSTREAM_TIMEOUT, exact=True))
            case Timer.FIRST_BYTE:
                return (CLOSE_UPSTREAM, *self._fail(errors.UPSTREAM_TIMEOUT, exact=False))
            case _:
                return (CLOSE_UPSTREAM, *self._break_off(errors.UPSTREAM_STALLED))

    def on_internal_error(self) -> Commands:
        """An error of ours came between: whatever state this is, end it in good order."""
        return self._stop(errors.INTERNAL, errors.INTERNAL)

    def _stop(self, early: ApiError, late: ApiError) -> Commands:
        """End from our side: ``early`` while nothing was sent to the upstream, ``late`` after that."""
        match self.state:
            case State.NEW | State.RECEIVING:
                return self._refuse(early)
            case State.RESERVING:
                self.state = State.ABANDONED
                return self._refusal(early)
            case State.CONNECTING:
                return (CLOSE_UPSTREAM, *self._fail(early, exact=True))
            case State.WAITING:
                return (CLOSE_UPSTREAM, *self._fail(late, exact=False))
            case State.ANSWERING:
                return (CLOSE_UPSTREAM, *self._break_off(late))
            case _:
                return ()

    # The ways to end.

    def _open(self, endpoint: Endpoint, head: RequestHead, body: bytes) -> Commands:
        self.state = State.CONNECTING
        self._size = 0
        return (OpenUpstream(endpoint, headers.upstream_request(head, endpoint, body)),)

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
            case State.CONNECTING:
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
        settled = () if self._reservation is None else self._settle(self._used())
        return self._end((ToClient(rest, head, last=True), *settled))

    def _end(self, commands: tuple[Command, ...]) -> Commands:
        self.state = State.DONE
        self._body = []
        return commands

    def _take_head(self) -> ClientHead | None:
        head, self._client_head = self._client_head, None
        if head is not None:
            self._head_sent = True
            self.status = head.status
        return head

    # Settling.

    def _used(self) -> Used:
        """What the upstream said was used, or else what passed by: the estimated input and the counted output."""
        used = answers.UNKNOWN_USE if self._answer is None else self._answer.used()
        if used.exact or self._estimate is None:
            return used
        return Used(Usage(self._estimate.input_tokens, used.usage.output), exact=False)

    def _settle(self, used: Used) -> tuple[Command, ...]:
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return ()
        assert self.caller is not None
        assert self._target is not None
        cost = pricing.price(used.usage, self._target.price.rates)
        return (Settle(self.caller.view.policy, reservation, used.usage, used.exact, cost, used.raw),)

    def _local_lines(self) -> bytes:
        return b"content-type: application/json\r\n" + self._request_id_line


def _limit_error(refusal: Refusal) -> ApiError:
    if refusal.dimension is Dimension.BUDGET:
        return errors.BUDGET_EXHAUSTED
    wait_ms = None if refusal.wait_us is None else max(1, -(-refusal.wait_us // 1000))
    return errors.rate_limited(refusal.dimension.value, refusal.limit, refusal.requested, wait_ms)
