"""What is recorded of requests: limits, ledger, metrics, who watches; and the clock that all of it goes by."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from tenantry_service.ledger import codec
from tenantry_service.ledger.event import Ledger
from tenantry_service.limits.decisions import Reservation
from tenantry_service.limits.limiter import Decision, Limiter
from tenantry_service.proxy import rows
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.messages import Reserve, Settle
from tenantry_service.proxy.rows import Ended
from tenantry_service.served import Observer, Trace
from tenantry_service.telemetry import Series, Telemetry

# As it is: looked up once and not with every use.
_clock: Final = time.perf_counter


class Accounts(ABC):
    """The accounts of a process; belong to the event loop's thread."""

    def __init__(self, limiter: Limiter, ledger: Ledger | None, telemetry: Telemetry) -> None:
        self._loop = asyncio.get_running_loop()
        self.limiter = limiter
        #: None where the limiter records what is used (see ``Limiter.records``).
        self.ledger = ledger
        self._limiter_records = limiter.records
        self.telemetry = telemetry
        #: Who is told of ended requests: nobody, unless asked for.
        self.observers: tuple[Observer, ...] = ()
        #: The loop's time, not later than it is; see :class:`~tenantry_service.proxy.engine.Engine`.
        self.now = self._loop.time()
        #: When the last request that was admitted ended (loop time); one that is refused does not count as use.
        self.last_served = self.now
        self._later: list[Callable[[], None]] = []
        self._set_wall()

    @abstractmethod
    def _none_left(self) -> None:
        """No request is under way."""

    def later(self, work: Callable[[], None]) -> None:
        """Do ``work`` when everything is written that the present turn of the loop has brought forth: what nobody waits
        for shall keep nobody waiting. (uvloop writes when it has told of all that could be read, and before the next
        turn.) It must not raise."""
        if not self._later:
            self._loop.call_soon(self.catch_up)
        self._later.append(work)

    def catch_up(self) -> None:
        """Do now what was to be done later."""
        later, self._later = self._later, []
        for work in later:
            work()

    def _set_wall(self) -> None:
        # Asked once in a while: a clock costs as much as making a reservation.
        self._wall_offset = time.time() - _clock()

    def reserve(self, exchange: Ended, command: Reserve, done: Callable[[Decision], None]) -> None:
        """Carry out a Reserve. Whoever gets a reservation has to :meth:`begin` before anything goes upstream."""
        asked, demand = exchange.asked, command.demand
        assert asked.caller is not None
        note = rows.lost_note(exchange, demand, self.wall_ms(_clock())) if self._limiter_records else b""
        self.limiter.reserve(command.policy, asked.caller.key_name, exchange.request_id, demand, note, done)

    def begin(self, exchange: Ended, reservation: Reservation, at: float) -> None:
        """Write ahead what a request that is admitted costs if this process dies. ``at``: seconds of
        :func:`time.perf_counter`."""
        if self.ledger is not None:
            note = rows.lost_note(exchange, reservation.demand, self.wall_ms(at))
            self.ledger.begin(exchange.request_id, note)

    def settle(self, exchange: Ended, settle: Settle, began: float, ended: float) -> None:
        """Carry out a Settle: correct the limits, write the ledger. ``began`` and ``ended``: when the request (or its
        turn of a WebSocket session) did, in seconds of :func:`time.perf_counter`."""
        usage = settle.usage
        event = rows.usage_event(exchange, settle, self.wall_ms(ended), int((ended - began) * 1000 + 0.5))
        self.limiter.settle(
            settle.policy,
            settle.reservation,
            usage.input + usage.output,
            settle.nano_usd,
            exact=settle.exact,
            event=codec.encode(event) if self._limiter_records else b"",
        )
        if self.ledger is not None:
            self.ledger.append(event)
        estimate = exchange.asked.estimate
        if settle.exact and estimate is not None and estimate.demand.tokens:
            self.telemetry.estimates.observe((usage.input + usage.output) / estimate.demand.tokens)
            if estimate.learned is not None:
                estimate.learned.observe(usage.output)

    def ended(
        self,
        exchange: Ended,
        settled: Settle | None,
        seconds: float,
        first_byte: float | None,
        overhead: float | None,
    ) -> None:
        """Count an ended request, whatever became of it. All in seconds; None for what did not happen."""
        telemetry = self.telemetry
        telemetry.in_flight -= 1
        if not telemetry.in_flight:
            self._none_left()
        asked = exchange.asked
        series = telemetry.series(asked.operation, asked.model_label)
        error_type = exchange.error_type
        series.ended[error_type] = series.ended.get(error_type, 0) + 1
        series.duration.observe(seconds)
        if first_byte is not None:
            series.first_byte.observe(first_byte)
        if overhead is not None:
            telemetry.overhead.observe(overhead)
        if settled is not None:
            self.last_served = self.now
            self._count(series, settled)

    def observe(
        self,
        exchange: Ended,
        settled: Settle | None,
        trace: Trace | None,
        seconds: float,
        first_byte: float | None,
    ) -> None:
        """Tell the observers of an ended request."""
        served = rows.served(exchange, settled, trace)
        served.began_ns = time.time_ns() - round(seconds * 1e9)
        served.seconds, served.first_byte = seconds, first_byte
        for observer in self.observers:
            observer.put(served)

    def count(self, asked: Asked, settled: Settle) -> None:
        """Count what was used by a part of a request that has not ended."""
        self._count(self.telemetry.series(asked.operation, asked.model_label), settled)

    def _count(self, series: Series, settled: Settle) -> None:
        usage = settled.usage
        series.input_tokens += usage.input
        series.cached_tokens += usage.cached_input
        series.output_tokens += usage.output
        series.nano_usd += settled.nano_usd
        if not settled.exact:
            self.telemetry.estimated_events += 1

    def wall(self, at: float) -> float:
        """Unix seconds at a time of :func:`time.perf_counter` of now, or of a moment ago."""
        return self._wall_offset + at

    def wall_ms(self, at: float) -> int:
        """The same in whole milliseconds."""
        return int((self._wall_offset + at) * 1000.0)
