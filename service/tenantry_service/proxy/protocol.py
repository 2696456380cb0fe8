"""HTTP/1.1 for clients: the protocol class that uvicorn is given as ``http=``.

Here: what the connection itself does, and how long it may take for it. Its requests are
:class:`~tenantry_service.proxy.succession.Succession`'s. The output is bounded: when a client reads slowly, its
upstream is read slowly.
"""

import asyncio
from functools import partial
from typing import cast

from uvicorn import Config
from uvicorn.server import ServerState

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy.call import Call
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.incoming import Incoming
from tenantry_service.proxy.messages import Timer
from tenantry_service.proxy.patience import Overdue, Patience
from tenantry_service.proxy.sides import HIGH_WATER
from tenantry_service.proxy.succession import Succession

#: Seconds for a request's head to arrive, counted from its first byte or from the connection (nginx: 60, Envoy: 0).
HEAD_SECONDS = 15.0
#: Connections of clients; each costs some 10 KB.
MAX_CONNECTIONS = 10_000
#: Connections beyond those, for control routes only and for a second each: a full process is still alive, and says so.
RESERVED_CONNECTIONS = 64
RESERVED_SECONDS = 1.0


class ClientConnection(Succession):
    """One connection of a client. An :class:`asyncio.Protocol` by its shape: compiled classes have no foreign bases."""

    def __init__(
        self,
        engine: Engine,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(engine, config, server_state, _loop or asyncio.get_running_loop())

    # asyncio.Protocol: connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes only
        self.engine.connections.add(self)
        self.engine.telemetry.connections += 1
        over = self.engine.telemetry.connections - MAX_CONNECTIONS
        self._control_only = over > 0
        self._patience.send_by = self._loop.time() + (RESERVED_SECONDS if over > 0 else HEAD_SECONDS)
        if over > RESERVED_CONNECTIONS:
            self._refuse_connection(errors.OVERLOADED)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or we have closed."""
        self._closing = self._lost = True
        self._server_state.connections.discard(self)
        self.engine.telemetry.connections -= 1
        self._queue.clear()
        self._patience = Patience(self.engine.seconds[Timer.CLIENT_STALLED])
        if self._call is not None:
            self._call.client_gone()
        if not isinstance(self._call, Call):
            # An answer of a control route is nobody's any more; only calls go on without their client.
            self._call = None
            self.engine.connections.discard(self)
        self._requests.forget()

    def shutdown(self) -> None:
        """uvicorn stops: close when the present answer is complete."""
        self._close_after = True
        if self._call is None:
            self._linger()

    def drain_deadline(self) -> None:
        """End the present answer now."""
        if self._call is not None:
            self._call.timer(Timer.DRAIN)

    def streaming(self) -> bool:
        """Whether the present answer is a stream."""
        call = self._call
        return isinstance(call, Call) and call.streams

    def check(self, now: float) -> None:
        """Act on overdue timers."""
        patience, call = self._patience, self._call
        match patience.overdue(now, self._transport.get_write_buffer_size() if patience.watches_output else 0):
            case Overdue.READ if call is not None:
                call.timer(Timer.CLIENT_STALLED)
            case Overdue.READ | Overdue.CLOSE:
                self._transport.abort()
            case Overdue.SEND if self._requests.in_head and call is None:
                self._refuse_connection(errors.BODY_TIMEOUT)
            case Overdue.SEND:
                self._linger()
            case _:
                if call is not None and now >= call.deadline:
                    call.due()

    # asyncio.Protocol: flow

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._write_paused = True
        self._patience.expect_reading(self._loop.time(), self._transport.get_write_buffer_size())
        if self._call is not None:
            self._call.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._write_paused = False
        if self._closing:
            return
        self._patience.has_read()
        if self._call is not None:
            self._call.resume()
        elif self._answered:
            self._advance()

    def data_received(self, data: bytes) -> None:
        """Parse; the callbacks below start what can be started."""
        if self._closing:
            return
        requests, active = self._requests, self._active
        if active is None:
            # By far the most: one read, one request, like the one before. None of the callbacks has to be asked.
            incoming = requests.recognised(data)
            if incoming is not None:
                self._start(incoming)
                return
        had_begun = requests.in_head
        requests.feed(data)
        active = self._active
        if requests.error is not None:
            self._on_bad(requests.error, active)
        elif active is None:
            if requests.in_head and not had_begun:
                # Counted from its first byte: a head that comes in drops gets no more time.
                by = self._loop.time() + HEAD_SECONDS
                self._patience.send_by = min(by, self._patience.send_by) if self._control_only else by
        elif not active.complete and self._call is None and not self._answered:
            self._start(active)

    def _on_bad(self, error: ApiError, active: Incoming | None) -> None:
        """What came is no HTTP. A request that is complete is answered first; one that this broke is not."""
        if active is not None and active.complete:
            return
        if self._call is not None:
            self._call.client_gone()
            self._call = None
        if active is not None and self._replied:
            self._linger()
        else:
            self._refuse_connection(error)

    def eof_received(self) -> bool:
        """The client closed its side: it is gone."""
        return False


def protocol_class(engine: Engine) -> type[asyncio.Protocol]:
    """What to give to ``uvicorn.Config(http=...)``, which calls it with keywords for every connection."""
    return cast("type[asyncio.Protocol]", partial(ClientConnection, engine))
