"""The helper process: started when needed, spoken to in lines of JSON, started anew when it dies or hangs.

Rendering is pure, so a request whose helper died is simply sent to the next one. A request that kills two helpers in
a row is refused, so that one bad chart cannot make the operator start processes for ever.
"""

import asyncio
import contextlib
import logging
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from tenantry_operator.render.renderer import ChartIdentity, RenderError

log = logging.getLogger(__name__)

#: The longest answer that is read. A tenant's objects are some 15 KiB.
MAX_ANSWER_BYTES = 16 << 20
#: Starting takes some 30 ms; loading a large chart on a busy node, more.
START_TIMEOUT_SECONDS = 15.0
STOP_TIMEOUT_SECONDS = 5.0
ATTEMPTS = 2


class Request(Struct, frozen=True, kw_only=True):
    """One line to the helper."""

    id: int
    release: str
    namespace: str
    values: Raw


class Answer(Struct, frozen=True, kw_only=True):
    """One line from the helper."""

    id: int
    objects: Raw = Raw(b"[]")
    error: str = ""


class HelperDiedError(RenderError):
    """The helper ended before it answered."""


class _Session:
    """One helper process from its first line to its end."""

    def __init__(self, process: Process, identity: ChartIdentity) -> None:
        self.identity = identity
        self._process = process
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._last_id = 0
        self._broken = False  # it has closed its input
        self._reader = asyncio.create_task(self._read(), name="render-helper")

    @classmethod
    async def start(cls, command: Sequence[str]) -> "_Session":
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=MAX_ANSWER_BYTES)
        except OSError as error:
            raise RenderError(f"cannot start the renderer {command[0]}: {error.strerror}") from error
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                first = await process.stdout.readline()
            return cls(process, msgspec.json.decode(first, type=ChartIdentity))
        except (TimeoutError, ValueError) as error:
            await _end(process)
            raise RenderError(f"the renderer {command[0]} did not start; its own message is in the log") from error
        except asyncio.CancelledError:
            await _end(process)
            raise

    @property
    def alive(self) -> bool:
        return not self._broken and not self._reader.done()

    async def ask(self, release: str, namespace: str, values: bytes) -> Answer:
        """Send one request and wait for its answer. Raises :class:`HelperDiedError`. Cancelling it is harmless."""
        if not self.alive:
            raise HelperDiedError("the renderer has ended")
        assert self._process.stdin is not None
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            request = Request(id=number, release=release, namespace=namespace, values=Raw(values))
            # One write for the whole line: a cancellation can fall before or after it, never inside.
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            await self._process.stdin.drain()
            return await answer
        except ConnectionError as error:
            # Known before its output has ended: the next request must not go to the same process again.
            self._broken = True
            if not answer.cancel():
                answer.exception()  # it has one by now, and nobody else will look at it
            raise HelperDiedError("the renderer does not read any more") from error
        finally:
            self._waiting.pop(number, None)

    async def close(self, *, grace: float = STOP_TIMEOUT_SECONDS) -> None:
        """End the process, after ``grace`` seconds by force. Whoever still waits gets :class:`HelperDiedError`."""
        await _end(self._process, grace=grace)
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                answer = msgspec.json.decode(line, type=Answer)
                waiting = self._waiting.get(answer.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except ValueError:
            log.exception("the renderer answered something else than a line of JSON")
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(HelperDiedError("the renderer ended before it answered"))


class Helper:
    """Keeps one helper process at hand. At most ``in_flight`` requests are in it; further ones wait their turn."""

    def __init__(self, command: Sequence[str], *, timeout: float = 10.0, in_flight: int = 32) -> None:
        self._command = tuple(command)
        self._timeout = timeout
        self._slots = asyncio.Semaphore(in_flight)
        self._starting = asyncio.Lock()
        self._session: _Session | None = None
        #: How many processes were started; more than one means that some have died.
        self.starts = 0

    async def start(self) -> ChartIdentity:
        """Start the process unless it runs; gives what it renders. Raises :class:`RenderError`."""
        return (await self._running()).identity

    async def render(self, release: str, namespace: str, values: bytes) -> tuple[ChartIdentity, bytes]:
        """A JSON array of objects for these values (JSON), and what rendered it. Raises :class:`RenderError`."""
        async with self._slots:
            for _ in range(ATTEMPTS):
                session = await self._running()
                try:
                    async with asyncio.timeout(self._timeout):
                        answer = await session.ask(release, namespace, values)
                except HelperDiedError:
                    log.warning("the renderer died; starting another", extra={"release": release})
                    continue
                except TimeoutError as error:
                    await session.close(grace=0)
                    raise RenderError(f"the renderer did not answer within {self._timeout:g} s") from error
                if answer.error:
                    raise RenderError(answer.error)
                return session.identity, bytes(answer.objects)
        raise RenderError(f"the renderer died {ATTEMPTS} times over this chart and these values")

    async def close(self) -> None:
        """End the process, if there is one."""
        async with self._starting:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def _running(self) -> _Session:
        async with self._starting:
            if self._session is None or not self._session.alive:
                if self._session is not None:
                    await self._session.close()
                self._session = await _Session.start(self._command)
                self.starts += 1
            return self._session


async def _end(process: Process, *, grace: float = STOP_TIMEOUT_SECONDS) -> None:
    """Let the process end by itself at the end of its input; kill it when it does not. Reaps it either way."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
