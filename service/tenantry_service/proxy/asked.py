"""What one request asks for: its route, its caller, its model, what that may cost, and the request that goes upstream.

Found out step by step as the request arrives; knows neither sockets nor where its exchange stands. Pure.
"""

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import body as bodies
from tenantry_service.proxy import headers, models, routes
from tenantry_service.proxy.body import Chat, Estimate
from tenantry_service.proxy.messages import RequestHead
from tenantry_service.proxy.routes import Plan, Route
from tenantry_service.proxy.snapshot import OTHER_MODEL, Caller, Endpoint, Snapshot, Target

_CHAT = Plan.CHAT


class Asked:
    """One request, as far as it is known. ``route``, ``caller`` and ``target`` are None until they are found."""

    __slots__ = (
        "_body",
        "_chat",
        "_head",
        "_max_body_bytes",
        "_parameter",
        "_size",
        "caller",
        "endpoint",
        "estimate",
        "own_answer",
        "route",
        "target",
    )

    def __init__(self) -> None:
        self.route: Route | None = None
        self.caller: Caller | None = None
        self.target: Target | None = None
        #: Where it goes; None if it is answered here, by ``own_answer``.
        self.endpoint: Endpoint | None = None
        self.own_answer = b""
        #: What to reserve before; None if it costs nothing.
        self.estimate: Estimate | None = None
        self._head: RequestHead
        self._parameter = ""
        self._chat: Chat | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._max_body_bytes = 0

    @property
    def operation(self) -> str:
        """The metric label of the route."""
        return routes.OTHER_OPERATION if self.route is None else self.route.operation

    @property
    def model_label(self) -> str:
        """The metric label of the model."""
        return OTHER_MODEL if self.target is None else self.target.label

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asked for the usage chunk of a stream."""
        return self._chat is not None and self._chat.wants_usage

    def read_head(self, head: RequestHead, snapshot: Snapshot, now: float, *, ledger_full: bool) -> ApiError | None:
        """Route, key, size: everything that can refuse a request before its body. ``now`` in Unix seconds."""
        self._head = head
        found = routes.match(head.method, head.path)
        if isinstance(found, ApiError):
            return found
        self.route, self._parameter = found
        caller = head.bearer.caller(snapshot, now)
        if isinstance(caller, ApiError):
            return caller
        self.caller = caller
        limit = self._max_body_bytes = caller.view.policy.max_body_bytes
        if head.content_length is not None and head.content_length > limit:
            return errors.body_too_large(limit)
        return errors.LEDGER_FULL if ledger_full and self.route.metered else None

    def read_body(self, data: bytes) -> ApiError | None:
        """More of the body."""
        self._size += len(data)
        if self._size > self._max_body_bytes:
            self.forget_body()
            return errors.body_too_large(self._max_body_bytes)
        self._body.append(data)
        return None

    def forget_body(self) -> None:
        """Nobody needs it any more."""
        self._body = []

    def understand(self) -> ApiError | None:
        """The request is complete: find out where it goes and what it may cost, or why it goes nowhere."""
        assert self.route is not None
        assert self.caller is not None
        view = self.caller.view
        plan = self.route.plan
        if plan is _CHAT:
            body = b"".join(self._body)
            chat = bodies.inspect_chat(body)
            if isinstance(chat, ApiError):
                return chat
            target = view.find(chat.model)
            if isinstance(target, ApiError):
                return target
            outgoing = bodies.upstream_body(chat, body, target)
            if isinstance(outgoing, ApiError):
                return outgoing
            self.estimate = bodies.estimate(chat, body, target, view.policy.limits)
            self._body, self._chat = [outgoing], chat
            self.target, self.endpoint = target, target.endpoint
        elif plan is Plan.MODEL_LIST:
            self.endpoint = view.primary
        else:
            target = view.find(self._parameter)
            if isinstance(target, ApiError):
                return target
            self.target = target
            if target.served == target.requested:
                self.endpoint = target.endpoint
            else:
                # Nobody but us knows an alias.
                self.own_answer = models.model_object(target.requested)
        return None

    def upstream_request(self, endpoint: Endpoint) -> bytes:
        """What goes upstream, once."""
        body, self._body = self._body, []
        return headers.upstream_request(self._head, endpoint, body[0] if self._chat is not None else b"")
