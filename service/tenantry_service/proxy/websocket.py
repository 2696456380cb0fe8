"""WebSocket connections on their sockets: a client's connection that was HTTP until its handshake, and one of its own
to the upstream. Carries out what a :class:`~tenantry_service.proxy.session.Session` commands.

Bytes pass as they come; neither side is read faster than the other one reads.
"""

import asyncio
import logging
import secrets
import time

from uvicorn.server import ServerState

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.limits.decisions import Reservation
from tenantry_service.limits.limiter import Decision
from tenantry_service.proxy import framing
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.messages import (
    ClientHead,
    Command,
    Commands,
    OpenUpstream,
    Refuse,
    RequestHead,
    Reserve,
    Settle,
    Timer,
    ToClient,
    ToUpstream,
)
from tenantry_service.proxy.patience import LINGER_SECONDS, NEVER
from tenantry_service.proxy.session import Session, Stage
from tenantry_service.proxy.websocket_upstream import Upstream

#: Seconds for the upstream to be connected to and to answer the handshake.
HANDSHAKE_SECONDS = 15.0
#: Seconds without a byte in either direction. OpenAI ends its own sessions after an hour.
IDLE_SECONDS = 900.0

log = logging.getLogger(__name__)


def take_over(engine: Engine, state: ServerState, transport: asyncio.Transport, head: RequestHead, rest: bytes) -> None:
    """Make a WebSocket of a client's connection. ``rest``: what came behind the handshake."""
    Socket(engine, state, transport).start(head, rest)


class Socket(asyncio.Protocol):
    """A client's WebSocket. The connection's protocol from its handshake on."""

    def __init__(self, engine: Engine, state: ServerState, transport: asyncio.Transport) -> None:
        self._engine = engine
        self._state = state
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.session = Session(engine.snapshot, engine.new_id(), secrets.token_bytes(4))
        self._head: RequestHead
        self._early = b""
        self._upstream: Upstream | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._started = time.perf_counter()
        self._first_byte: float | None = None
        self._ended = False
        self._closed = False
        self._client_full = False
        self._deadline = NEVER
        self._unread = 0

    def start(self, head: RequestHead, rest: bytes) -> None:
        """Begin with the handshake. The client is read no further before it is complete."""
        self._head, self._early = head, rest
        self._transport.set_protocol(self)
        self._transport.pause_reading()
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes only
        self._engine.connections.add(self)
        self._engine.telemetry.in_flight += 1
        self._deadline = self._loop.time() + HANDSHAKE_SECONDS
        engine = self._engine
        self._run(
            self.session.on_request(head, time.time(), draining=engine.draining, ledger_full=not engine.accepting)
        )

    # From the engine and the server.

    def check(self, now: float) -> None:
        """Act on what is overdue, and on a key that is good no more."""
        if commands := self.session.on_tick(self._engine.snapshot, time.time()):
            self._run(commands)
        unread = self._transport.get_write_buffer_size()
        if now < self._deadline:
            return
        if self._closed or (unread and unread >= self._unread):
            self._transport.abort()
        elif unread:
            self._expect(unread, self._engine.seconds[Timer.CLIENT_STALLED])
        else:
            stage = self.session.stage
            self._run(
                self.session.on_failed(errors.UPSTREAM_STALLED if stage is Stage.OPEN else errors.UPSTREAM_TIMEOUT)
            )

    def drain_deadline(self) -> None:
        """The process ends."""
        self._run(self.session.on_failed(errors.DRAIN_DEADLINE))

    def streaming(self) -> bool:
        """A session is one long stream."""
        return True

    def shutdown(self) -> None:
        """The server stops."""
        self.drain_deadline()

    # From the client: asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        """Frames, as far as we care."""
        if self._closed:
            return
        self._expect(0, IDLE_SECONDS)
        self._run(self.session.on_client(data))

    def eof_received(self) -> bool:
        """The client closed its side: it is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._closed = True
        self._engine.telemetry.connections -= 1
        self._engine.connections.discard(self)
        self._state.connections.discard(self)
        self._run(self.session.on_client_gone())
        self._hang_up()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._client_full = True
        self._expect(self._transport.get_write_buffer_size(), self._engine.seconds[Timer.CLIENT_STALLED])
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._client_full = False
        if not self._closed:
            self._expect(0, IDLE_SECONDS)
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def _expect(self, unread: int, seconds: float) -> None:
        self._unread = unread
        self._deadline = self._engine.now + seconds

    # From the upstream.

    def accepted(self, answer: bytes) -> None:
        """It has switched protocols."""
        self._first_byte = time.perf_counter() - self._started
        self._expect(0, IDLE_SECONDS)
        self._run(self.session.on_accepted(answer))
        if not self._closed:
            self._transport.resume_reading()
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def from_upstream(self, data: bytes) -> None:
        """Bytes for the client."""
        if not self._client_full:
            self._expect(0, IDLE_SECONDS)
        self._run(self.session.on_upstream(data))

    def upstream_full(self, *, full: bool) -> None:
        """It reads slowly, or has caught up."""
        if self._closed:
            return
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def failed(self, error: ApiError) -> None:
        """It cannot serve this connection."""
        self._run(self.session.on_failed(error))

    def upstream_gone(self) -> None:
        """It has closed."""
        self._upstream = None
        self._run(self.session.on_upstream_gone())

    # Commands.

    def _run(self, commands: Commands) -> None:
        try:
            for command in commands:
                self._carry_out(command)
            while more := self.session.on_carried_out():
                for command in more:
                    self._carry_out(command)
        except Exception:  # noqa: BLE001 - see _failed
            self._failed()
        if self.session.stage is Stage.DONE and not self._ended:
            self._ended = True
            seconds = time.perf_counter() - self._started
            self._engine.ended(self.session, None, seconds, self._first_byte, None)
            if self._engine.observers:
                self._engine.observe(self.session, None, None, seconds, self._first_byte)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, ToClient):
            if command.data and not self._closed:
                self._transport.write(command.data)
            if command.last:
                self._close()
        elif isinstance(command, ToUpstream):
            if self._upstream is not None:
                self._upstream.transport.write(command.data)
        elif isinstance(command, Reserve):
            self._engine.reserve(self.session, command, self._reserved)
        elif isinstance(command, Settle):
            self._engine.settle(self.session, command, self._started, time.perf_counter())
            self._engine.count(self.session.asked, command)
        elif isinstance(command, OpenUpstream):
            self._dialling = self._loop.create_task(self._dial(command))
        elif isinstance(command, Refuse):
            self._refuse(command.error)
        else:
            self._hang_up()

    def _reserved(self, decision: Decision) -> None:
        # First, so that what was granted is the session's to settle, whatever comes now.
        commands = self.session.on_reserved(decision)
        if isinstance(decision, Reservation) and self.session.stage is not Stage.DONE:
            try:
                self._engine.begin(self.session, decision, time.perf_counter())
            except Exception:  # noqa: BLE001 - see _failed
                self._failed()
                return
        self._run(commands)

    def _failed(self) -> None:
        """The boundary of a connection: an error of ours ends this one and touches no other."""
        log.exception("internal error in a websocket", extra={"request_id": self.session.request_id})
        self._engine.telemetry.internal_errors += 1
        self._transport.abort()

    async def _dial(self, command: OpenUpstream) -> None:
        where = command.endpoint
        try:
            async with asyncio.timeout(self._engine.seconds[Timer.CONNECT]):
                _, upstream = await self._loop.create_connection(
                    lambda: Upstream(self, self._head),
                    where.host,
                    where.port,
                    ssl=self._engine.upstreams.tls_context() if where.tls else None,
                    server_hostname=where.host if where.tls else None,
                )
        except (OSError, TimeoutError, ValueError):
            self.failed(errors.UPSTREAM_UNREACHABLE)
            return
        if self.session.stage is not Stage.DIALLING:
            upstream.transport.abort()
            return
        self._upstream = upstream
        upstream.transport.write(command.request)

    def _hang_up(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            # Its last frames are those of a client that leaves: nobody waits for an answer to them.
            upstream.transport.close()

    def _close(self) -> None:
        """Let the client read what was written, then close."""
        if not self._closed:
            self._closed = True
            self._deadline = self._engine.now + LINGER_SECONDS
            self._transport.close()

    def _refuse(self, error: ApiError) -> None:
        body = error.body()
        pairs = ((b"content-type", b"application/json"), (b"x-request-id", self.session.request_id.encode()))
        lines = b"".join(b"%b: %b\r\n" % pair for pair in (*pairs, *error.headers))
        head = ClientHead(error.status, lines, len(body))
        framed, _, _ = framing.head_bytes(head, len(body), self._engine.date_line, version_1_0=False, close=True)
        if not self._closed:
            self._transport.write(framed + body)
        self._close()
