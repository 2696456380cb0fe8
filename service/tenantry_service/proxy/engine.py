"""What all requests of a process share: policies, timers, ids, and how its work comes to an end."""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import NamedTuple, Protocol

from tenantry_service.ledger.event import Ledger, new_id
from tenantry_service.limits.limiter import Limiter, Mode
from tenantry_service.proxy.accounts import Accounts
from tenantry_service.proxy.kept import AnswerStore, MemoryAnswers
from tenantry_service.proxy.messages import Timer
from tenantry_service.proxy.pool import IDLE_SECONDS, Upstreams
from tenantry_service.proxy.snapshot import Snapshot
from tenantry_service.telemetry import PolicyInfo, Telemetry
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


class Engine(Accounts):
    """Shared state of the hot path; belongs to the event loop's thread."""

    def __init__(
        self,
        limiter: Limiter,
        ledger: Ledger | None,
        telemetry: Telemetry,
        upstreams: Upstreams,
        timeouts: Mapping[Timer, float] = TIMEOUTS,
    ) -> None:
        super().__init__(limiter, ledger, telemetry)
        self.snapshot = Snapshot()
        self.upstreams = upstreams
        self.seconds = {**TIMEOUTS, **timeouts}
        # As of the last sweep, plus a sweep: exact enough for deadlines, and never too early.
        self.now += SWEEP_SECONDS
        self.draining = False
        #: New requests should find another pod: answers end their connections. Nobody is refused yet.
        self.leaving = False
        #: See ``MAX_HELD_BYTES``.
        self.held_bytes = 0
        self.max_held_bytes = MAX_HELD_BYTES
        self.connections: set[Swept] = set()
        #: Who traces requests: nobody, unless asked for.
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
        idle = 0.0 if requests else max(0.0, self._loop.time() - self.last_served)
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
        while True:
            self._set_time()
            now = self._loop.time()
            self.now = now + SWEEP_SECONDS
            self._check(now)
            self.upstreams.close_idle(now - IDLE_SECONDS)
            await asyncio.sleep(SWEEP_SECONDS)

    def _check(self, now: float) -> None:
        # Not in the loop above, which would hold the last one until there is another.
        for connection in list(self.connections):
            connection.check(now)

    def _set_time(self) -> None:
        self._id_prefix = new_id(self._id_unique)
        self._set_wall()
        self.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()

    def _none_left(self) -> None:
        if self.draining:
            self._idle.set()

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
