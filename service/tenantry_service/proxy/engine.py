"""What all requests of a process share, and the one place where an ended request is recorded."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from tenantry_service.ledger import codec
from tenantry_service.ledger.event import Ledger, new_id
from tenantry_service.limits.decisions import Reservation
from tenantry_service.limits.limiter import Decision, Limiter, Mode
from tenantry_service.proxy import rows
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.kept import AnswerStore, MemoryAnswers
from tenantry_service.proxy.messages import Reserve, Settle, Timer
from tenantry_service.proxy.pool import IDLE_SECONDS, Upstreams
from tenantry_service.proxy.rows import Ended
from tenantry_service.proxy.snapshot import Snapshot
from tenantry_service.served import Observer, Trace
from tenantry_service.telemetry import PolicyInfo, Series, Telemetry
from tenantry_service.traces import Tracer

#: How often deadlines are looked at. All timers here are seconds or more; one sweep over all connections costs less
#: than a timer handle for every request.
SWEEP_SECONDS = 0.25

#: Seconds. Body: between two pieces of a request. First byte: reasoning models think for minutes (the SDK waits 600 s).
#: Idle: between two pieces of an answer. Client stalled: a reader that takes nothing.
TIMEOUTS: Mapping[Timer, float] = MappingProxyType(
    {
        Timer.REQUEST_BODY: 30.0,
        Timer.CONNECT: 5.0,
        Timer.FIRST_BYTE: 600.0,
        Timer.IDLE: 300.0,
        Timer.CLIENT_STALLED: 60.0,
        # Load balancers cut connections that are silent for 60 s.
        Timer.QUIET: 15.0,
    }
)

#: Bytes of request bodies that the process holds while they arrive; ten of the largest under a usual policy, and a
#: quarter of a small pod's memory with what is made of them. Those beyond are told to come back.
MAX_HELD_BYTES = 200 * 1024 * 1024

log = logging.getLogger(__name__)

# As it is: looked up once and not with every use.
_clock: Final = time.perf_counter


class Swept(Protocol):
    """Something with deadlines: a connection."""

    def check(self, now: float) -> None:
        """Act on what is overdue at ``now`` (loop time)."""

    def drain_deadline(self) -> None:
        """The process ends: end what is under way."""

    def shutdown(self) -> None:
        """Close when the present answer is complete."""

    def streaming(self) -> bool:
        """Whether an answer comes in pieces over it at the moment."""


class Load(NamedTuple):
    """What a process has to do at one moment."""

    requests: int
    #: Those among them whose answer comes in pieces, which an end of the process would cut.
    streams: int
    draining: bool
    #: Seconds since the last request that was admitted has ended; 0 while one is under way.
    idle_seconds: float


class Engine:
    """Shared state of the hot path; belongs to the event loop's thread."""

    def __init__(
        self,
        limiter: Limiter,
        ledger: Ledger | None,
        telemetry: Telemetry,
        upstreams: Upstreams,
        timeouts: Mapping[Timer, float] = TIMEOUTS,
    ) -> None:
        self.snapshot = Snapshot()
        self.limiter = limiter
        #: None where the limiter records what is used (see ``Limiter.records``).
        self.ledger = ledger
        self._limiter_records = limiter.records
        self.telemetry = telemetry
        self.upstreams = upstreams
        self.seconds = {**TIMEOUTS, **timeouts}
        #: The loop's time as of the last sweep, plus a sweep: exact enough for deadlines, and never too early.
        self.now = asyncio.get_running_loop().time() + SWEEP_SECONDS
        self.draining = False
        #: When the last request that was admitted ended (loop time); one that is refused does not count as use.
        self.last_served = asyncio.get_running_loop().time()
        #: New requests should find another pod: answers end their connections. Nobody is refused yet.
        self.leaving = False
        #: See ``MAX_HELD_BYTES``.
        self.held_bytes = 0
        self.max_held_bytes = MAX_HELD_BYTES
        self.connections: set[Swept] = set()
        #: Who is told of ended requests, and who traces them: nobody, unless asked for.
        self.observers: tuple[Observer, ...] = ()
        self.tracer: Tracer | None = None
        #: What is kept to be answered again, for tenants whose policy wants it.
        self.answers: AnswerStore = MemoryAnswers()
        self._idle = asyncio.Event()
        # Request ids are event ids too: 96 random bits per process and a counter, of as many digits in each, so that
        # rows come in the order of their ids and the ledger's tree grows at its end.
        self._id_unique = secrets.token_hex(12)
        self._id_count = 10**11
        self._set_time()
        telemetry.upstream_connections = upstreams.figures
        telemetry.limiter_modes = self.limiter_modes

    def swap(self, snapshot: Snapshot) -> None:
        """Serve new requests by another set of policies; those under way end by the one they began with."""
        self.snapshot = snapshot
        self.telemetry.policies = tuple(
            PolicyInfo(view.policy.tenant, view.policy.revision, view.policy.generation) for view in snapshot.views
        )

    def not_ready(self) -> list[str]:
        """Why new requests would be refused; empty if they are taken."""
        reasons = []
        if not self.snapshot.views:
            reasons.append("no policy is loaded")
        if self.draining:
            reasons.append("draining")
        if not self.accepting:
            reasons.append("the ledger cannot take more events")
        return reasons

    def load(self) -> Load:
        """What there is to do now: what scaling goes by."""
        requests = self.telemetry.in_flight
        streams = sum([connection.streaming() for connection in self.connections]) if requests else 0
        idle = 0.0 if requests else max(0.0, asyncio.get_running_loop().time() - self.last_served)
        return Load(requests, streams, self.draining, idle)

    @property
    def accepting(self) -> bool:
        """Whether usage can be recorded. If not, no new request may be admitted, because it could not be billed."""
        ledger = self.ledger
        return self.limiter.accepting and (ledger is None or ledger.accepting)

    def limiter_modes(self) -> dict[str, int]:
        """How many of the tenants have their limits counted in which way, at the moment; the worst way first."""
        modes = {mode.value: 0 for mode in Mode}
        for view in self.snapshot.views:
            modes[self.limiter.mode(view.policy).value] += 1
        return modes

    def new_id(self) -> str:
        """A request id, unique in the world."""
        self._id_count += 1
        return f"{self._id_prefix}{self._id_count}"

    async def sweep(self) -> None:
        """Watch deadlines for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._set_time()
            now = loop.time()
            self.now = now + SWEEP_SECONDS
            for connection in list(self.connections):
                connection.check(now)
            self.upstreams.close_idle(now - IDLE_SECONDS)
            await asyncio.sleep(SWEEP_SECONDS)

    def _set_time(self) -> None:
        self._id_prefix = new_id(self._id_unique)
        # Asked once in a sweep: a clock costs as much as making a reservation.
        self._wall_offset = time.time() - _clock()
        self.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()

    async def drain(self, seconds: float) -> None:
        """Take no new request; return when those under way have ended, at the latest after ``seconds``, when what is
        left is ended by an error that says so."""
        self.draining = self.telemetry.draining = True
        if not self.telemetry.in_flight:
            return
        self._idle.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain deadline: ending what is left", extra={"in_flight": self.telemetry.in_flight})
            self.end_all()

    def end_all(self) -> None:
        """Take no new request, and end what is under way by an error that says so.

        Connections end with it: the client's next request would come here again only to be refused.
        """
        self.draining = self.telemetry.draining = True
        for connection in list(self.connections):
            connection.drain_deadline()
            connection.shutdown()

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

    def settle(self, exchange: Ended, settle: Settle, began: float) -> None:
        """Carry out a Settle: correct the limits, write the ledger. ``began``: when the request did (seconds of
        :func:`time.perf_counter`)."""
        usage = settle.usage
        now = _clock()
        event = rows.usage_event(exchange, settle, self.wall_ms(now), int((now - began) * 1000 + 0.5))
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
        if self.draining and not telemetry.in_flight:
            self._idle.set()
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
