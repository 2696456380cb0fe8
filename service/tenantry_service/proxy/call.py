"""One exchange among its sockets: turns what happens into its events and carries out its commands."""

import logging
from collections.abc import Callable, Sequence

from tenantry_service.limits.decisions import Reservation
from tenantry_service.limits.limiter import Decision
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.kept import Recalled, Verdict
from tenantry_service.proxy.messages import (
    AbortClient,
    ClientHead,
    CloseUpstream,
    Command,
    Commands,
    Gone,
    Keep,
    OpenUpstream,
    Recall,
    Refuse,
    RequestHead,
    Reserve,
    ResponseHead,
    Settle,
    Timer,
    ToClient,
    ToUpstream,
)
from tenantry_service.proxy.sides import ClientSide, Handle
from tenantry_service.proxy.states import CONNECTING, DONE, HOLDING, TIMERS, State
from tenantry_service.proxy.timed import Timed

log = logging.getLogger(__name__)


class Call(Timed):
    """See the module."""

    __slots__ = ("_client", "_held", "_holding", "_upstream")

    def __init__(self, engine: Engine, client: ClientSide) -> None:
        super().__init__(engine)
        self._client = client
        self._upstream: Handle | None = None
        #: A body that passes through is held up; bytes of one that is held for now.
        self._holding = False
        self._held = 0

    @property
    def state(self) -> State:
        """Where the exchange is."""
        return self._exchange.state

    # From the client.

    def request(self, head: RequestHead, body: Sequence[bytes], *, complete: bool) -> None:
        """The head has arrived, and what came of the body with it."""
        engine = self._engine
        exchange = self._exchange
        if engine.tracer is not None:
            self._trace = engine.tracer.begin(head.headers)
            if self._trace is not None:
                exchange.asked.trace_line = self._trace.line
        # The three events of every request are given directly: arguments in a tuple cost as much as the event.
        try:
            self._run(
                exchange.on_request(
                    head, engine.wall(self._started), body, complete, engine.draining, ledger_full=not engine.accepting
                )
            )
        except Exception:  # noqa: BLE001 - see _failed
            self._failed()

    def body(self, data: bytes) -> None:
        """Part of the body has arrived."""
        self._arm()
        if self._exchange.asked.upload is None:
            # What comes in more reads than one is counted as long as it may be held.
            self._held += len(data)
            self._engine.held_bytes += len(data)
            if self._engine.held_bytes > self._engine.max_held_bytes:
                self._handle_event(self._exchange.on_overload)
                return
        self._handle_event(self._exchange.on_body, data)

    def body_end(self) -> None:
        """The request is complete."""
        self._began_ours()
        self._handle_event(self._exchange.on_body_end)

    def client_gone(self) -> None:
        """The client closed."""
        self._handle_event(self._exchange.on_client_gone)
        if self._paused and self._exchange.state is not DONE:
            # Nobody reads slowly any more.
            self.resume()

    def timer(self, timer: Timer) -> None:
        """Something is overdue."""
        self._handle_event(self._exchange.on_timer, timer)
        self._client.flush()

    def due(self) -> None:
        """The deadline has passed."""
        timer = TIMERS[self._exchange.state]
        self._disarm()
        if self._stays_quiet():
            idle_by = self._idle_by
            self.timer(Timer.QUIET)
            self._idle_by = idle_by
            self._arm_quiet()
        elif timer is Timer.CONNECT and self._upstream is not None and self._upstream.starved:
            self._upstream.cancel()
            self.upstream_gone(Gone.OVERLOADED)
        elif timer is not None:
            self.timer(timer)

    def pause(self) -> None:
        """The client is slow: read no more from the upstream (the client's connection has a deadline of its own)."""
        self._paused = True
        if self._upstream is not None:
            self._upstream.pause()
        self._disarm()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._upstream is not None:
            self._upstream.resume()
        self._disarm()
        self._arm()

    # From the limiter.

    def _reserved(self, decision: Decision) -> None:
        exchange = self._exchange
        if exchange.state is DONE:
            return
        try:
            # First, so that what was granted is the exchange's to settle, whatever comes now.
            commands = exchange.on_reserved(decision)
            if exchange.state is CONNECTING and isinstance(decision, Reservation):
                self._engine.begin(exchange, decision, self._started)
            self._run(commands)
        except Exception:  # noqa: BLE001 - see _failed
            self._failed()

    def _recalled(self, recalled: Recalled) -> None:
        said = recalled.value if isinstance(recalled, Verdict) else "given_again"
        counts = self._engine.telemetry.recalled
        counts[said] = counts.get(said, 0) + 1
        self._handle_event(self._exchange.on_recalled, recalled)

    # From the upstream.

    def upstream_sent(self, handle: Handle) -> None:
        """The request is on its way."""
        self._upstream = handle
        if self._paused:
            handle.pause()
        self._count_ours()
        commands = self._exchange.on_upstream_sent()
        if commands:
            self._handle_event(_same, commands)
        else:
            self._arm()

    def upstream_full(self) -> None:
        """The upstream takes the request slowly."""
        self._handle_event(self._exchange.on_upstream_full)

    def upstream_drained(self) -> None:
        """The upstream has caught up."""
        self._handle_event(self._exchange.on_upstream_drained)

    def upstream_read(self, head: ResponseHead | None, data: bytes, *, end: bool) -> None:
        """The answer begins, goes on, ends."""
        if head is not None:
            self._first_byte_came()
        if end:
            self._upstream = None
        exchange = self._exchange
        if exchange.state is not DONE:
            try:
                self._run(exchange.on_upstream(head, data, end))
            except Exception:  # noqa: BLE001 - see _failed
                self._failed()
        if head is not None:
            self._release_held()
            if self._exchange.streamed:
                self._began_to_stream()
        self._client.flush()
        self._count_ours()

    def upstream_closed(self) -> None:
        """The answer ends with its connection."""
        self._upstream = None
        self._handle_event(self._exchange.on_upstream_end, False)
        self._client.flush()

    def upstream_gone(self, gone: Gone) -> None:
        """The upstream is lost."""
        self._upstream = None
        self._handle_event(self._exchange.on_upstream_gone, gone)
        self._client.flush()

    # Commands.

    def _handle_event(self, event: Callable[..., Commands], *arguments: object) -> None:
        """Give the exchange an event and carry out what it commands. The boundary of a request: an error of ours ends
        this request, is logged, and touches no other."""
        if self._exchange.state is DONE:
            # Only its limiter or upstream may still be talking.
            return
        try:
            self._run(event(*arguments))
        except Exception:  # noqa: BLE001 - see _failed
            self._failed()

    def _failed(self) -> None:
        """Log what is being handled, and end the request in good order."""
        log.exception("internal error", extra={"request_id": self._exchange.request_id})
        self._engine.telemetry.internal_errors += 1
        self._run(self._exchange.on_internal_error())

    def _run(self, commands: Commands) -> None:
        # Carrying out a command may bring the next event at once (a limiter in memory, a free connection): whether
        # *these* commands are the last ones is known only now.
        ended = self._exchange.state is DONE
        for command in commands:
            self._carry_out(command)
        if ended:
            self._end()
        else:
            self._arm()
        if self._exchange.asked.upload is not None:
            self._regulate()

    def _regulate(self) -> None:
        """A body that passes through comes no faster than it goes."""
        hold = self._exchange.state in HOLDING
        if hold is self._holding:
            return
        self._holding = hold
        if hold:
            self._client.hold_body()
        else:
            self._client.take_body()

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, ToClient):
            self._client.send(command.head, command.data, last=command.last)
        elif isinstance(command, Reserve):
            self._engine.reserve(self._exchange, command, self._reserved)
        elif isinstance(command, OpenUpstream):
            pending = self._engine.upstreams.send(
                command.endpoint, command.request, self, complete=command.complete, once=command.once
            )
            if pending is not None:
                self._upstream = pending
        elif isinstance(command, Settle):
            # The last that is heard of a request, and nobody waits for it.
            self._settled = command
        elif isinstance(command, Refuse):
            body = command.error.body()
            lines = b"content-type: application/json\r\n" + command.lines
            self._client.send(ClientHead(command.error.status, lines, len(body)), body, last=True)
            self._client.flush()
        elif isinstance(command, ToUpstream):
            if self._upstream is not None:
                self._upstream.write(command.data, last=command.last)
        elif isinstance(command, CloseUpstream):
            if self._upstream is not None:
                self._upstream.cancel(failed=command.failed)
                self._upstream = None
        elif isinstance(command, AbortClient):
            self._client.abort()
        elif isinstance(command, Recall):
            self._engine.answers.claim(command.claim, self._engine.now, self._recalled)
        elif isinstance(command, Keep):
            self._engine.answers.keep(command.claim, command.answer, self._engine.now)
        else:
            self._client.send_continue()

    def _release_held(self) -> None:
        self._engine.held_bytes -= self._held
        self._held = 0

    def _end(self) -> None:
        self._release_held()
        self._record()
        self._client.call_ended()


def _same(commands: Commands) -> Commands:
    return commands
