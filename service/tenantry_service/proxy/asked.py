"""What one request asks for: its route, its caller, its model, what that may cost, and the request that goes upstream.

Found out step by step as the request arrives; knows neither sockets nor where its exchange stands. Pure.
"""

from typing import Final

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.limits.decisions import Demand
from tenantry_service.proxy import body as bodies
from tenantry_service.proxy import headers, inspection, models, routes
from tenantry_service.proxy.body import Estimate
from tenantry_service.proxy.inspection import RULES
from tenantry_service.proxy.messages import RequestHead
from tenantry_service.proxy.models import ModelLists
from tenantry_service.proxy.routes import FORMS, INSPECTED, Plan, Route
from tenantry_service.proxy.snapshot import OTHER_MODEL, Caller, Endpoint, Snapshot, Target, TenantView
from tenantry_service.proxy.upload import Upload
from tenantry_service.proxy.usage import given

_CHAT: Final = Plan.CHAT


class Asked:
    """One request, as far as it is known. ``route``, ``caller`` and ``target`` are None until they are found."""

    __slots__ = (
        "_body",
        "_lasts",
        "_max_body_bytes",
        "_parameter",
        "_pieces",
        "_size",
        "_understood",
        "_wants_usage",
        "caller",
        "endpoint",
        "estimate",
        "head",
        "lists",
        "own_answer",
        "plan",
        "route",
        "target",
        "trace_line",
        "upload",
    )

    def __init__(self) -> None:
        self.route: Route | None = None
        #: How it is treated: as its route says, but for what its head says otherwise.
        self.plan = _CHAT
        self.caller: Caller | None = None
        self.target: Target | None = None
        #: Where it goes; None if it is answered here, by ``own_answer``.
        self.endpoint: Endpoint | None = None
        self.own_answer = b""
        #: The lists of models that upstreams are asked for, if it is them that the caller wants.
        self.lists: ModelLists | None = None
        #: What to reserve before; None if it costs nothing.
        self.estimate: Estimate | None = None
        #: The ``traceparent`` line that the upstream gets instead of the caller's, if the request is traced.
        self.trace_line = b""
        #: Its body, if that passes through instead of being held.
        self.upload: Upload | None = None
        self.head: RequestHead
        self._parameter = ""
        #: It has been understood, and asks for the usage of a stream.
        self._understood = False
        self._wants_usage = False
        #: Something stays at the upstream that a repetition would make twice.
        self._lasts = False
        #: What is held: the body as it came, if in one piece (later: as it goes), or what has come of it.
        self._body = b""
        self._pieces: bytearray | None = None
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
        return self._wants_usage

    @property
    def expects_continue(self) -> bool:
        """Whether the caller waits to be asked for the body."""
        return self.head.expects_continue

    @property
    def idempotent(self) -> bool:
        """Whether a repetition changes nothing (RFC 9110 9.2.2)."""
        return self.head.method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")

    @property
    def repeatable(self) -> bool:
        """Whether it may be asked again after an answer that says that it failed, or where nobody seems to have got it:
        what generates leaves nothing, unless it goes on in the background or adds to a conversation."""
        # The first is nearly every request, and asking a set for a member of an enum takes long.
        return self.plan is _CHAT or (
            not self._lasts and (self.plan in INSPECTED or self.plan in FORMS or self.idempotent)
        )

    @property
    def outgoing(self) -> bytes:
        """The body that goes upstream, of a request that is understood."""
        return self._body

    @property
    def read_timeout(self) -> float | None:
        """Seconds that the caller waits."""
        return headers.read_timeout(self.head)

    def read_head(self, head: RequestHead, snapshot: Snapshot, now: float, *, ledger_full: bool) -> ApiError | None:
        """Route, key, size: everything that can refuse a request before its body. ``now`` in Unix seconds."""
        self.head = head
        found = routes.match(head.method, head.path)
        if isinstance(found, ApiError):
            return found
        self.route, self._parameter = found.route, found.parameter
        caller = head.bearer.caller(snapshot, now)
        if isinstance(caller, ApiError):
            return caller
        self.caller = caller
        self.plan = self.route.plan
        limit = self._max_body_bytes = caller.view.max_body_bytes
        if self.plan is not _CHAT:
            refused = self._read_special(head, caller.view)
            if refused is not None:
                return refused
            limit = self._max_body_bytes
        elif not caller.view.every_route and not caller.view.allows_route(self.route.template, known=True):
            return errors.route_not_found(head.method, self.route.template)
        if head.content_length is not None and head.content_length > limit:
            return errors.body_too_large(limit)
        return errors.LEDGER_FULL if ledger_full and self.route.metered else None

    def _read_special(self, head: RequestHead, view: TenantView) -> ApiError | None:
        """What the head says of a request that is no chat."""
        path = head.path.decode("ascii", "replace")
        if not view.allows_route(path, known=self.plan is not Plan.OTHER):
            return errors.route_not_found(head.method, path)
        if self.plan is Plan.IMAGE_FORM and headers.media_type(head) == b"application/json":
            self.plan = Plan.IMAGES
        if self.plan not in INSPECTED:
            self._max_body_bytes = view.policy.max_upload_bytes
            self.upload = Upload(self.plan, head, view)
        return None

    def read_body(self, data: bytes) -> ApiError | None:
        """More of the body."""
        self._size += len(data)
        if self._size > self._max_body_bytes:
            self.forget_body()
            return errors.body_too_large(self._max_body_bytes)
        if self._pieces is not None:
            self._pieces += data
        elif self._body:
            # Kept as one: thousands of small pieces cost many times their size.
            self._pieces = bytearray(self._body)
            self._pieces += data
        else:
            self._body = data
        return None

    def forget_body(self) -> None:
        """Nobody needs it any more."""
        self._body, self._pieces = b"", None
        if self.upload is not None:
            self.upload.forget()

    def understand(self) -> ApiError | None:
        """The request is complete: find out where it goes and what it may cost, or why it goes nowhere."""
        assert self.caller is not None
        view = self.caller.view
        if self._pieces is not None:
            self._body, self._pieces = bytes(self._pieces), None
        if self.plan is _CHAT and view.plain:
            body = self._body
            chat = bodies.inspect_chat(body)
            if isinstance(chat, ApiError):
                return chat
            target = view.find(chat.model)
            if isinstance(target, ApiError):
                return target
            outgoing = bodies.upstream_body(chat, body, target)
            if isinstance(outgoing, ApiError):
                return outgoing
            self.estimate = bodies.estimate(chat, body, target, view.limits)
            self._body, self._understood = outgoing, True
            self._wants_usage = bool(chat.stream) and chat.wants_usage
            self.target, self.endpoint = target, target.endpoint
            return None
        if self.plan is Plan.MODEL_LIST:
            self.lists = ModelLists(view)
            self.endpoint = self.lists.next()
            return None
        return self._understand_model(view) if self.plan is Plan.MODEL else self._understand_json(view)

    def _understand_model(self, view: TenantView) -> ApiError | None:
        target = view.find(self._parameter)
        if isinstance(target, ApiError):
            return target
        self.target = target
        assert self.route is not None
        if self.route.metered:
            self.estimate = Estimate(Demand(0, 0), 0, 0)
        if target.served == target.requested:
            self.endpoint = target.endpoint
        elif self.head.method == "GET":
            # Nobody but us knows an alias.
            self.own_answer = models.model_object(target.requested)
        else:
            return errors.method_not_allowed(self.head.method, self.route.template, "GET")
        return None

    def _understand_json(self, view: TenantView) -> ApiError | None:
        body, plan, policy = self._body, self.plan, view.policy
        ask = inspection.inspect(body)
        if isinstance(ask, ApiError):
            return ask
        rules, forced = RULES[plan], policy.models.max_output_tokens
        name = ask.named or (policy.models.default or "" if rules.has_default else "")
        if not name and (rules.needs_model or not view.allows_all):
            return inspection.missing_model()
        target = view.find(name) if name else view.no_model
        if isinstance(target, ApiError):
            return target
        undeclared = inspection.undeclared(plan, ask, policy.limits, forced)
        if undeclared is not None:
            return undeclared
        outgoing = inspection.upstream_body(plan, ask, body, target.served, forced)
        if isinstance(outgoing, ApiError):
            return outgoing
        self.estimate = inspection.estimate(plan, ask, body, target, policy.limits, forced)
        self._body, self._understood, self._wants_usage = outgoing, True, ask.wants_usage
        self._lasts = plan is Plan.RESPONSES and (bool(ask.background) or given(ask.conversation))
        self.target, self.endpoint = target, target.endpoint
        return None

    def understand_upload(self) -> None:
        """It is known where the body that passes through goes."""
        assert self.upload is not None
        target = self.target = self.upload.target
        self.endpoint = target.endpoint
        self.estimate = self.upload.estimate(self.head.content_length)

    def upstream_request(self, endpoint: Endpoint) -> bytes:
        """What goes upstream. A body that passes through follows, unless it is all there."""
        request = self._upstream_request(endpoint)
        return headers.traced(request, self.trace_line) if self.trace_line else request

    def _upstream_request(self, endpoint: Endpoint) -> bytes:
        upload = self.upload
        if upload is not None:
            length = self.head.content_length
            whole = upload.take_whole()
            if whole is not None:
                return headers.upstream_request(self.head, endpoint, whole)
            return headers.upstream_head(self.head, endpoint, None if length is None else length + upload.delta)
        return headers.upstream_request(self.head, endpoint, self._body if self._understood else b"")
