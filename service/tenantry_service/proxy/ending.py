"""The ways in which an exchange ends, each of which settles what was reserved exactly once. Pure."""

from typing import Final

from tenantry_service import errors
from tenantry_service.errors import ApiError, ErrorType
from tenantry_service.limits.decisions import Demand, Dimension, Refusal, Reservation
from tenantry_service.policy import Policy
from tenantry_service.pricing import Usage
from tenantry_service.proxy import answers, headers
from tenantry_service.proxy.answers import NOTHING_USED, Answer, Used
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.kept import TOO_LARGE, Claim, KeptAnswer, Purpose
from tenantry_service.proxy.messages import (
    ABORT_CLIENT,
    CLOSE_UPSTREAM,
    ClientHead,
    Command,
    Commands,
    Keep,
    OpenUpstream,
    Refuse,
    Reserve,
    Settle,
    ToClient,
)
from tenantry_service.proxy.snapshot import Endpoint, Snapshot
from tenantry_service.proxy.states import ABANDONED, CONNECTING, DONE, NEW, RESERVING, State

#: nginx's word for a request whose client left before there was a status.
CLIENT_CLOSED_REQUEST = 499
_NO_ERROR: Final = ErrorType.NONE
#: Answers that say of themselves that another attempt may have another one.
_TRY_AGAIN = frozenset([401, 408, 409, 429])
# Never changed: what nearly every exchange has of either.
_NO_CLAIMS: Final[list[Claim]] = []
_NOTHING_TAKEN: Final[list[bytes]] = []


class Ending:
    """What an exchange knows, and how it ends. The public attributes tell how it went, for metrics and ledger."""

    __slots__ = (
        "_again",
        "_answer",
        "_client_head",
        "_granted",
        "_head_sent",
        "_kept_lines",
        "_kept_status",
        "_marks",
        "_most_taken",
        "_reservation",
        "_retried",
        "_snapshot",
        "_taken",
        "_taken_size",
        "_tried",
        "_wanted",
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
        #: Claims to look up and claims that were granted (both are empty for nearly all requests), the answer that is
        #: given again and the header lines that say so, and what has been taken of an answer that may be kept.
        self._wanted: list[Claim] = _NO_CLAIMS
        self._granted: list[Claim] = _NO_CLAIMS
        self._again: KeptAnswer | None = None
        self._marks = b""
        self._kept_status = 0
        self._kept_lines = b""
        self._taken: list[bytes] = _NOTHING_TAKEN
        self._taken_size = 0
        self._most_taken = 0

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.state.name}>"

    @property
    def streamed(self) -> bool:
        """Whether the answer was an event stream."""
        return self._answer is not None and self._answer.streamed

    def _reserve(self, policy: Policy, demand: Demand) -> Commands:
        self.state = RESERVING
        return (Reserve(policy, demand),)

    def _open(self, endpoint: Endpoint) -> Commands:
        self.state = CONNECTING
        self.asked.endpoint = endpoint
        request = self.asked.upstream_request(endpoint)
        self._whole = self.asked.upload is None or self.asked.upload.ended
        return (OpenUpstream(endpoint, request, self._whole, not self.asked.repeatable),)

    # The ways to end.

    def _stop(self, early: ApiError, late: ApiError) -> Commands:
        """End from our side: ``early`` while nothing was sent to the upstream, ``late`` after that."""
        match self.state:
            case State.NEW | State.RECEIVING:
                return self._refuse(early)
            case State.RESERVING | State.RECALLING:
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

    def _refusal(self, error: ApiError, lines: bytes = b"") -> tuple[Command, ...]:
        self.status, self.error_type = error.status, error.error_type
        return (Refuse(error, headers.id_line(self.request_id) + headers.lines(error.headers) + lines),)

    def _refuse(self, error: ApiError, lines: bytes = b"") -> Commands:
        """An error of ours where nothing is reserved."""
        return self._end(self._refusal(error, lines))

    def _fail(self, error: ApiError, *, exact: bool) -> Commands:
        """An error of ours before the client got anything. ``exact``: the upstream surely did no work."""
        lists = self.asked.lists
        if lists is not None and lists.heard and self._client_head is not None:
            return self._finish(lists.whole(), self._take_head())
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
            case State.RESERVING | State.RECALLING:
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
        if self._granted:
            self._take_more(rest)
        return self._end((ToClient(rest, head, last=True), *settled), complete=True)

    def _end(self, commands: tuple[Command, ...], *, complete: bool = False) -> Commands:
        """The only way to the end. ``complete``: the client got all of an answer, or would have if it had stayed."""
        self.state = DONE
        self.asked.forget_body()
        if self._granted:
            return (*commands, *[Keep(claim, self._kept(claim) if complete else None) for claim in self._granted])
        return commands

    # What is kept of an answer, if somebody may ask for it again.

    def _take(self, status: int, lines: bytes, body: bytes) -> None:
        self._kept_status, self._kept_lines, self._taken = status, lines, [body]
        self._taken_size = len(body)

    def _take_more(self, data: bytes) -> None:
        self._taken_size += len(data)
        if self._taken_size <= self._most_taken:
            self._taken.append(data)
        else:
            self._taken = []

    def _kept(self, claim: Claim) -> KeptAnswer | None:
        """What is kept for a claim, now that the answer is complete."""
        status, cached = self._kept_status, claim.purpose is Purpose.CACHE
        if not status or status >= 500 or status in _TRY_AGAIN or (cached and (status != 200 or self.streamed)):
            return None
        if self._taken_size > claim.most_bytes:
            return None if cached else TOO_LARGE
        return KeptAnswer(status, self._kept_lines, b"".join(self._taken))

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
        cost = target.price.of(used.usage)
        return (Settle(caller.view.policy, reservation, used.usage, used.exact, cost, used.raw),)


def limit_error(refusal: Refusal) -> ApiError:
    """What a refusal of the limiter is to the caller."""
    if refusal.dimension is Dimension.BUDGET:
        return errors.KEY_BUDGET_EXHAUSTED if refusal.of_key else errors.BUDGET_EXHAUSTED
    dimension = f"{refusal.dimension.value} of this API key" if refusal.of_key else refusal.dimension.value
    return errors.rate_limited(dimension, refusal.limit, refusal.requested, refusal.wait_ms)
