"""The connections of clients: one request each, which waits here until there is a pod, and is then passed through.

From then on bytes go both ways as they come, each side no faster than the other takes them. What a client sends before
that stays with it but for the first 16 KB: that bounds what is held.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from tenantry_service import errors
from tenantry_service.activator import request as requests
from tenantry_service.activator import telling
from tenantry_service.activator.pods import HIGH_WATER, Pipe, PodDoors
from tenantry_service.activator.request import Head
from tenantry_service.activator.sleepers import Sleepers
from tenantry_service.activator.waiting import FULL, TOO_LONG, Waiting
from tenantry_service.errors import ApiError
from tenantry_service.roster import Sleeper

log = logging.getLogger(__name__)

#: Seconds for a request's head to arrive, as in a tenant's pod.
HEAD_SECONDS = 15.0
#: Bytes of a body that are read before there is somebody to take them.
MAX_HELD = 16 * 1024
#: Seconds until a closed door is tried again: one that comes up opens any moment.
AGAIN = 0.05
#: Seconds of waiting after which a stream begins without a pod, and between two of its comments.
QUIET = 10.0
#: Connections of clients; each costs some 10 KB.
MAX_CONNECTIONS = 10_000

#: Answers to control routes: status and body.
Control = Callable[[bytes], tuple[int, bytes] | None]


class House:
    """What all connections share."""

    def __init__(self, sleepers: Sleepers, waiting: Waiting, *, patience: float, control: Control) -> None:
        self.sleepers, self.waiting, self.patience, self.control = sleepers, waiting, patience, control
        self.doors = PodDoors()
        self.open: set[Door] = set()
        self.refused: dict[str, int] = {}
        self.passed = 0
        self.empty = asyncio.Event()

    def refuse(self, error: ApiError) -> None:
        """Count a refusal."""
        self.refused[error.error_type.value] = self.refused.get(error.error_type.value, 0) + 1


class Door(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._transport: asyncio.Transport
        self._buffer = b""
        self._head: Head | None = None
        self._work: asyncio.Task[None] | None = None
        self._pod: Pipe | None = None
        self._told = False
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._house.open.add(self)
        self._house.empty.clear()
        if len(self._house.open) > MAX_CONNECTIONS:
            self._reply(errors.OVERLOADED)
        else:
            self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Part of the request, or of what follows it."""
        if self._pod is not None:
            self._pod.write(data)
            return
        self._buffer += data
        if self._head is None:
            self._read_head()
        if self._head is not None and len(self._buffer) > MAX_HELD:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """It closed its side: it is gone, as in a tenant's pod."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._house.open.discard(self)
        if not self._house.open:
            self._house.empty.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()
        if self._pod is not None:
            self._pod.close()

    def pause_writing(self) -> None:
        """It reads slowly."""
        if self._pod is not None:
            self._pod.pause()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._pod is not None:
            self._pod.resume()

    # From the pod.

    def send(self, data: bytes) -> None:
        """Part of the answer."""
        self._transport.write(data)

    def hold(self) -> None:
        """The pod takes the request slowly."""
        self._transport.pause_reading()

    def take(self) -> None:
        """It has caught up."""
        self._transport.resume_reading()

    def finish(self) -> None:
        """The answer is complete."""
        self._transport.close()

    def lost(self) -> None:
        """The pod went away before it said a word."""
        self._reply(errors.DRAINING)

    # One request.

    def _read_head(self) -> None:
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            if len(self._buffer) > requests.MAX_HEAD:
                self._reply(errors.HEAD_TOO_LARGE)
            return
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._head = requests.parse(head + blank)
        except requests.MalformedError as error:
            self._reply(errors.malformed(f"This is no request that is understood here: {error}."))
            return
        self._buffer = rest
        control = self._house.control(self._head.path)
        if control is not None:
            status, body = control
            self._answer(status, b"text/plain; version=0.0.4", body)
            return
        admitted = self._house.sleepers.admit(self._head.authorization, time.time())
        if isinstance(admitted, ApiError):
            self._reply(admitted)
        elif not self._head.path.startswith(b"/v1/"):
            self._reply(errors.route_not_found(self._head.method.decode(), self._head.path.decode("ascii", "replace")))
        else:
            self._work = asyncio.get_running_loop().create_task(self._serve(admitted, self._head))
            self._work.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("internal error", exc_info=error)
            self._reply(errors.INTERNAL)

    async def _serve(self, sleeper: Sleeper, head: Head) -> None:
        pod = await self._reach(sleeper) or await self._wait(sleeper.tenant)
        if pod is not None:
            self._house.passed += 1
            self._pod = pod
            buffered, self._buffer = self._buffer, b""
            pod.write(head.onward + buffered)
            self._transport.resume_reading()

    async def _wait(self, tenant: str) -> Pipe | None:
        loop, waiting, sleepers = asyncio.get_running_loop(), self._house.waiting, self._house.sleepers
        began = loop.time()
        if not waiting.enter(tenant, began):
            self._reply(FULL)
            return None
        pod: Pipe | None = None
        comment_at = began + QUIET
        try:
            while (now := loop.time()) < began + self._house.patience:
                news = sleepers.news(tenant)
                sleeper = sleepers.find(tenant)
                if sleeper is not None and (pod := await self._reach(sleeper)) is not None:
                    return pod
                if now >= comment_at:
                    comment_at = now + QUIET
                    self._comment()
                await _either(news, AGAIN if sleeper is not None and sleeper.addresses else comment_at - now)
            self._reply(TOO_LONG)
            return None
        finally:
            waiting.leave(tenant, began, loop.time(), served=pod is not None)

    async def _reach(self, sleeper: Sleeper) -> Pipe | None:
        return await self._house.doors.reach(sleeper.addresses, lambda: Pipe(self, told=self._told))

    def _comment(self) -> None:
        """Something for whoever counts seconds of silence, if this is a stream."""
        if not self._told:
            if not requests.wants_stream(self._buffer):
                return
            self._told = True
            self._transport.write(telling.HEAD)
        self._transport.write(telling.COMMENT)

    def _reply(self, error: ApiError) -> None:
        self._house.refuse(error)
        if self._told:
            self._transport.write(error.sse_event())
            self._transport.close()
            return
        lines = b"".join(b"%b: %b\r\n" % header for header in error.headers)
        self._answer(error.status, b"application/json", error.body(), lines)

    def _answer(self, status: int, media_type: bytes, body: bytes, lines: bytes = b"") -> None:
        self._transport.write(
            b"HTTP/1.1 %d \r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n%b"
            % (status, media_type, len(body), lines, body)
        )
        self._transport.close()


async def _either(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await news.wait()
    except TimeoutError:
        return
