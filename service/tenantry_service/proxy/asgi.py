"""Control routes: one small request given to the ASGI application, its answer gathered and written in one piece."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from tenantry_service import errors
from tenantry_service.proxy.messages import ClientHead, RequestHead, Timer
from tenantry_service.proxy.patience import NEVER

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPScope

#: Control routes take no bodies worth the name.
MAX_BODY_BYTES = 64 * 1024
#: No control route waits for anything outside; one that takes longer than this hangs.
ANSWER_SECONDS = 10.0

log = logging.getLogger(__name__)


class ClientSide(Protocol):
    """What a control call needs from its client's connection."""

    def send_continue(self) -> None:
        """Write 100 Continue."""

    def send(self, head: ClientHead | None, data: bytes, *, last: bool) -> None:
        """Put part of the answer into the output."""

    def call_ended(self) -> None:
        """Nothing more will come of this call; write the output."""

    def abort(self) -> None:
        """Cut the connection."""


class ControlCall:
    """One request of a control route. It takes a task; these are probes and scrapes."""

    def __init__(
        self, app: "ASGI3Application", client: ClientSide, loop: asyncio.AbstractEventLoop, body_seconds: float
    ) -> None:
        """``body_seconds``: how long the client may take to send its body."""
        self._app = app
        self._client = client
        self._loop = loop
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._head: RequestHead
        self._status = 500
        self._lines = b""
        self._answer: list[bytes] = []
        #: When the body must have arrived (loop time).
        self.deadline = loop.time() + body_seconds

    def request(self, head: RequestHead, body: Sequence[bytes], *, complete: bool) -> None:
        """The head has arrived, and what came of the body with it."""
        self._head = head
        if head.expects_continue and not complete:
            self._client.send_continue()
        for data in body:
            self.body(data)
        if complete:
            self.body_end()

    def body(self, data: bytes) -> None:
        """Part of the body has arrived; more than the bound is not kept."""
        if len(self._body) < MAX_BODY_BYTES:
            self._body += data

    def body_end(self) -> None:
        """The request is complete."""
        self.deadline = NEVER
        self._task = self._loop.create_task(self._run())

    def client_gone(self) -> None:
        """The client closed."""
        # What the task ends with holds this call, so it must not be held here.
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def timer(self, timer: Timer) -> None:
        """A client that reads nothing is cut off; all other timers end by themselves."""
        if timer is Timer.CLIENT_STALLED:
            self.client_gone()
            self._client.abort()

    def due(self) -> None:
        """The body did not arrive in time."""
        self.deadline = NEVER
        body = errors.BODY_TIMEOUT.body()
        head = ClientHead(errors.BODY_TIMEOUT.status, b"content-type: application/json\r\n", len(body))
        self._client.send(head, body, last=True)
        self._client.call_ended()

    def pause(self) -> None:
        """The answer is in one piece."""

    def resume(self) -> None:
        """The answer is in one piece."""

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._app(self._scope(), self._receive, self._send)
        except Exception:
            log.exception("internal error in a control route")
            self._status, self._lines = 500, b"content-type: application/json\r\n"
            self._answer = [errors.INTERNAL.body()]
        answer = b"".join(self._answer)
        self._client.send(ClientHead(self._status, self._lines, len(answer)), answer, last=True)
        self._client.call_ended()

    def _scope(self) -> "HTTPScope":
        head = self._head
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": "http",
            "path": head.path.decode("latin-1"),
            "raw_path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": None,
            "server": None,
            "state": {},
            "extensions": {},
        }
        return cast("HTTPScope", scope)

    async def _receive(self) -> "ASGIReceiveEvent":
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: "ASGISendEvent") -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._lines = b"".join(
                b"%b: %b\r\n" % (name, value)
                for name, value in message.get("headers", ())
                if name.lower() not in (b"content-length", b"transfer-encoding", b"connection")
            )
        elif message["type"] == "http.response.body":
            self._answer.append(message.get("body", b""))
