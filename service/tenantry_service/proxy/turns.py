"""The turns of a WebSocket session: what each may cost, what it did cost, and what is recorded of it. Pure."""

from collections import deque

from tenantry_service import pricing
from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.pricing import Usage
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.body import MOST_MEDIA_TOKENS, UNDECLARED_OUTPUT_TOKENS, Estimate
from tenantry_service.proxy.messages import Commands, Reserve, Settle
from tenantry_service.proxy.routes import Plan
from tenantry_service.proxy.snapshot import Target

#: The most that a turn of a realtime model reads and says (gpt-realtime: a context of 32,768 with 4,096 of output).
REALTIME_CONTEXT = 32_768
REALTIME_OUTPUT = 4_096


class Turns:
    """One turn after the other; there is a reservation for the next before it can begin."""

    def __init__(self, request_id: str) -> None:
        self._id = request_id
        self._turn = 0
        self._reservation: Reservation | None = None
        #: The limiter has been asked for one.
        self._asking = False
        #: An answer is under way.
        self._answering = False
        #: Usage of turns that are over and not yet settled: each waits for its reservation.
        self._over: deque[tuple[Usage, bytes]] = deque()
        self.asked = Asked()

    @property
    def request_id(self) -> str:
        """Of the present turn: each is a row of the ledger."""
        return self._id if self._turn <= 1 else f"{self._id}-{self._turn}"

    @property
    def streamed(self) -> bool:
        """All that a socket brings is."""
        return True

    def _take_target(self, target: Target) -> None:
        self.asked.target = target
        self.asked.endpoint = self.asked.endpoint or target.endpoint

    def _estimate(self) -> Estimate:
        """A turn: an answer of usual length; at the worst, a full context and the longest answer."""
        assert self.asked.target is not None
        price = self.asked.target.price
        if self.asked.plan is Plan.REALTIME:
            most = pricing.worst_case(REALTIME_CONTEXT, REALTIME_OUTPUT, price)
        else:
            most = pricing.worst_case(MOST_MEDIA_TOKENS, price.max_output, price)
        likely = min(price.max_output, UNDECLARED_OUTPUT_TOKENS)
        return Estimate(Demand(likely, most), 0, likely)

    def _reserve(self) -> Commands:
        assert self.asked.caller is not None
        self._turn += 1
        self._asking = True
        self.asked.estimate = self._estimate()
        return (Reserve(self.asked.caller.view.policy, self.asked.estimate.demand),)

    def _settle(self, used: Usage | None, raw: bytes | None = None) -> Commands:
        """End the present turn. Without its usage: nothing if none was under way, else what was expected of it."""
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return ()
        caller, target, estimate = self.asked.caller, self.asked.target, self.asked.estimate
        assert caller is not None
        assert target is not None
        assert estimate is not None
        exact = used is not None or not self._answering
        if used is None:
            used = Usage(output=estimate.output_tokens) if self._answering else pricing.NO_USAGE
        cost = target.price.of(used)
        return (Settle(caller.view.policy, reservation, used, exact, cost, raw),)
