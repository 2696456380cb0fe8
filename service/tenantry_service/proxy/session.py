"""One WebSocket connection to the realtime or the responses API, from its handshake to its last settled turn. Pure.

A turn is one answer of the model. Each is covered by a reservation that is made before it: the first with the
handshake, the next as soon as one is settled; when the limits give none, the connection ends with an error that says
why. So a connection holds a slot as long as it lives, and what it uses is never further from the limits than one turn.

    NEW -> RESERVING -> DIALLING -> OPEN -> DONE
"""

import enum
import math

from tenantry_service import errors
from tenantry_service.errors import ApiError, ErrorType
from tenantry_service.limits.decisions import Reservation
from tenantry_service.limits.limiter import Decision, Unknown
from tenantry_service.proxy import capping, frames, handshake, inspection, session_events, usage
from tenantry_service.proxy.ending import limit_error
from tenantry_service.proxy.frames import CloseCode, FrameReader, Message
from tenantry_service.proxy.messages import (
    CLOSE_UPSTREAM,
    Command,
    Commands,
    OpenUpstream,
    Refuse,
    RequestHead,
    ToClient,
    ToUpstream,
)
from tenantry_service.proxy.routes import SOCKETS, Plan
from tenantry_service.proxy.snapshot import Snapshot
from tenantry_service.proxy.turns import Turns

SWITCHING_PROTOCOLS = 101


class Stage(enum.Enum):
    """Where a session is."""

    NEW = "new"
    RESERVING = "reserving"
    DIALLING = "dialling"
    OPEN = "open"
    DONE = "done"


class Session(Turns):
    """See the module. ``key`` is four random bytes: what we write upstream must be masked (RFC 6455 5.3)."""

    def __init__(self, snapshot: Snapshot, request_id: str, key: bytes) -> None:
        super().__init__(request_id)
        self._snapshot = snapshot
        self._key = key
        #: What the key was last judged by, and why its connection is to end.
        self._judged_by = snapshot
        self._key_end = math.inf
        self._barred: ApiError | None = None
        self._head: RequestHead
        self._capping: capping.Capping
        self._from_client: FrameReader
        self._from_upstream = FrameReader(masked=False)
        self.stage = Stage.NEW
        self.status = errors.INTERNAL.status
        self.error_type = ErrorType.NONE

    # The handshake.

    def on_request(self, head: RequestHead, now: float, *, draining: bool, ledger_full: bool) -> Commands:
        """A client asks for a connection; ``now`` in Unix seconds."""
        self._head = head
        error = errors.DRAINING if draining else self._judge(head, now)
        if error is None and ledger_full:
            error = errors.LEDGER_FULL
        if error is not None:
            return self._refuse(error)
        self.stage = Stage.RESERVING
        return self._reserve()

    def _judge(self, head: RequestHead, now: float) -> ApiError | None:
        route = SOCKETS.get(head.path)
        if route is None:
            return errors.route_not_found(head.method, head.path.decode("ascii", "replace"))
        self.asked.route, self.asked.plan = route, route.plan
        error = handshake.problem(head)
        if error is not None:
            return error
        caller = self._snapshot.authenticate(handshake.authorization(head), now)
        if isinstance(caller, ApiError):
            return caller
        self.asked.caller, self._key_end = caller, caller.expires_at
        view = caller.view
        if not view.allows_route(route.template, known=True):
            return errors.route_not_found(head.method, route.template)
        self._capping = capping.Capping(view.policy, route.plan, transcribes=handshake.transcribes(head))
        # What is to be judged is held until it is complete.
        judged = route.plan is Plan.RESPONSES_SOCKET or self._capping.wanted
        held = view.policy.max_body_bytes if judged else 0
        self._from_client = FrameReader(masked=True, sees=bool(held), hold_bytes=held)
        if handshake.names_models(head) > 1:
            return errors.malformed("The query names more than one model.", param="model")
        name = handshake.model(head)
        if not name and route.plan is Plan.REALTIME and not view.allows_all:
            return inspection.missing_model()
        target = view.find(name) if name else view.no_model
        if isinstance(target, ApiError):
            return target
        self._take_target(target)
        return None

    def on_reserved(self, decision: Decision) -> Commands:
        """The limiter's answer, for the connection or for its next turn."""
        self._asking = False
        if isinstance(decision, Reservation):
            self._reservation = decision
            if self.stage is Stage.DONE:
                return self._settle(*self._over.popleft()) if self._over else self._settle(used=None)
            if self.stage is not Stage.RESERVING:
                return ()
            self.stage = Stage.DIALLING
            target, endpoint = self.asked.target, self.asked.endpoint
            assert target is not None
            assert endpoint is not None
            return (OpenUpstream(endpoint, handshake.upstream_request(self._head, endpoint, target.served)),)
        error = errors.LIMITS_UNKNOWN if isinstance(decision, Unknown) else limit_error(decision)
        if self.stage is Stage.RESERVING:
            return self._refuse(error)
        return self._close(error, CloseCode.POLICY)

    def on_accepted(self, answer: bytes) -> Commands:
        """The upstream has switched protocols; ``answer`` is what the client hears of it."""
        if self.stage is not Stage.DIALLING:
            return ()
        self.stage = Stage.OPEN
        self.status = SWITCHING_PROTOCOLS
        return (ToClient(answer),)

    def on_failed(self, error: ApiError) -> Commands:
        """The upstream could not be reached, refused, or has gone; or time is up."""
        match self.stage:
            case Stage.RESERVING | Stage.DIALLING:
                return (*self._settle(used=None), CLOSE_UPSTREAM, *self._refuse(error))
            case Stage.OPEN:
                return self._close(error, CloseCode.GOING_AWAY)
            case _:
                return ()

    # What passes.

    def on_client(self, data: bytes) -> Commands:
        """Bytes of the client."""
        if self.stage is not Stage.OPEN:
            return ()
        reader = self._from_client
        reader.feed(data)
        passed, messages = reader.take()
        out: list[Command] = [ToUpstream(b"".join(passed))] if passed else []
        for message in messages:
            out += self._on_client_message(message)
        if reader.error is not None:
            out += self._close(errors.malformed("The WebSocket frame is invalid or too large."), reader.error)
        return out

    def _on_client_message(self, message: Message) -> Commands:
        assert self.asked.caller is not None
        event = session_events.read(message.payload)
        if event is None:
            # What we cannot read, nobody has judged.
            return self._tell(errors.malformed("The event is no JSON object."))
        if (undeclared := self._capping.problem(message.payload)) is not None:
            return self._tell(undeclared)
        if event.type != capping.CREATE or self.asked.plan is Plan.REALTIME:
            return (ToUpstream(message.raw),)
        view = self.asked.caller.view
        name = event.model or view.policy.models.default or ""
        if not name and not view.allows_all:
            return self._tell(inspection.missing_model())
        target = view.find(name) if name else view.no_model
        if isinstance(target, ApiError):
            return self._tell(target)
        if self.asked.endpoint is not target.endpoint:
            return self._tell(errors.malformed("This model needs a connection of its own.", param="model"))
        self._take_target(target)
        self._answering = True
        most = self._capping.bound(message.payload)
        if most is None and target.served == (event.model or "") and message.payload.count(b'"model"') <= 1:
            return (ToUpstream(message.raw),)
        payload = session_events.rewritten(message.payload, target.served, most)
        return (ToUpstream(frames.text(payload, self._key)),)

    def on_upstream(self, data: bytes) -> Commands:
        """Bytes of the upstream."""
        if self.stage is not Stage.OPEN:
            return ()
        reader = self._from_upstream
        reader.feed(data)
        _, messages = reader.take()
        if reader.error is not None:
            return self._close(errors.UPSTREAM_INTERRUPTED, CloseCode.INTERNAL)
        for message in messages:
            self._on_upstream_message(message)
        return (ToClient(data),)

    def _on_upstream_message(self, message: Message) -> None:
        kind, raw = session_events.usage_of(message)
        if kind in session_events.BEGINS:
            self._answering = True
        if kind not in session_events.SETTLES:
            return
        self._answering = False
        used = None if raw is None else usage.parse(raw)
        if used is not None and raw is not None:
            self._over.append((used, raw))

    def on_tick(self, snapshot: Snapshot, now: float) -> Commands:
        """Some time has passed; ``now`` in Unix seconds. A key that has been revoked or has come to its end ends the
        connection that it opened, as soon as no turn is under way."""
        if self.stage is not Stage.OPEN or (snapshot is self._judged_by and now < self._key_end):
            return ()
        caller = snapshot.authenticate(handshake.authorization(self._head), now)
        self._judged_by = snapshot
        self._barred = caller if isinstance(caller, ApiError) else None
        self._key_end = math.inf if isinstance(caller, ApiError) else caller.expires_at
        return self.on_carried_out()

    def on_carried_out(self) -> Commands:
        """All that was commanded is done: settle the turn that is over, or ask for the next. To be repeated as long as
        it commands anything. (Each turn has an id of its own, which must not change before its settlement is done.)"""
        if self.stage is not Stage.OPEN or self._asking:
            return ()
        if self._barred is not None and not self._answering and not self._over:
            return self._close(self._barred, CloseCode.POLICY)
        if self._reservation is None:
            # The next turn is paid for before it can begin.
            return self._reserve()
        return self._settle(*self._over.popleft()) if self._over else ()

    # Ends.

    def on_client_gone(self) -> Commands:
        """The client has closed."""
        if self.stage is Stage.DONE:
            return ()
        if self.stage is not Stage.OPEN or self._answering:
            self.error_type = ErrorType.CALLER_CANCELLED
        return self._end(CLOSE_UPSTREAM)

    def on_upstream_gone(self) -> Commands:
        """The upstream has closed."""
        if self.stage is not Stage.OPEN:
            return self.on_failed(errors.UPSTREAM_INVALID)
        if self._from_upstream.closed or self._from_client.closed:
            return self._end(ToClient(b"", last=True))
        return self._close(errors.UPSTREAM_INTERRUPTED, CloseCode.INTERNAL)

    def _end(self, *commands: Command) -> Commands:
        self.stage = Stage.DONE
        return (*commands, *self._settle(used=None))

    def _refuse(self, error: ApiError) -> Commands:
        self.stage = Stage.DONE
        self.status, self.error_type = error.status, error.error_type
        return (Refuse(error),)

    def _tell(self, error: ApiError) -> Commands:
        """An error event, between two frames of the upstream."""
        if not self._from_upstream.between_frames:
            return self._close(error, CloseCode.POLICY)
        return (ToClient(frames.text(session_events.error_event(error))),)

    def _close(self, error: ApiError, code: CloseCode) -> Commands:
        """End the connection from our side: an error event and a close frame, unless half a frame is on its way."""
        self.error_type = error.error_type
        said = b""
        if self._from_upstream.between_frames:
            said = frames.text(session_events.error_event(error)) + frames.close(code, error.code or "")
        return self._end(ToClient(said, last=True), CLOSE_UPSTREAM)
