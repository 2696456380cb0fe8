"""The requests of one connection: answered one after the other, in order.

``/v1`` goes to a :class:`~tenantry_service.proxy.call.Call`, everything else to the ASGI application. What a client
sends ahead is parsed and waits (bounded).
"""

import asyncio
from collections import deque

from uvicorn import Config
from uvicorn.server import ServerState

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import websocket
from tenantry_service.proxy.asgi import ControlCall
from tenantry_service.proxy.call import Call
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.incoming import Incoming, Requests
from tenantry_service.proxy.messages import RequestHead, Timer
from tenantry_service.proxy.output import MAX_DISCARDED, Output
from tenantry_service.proxy.patience import NEVER

#: Requests that one connection may send ahead. HTTP clients of today send none; 16 is what nginx's tests use.
MAX_PIPELINED = 16
#: Seconds that an idle connection is kept. Longer than clients and load balancers keep theirs (SDK 5 s, AWS 60 s), so
#: that they close first and never send into a closing one.
KEEP_ALIVE_SECONDS = 75.0


class Succession(Output):
    """See the module."""

    def __init__(
        self, engine: Engine, config: Config, server_state: ServerState, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(engine, loop)
        self._app = config.loaded_app
        self._server_state = server_state
        self._requests = Requests(self)
        self._queue: deque[Incoming] = deque()
        self._call: Call | ControlCall | None = None
        self._answered = False
        self._advancing = False
        #: The client has gone; a call that goes on without it keeps its timers here.
        self._lost = False
        self._reading_paused = False
        self._write_paused = False
        self._control_only = False

    # What Requests finds.

    def on_incoming(self, incoming: Incoming) -> ApiError | None:
        """A head is complete. If it is its turn, it is started when all that came with it is known."""
        if self._active is None:
            self._active = incoming
        elif len(self._queue) >= MAX_PIPELINED:
            return errors.malformed(f"More than {MAX_PIPELINED} requests were sent ahead on one connection.")
        else:
            self._queue.append(incoming)
            if not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()
        return None

    def on_incoming_body(self, incoming: Incoming, data: bytes) -> None:
        """Part of a request's body."""
        if incoming.discard:
            incoming.size += len(data)
            if incoming.size > MAX_DISCARDED:
                self._linger()
        elif incoming is self._active and self._call is not None:
            self._call.body(data)
        elif not self._answered or incoming is not self._active:
            incoming.body.append(data)

    def on_incoming_complete(self, incoming: Incoming) -> None:
        """A request is complete."""
        if incoming is self._active:
            if self._call is not None:
                self._call.body_end()
            elif self._answered:
                self._advance()
            else:
                self._start(incoming)

    def on_websocket(self, head: RequestHead, rest: bytes) -> ApiError | None:
        """The connection becomes a WebSocket, unless requests that came before it wait for their answers."""
        if self._active is not None or self._queue or self._control_only or not head.path.startswith(b"/v1/"):
            return errors.malformed(
                "A WebSocket handshake is answered on a fresh connection, for /v1 routes that have one."
            )
        self._closing = True
        self._server_state.connections.discard(self)
        self.engine.connections.discard(self)
        websocket.take_over(self.engine, self._server_state, self._transport, head, rest)
        # Nobody tells this one that the connection is lost. Not before the present read is dealt with.
        self._loop.call_soon(self._requests.forget)
        return None

    def on_internal_error(self) -> None:
        """Something of ours failed while a request was read."""
        self.engine.telemetry.internal_errors += 1

    # One request after the other.

    def _start(self, incoming: Incoming) -> None:
        self._active = incoming
        self._answered = self._replied = False
        self._patience.send_by = NEVER
        head, body = incoming.head, incoming.body
        incoming.body = []
        if head.path.startswith(b"/v1/") or head.path == b"/v1":
            if self._control_only:
                self._refuse_connection(errors.OVERLOADED)
                return
            call: Call | ControlCall = Call(self.engine, self)
        else:
            call = ControlCall(self._app, self, self._loop, self.engine.seconds[Timer.REQUEST_BODY])
        self._call = call
        call.request(head, body, complete=incoming.complete)

    def call_ended(self) -> None:
        """The answer is complete (or cut). The next request has its turn, once this one has been read to its end."""
        self._call = None
        self._answered = True
        self.flush()
        if self._lost:
            self.engine.connections.discard(self)
        self._server_state.total_requests += 1
        active = self._active
        if active is None or self._closing:
            return
        if active.complete:
            self._advance()
        else:
            active.discard = True
            self._patience.send_by = self._loop.time() + self.engine.seconds[Timer.REQUEST_BODY]
            if self._close_after:
                self._linger()

    def _advance(self) -> None:
        """Go on to what waits. A loop and no recursion: a call may end before its start returns."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._active is not None and self._active.complete and self._answered and not self._closing:
                if self._close_after or self._control_only:
                    self._linger()
                elif self._write_paused:
                    # Nobody would stop its upstream: the transport says only once that the client reads too slowly.
                    return
                else:
                    self._active = None
                    self._answered = False
                    self._next()
        finally:
            self._advancing = False
        self.take_body()

    def _next(self) -> None:
        error = self._requests.error
        if self._queue and (self._queue[0].complete or error is None):
            # What the last one held shall be free again for it.
            self.engine.catch_up()
            self._start(self._queue.popleft())
        elif error is not None:
            self._refuse_connection(error)
        else:
            self._patience.send_by = self.engine.now + KEEP_ALIVE_SECONDS

    # What a call writes.

    def hold_body(self) -> None:
        """The upstream is not ready for more of the request."""
        if not self._reading_paused and not self._closing:
            self._reading_paused = True
            self._transport.pause_reading()

    def take_body(self) -> None:
        """The upstream is ready for more (or nobody is, and what comes is thrown away)."""
        if self._reading_paused and not self._queue and not self._closing:
            self._reading_paused = False
            self._transport.resume_reading()
