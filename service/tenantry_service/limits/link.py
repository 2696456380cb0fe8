"""The way to Redis: kept open as long as Redis answers in time, and opened again when it does.

A connection that leaves a command without an answer for ``TIMEOUT_SECONDS`` is cut: there is no use in asking a Redis
that is slower than that. The next one must prove itself (log in, load the scripts, answer in time) before anything is
asked of it; so this is the breaker, too. The file with the address is looked at as policies are, and a new one is taken
over without a gap: the connection under the old one serves until the new one stands.
"""

import asyncio
import contextlib
import logging
import os
import random
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

import hiredis

from tenantry_service.ledger.link import NO_CLUSTER, in_cluster
from tenantry_service.limits import address, calls
from tenantry_service.limits.address import Address, AddressError
from tenantry_service.limits.connection import Asker, Connection, Reply, awaited, pack

#: A healthy Redis answers within a millisecond; a fork for its AOF rewrite, or a disk that syncs, may take tens.
TIMEOUT_SECONDS = 0.25
#: A host that does not answer at all.
CONNECT_SECONDS = 2.0
#: Between attempts to connect: doubled each time, and up to half of it taken off, so that replicas do not come at once.
FIRST_BACKOFF_SECONDS = 0.05
MOST_BACKOFF_SECONDS = 2.0
#: How often the file is looked at.
POLL_SECONDS = 0.25
#: A second look at what seems overdue: perhaps it was we who did not run.
_SECOND_LOOK_SECONDS = 0.05

#: By its shape, if not by its bases.
_PROTOCOL = cast("Callable[[], asyncio.Protocol]", Connection)

log = logging.getLogger(__name__)


class LinkError(Exception):
    """No connection could be made; the message says why."""


class User(Protocol):
    """Who the link is for."""

    def link_up(self, now_ms: int, *, again: bool) -> None:
        """Redis answers (its time in Unix ms). ``again``: it had been lost before."""

    def link_down(self, reason: str) -> None:
        """Redis does not answer. What was under way has been told so before."""


class Link:
    """See the module."""

    def __init__(self, file: Path, user: User) -> None:
        self._file = file
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._lost_before = False
        self._watch: asyncio.TimerHandle | None = None
        #: There has been a connection.
        self.stood = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether anything may be sent."""
        return self._connection is not None and not self._connection.closed.done()

    @property
    def busy(self) -> bool:
        """Whether answers are awaited."""
        return self._connection is not None and self._connection.oldest is not None

    async def idle(self) -> None:
        """Return when no answer is awaited, or after a while; never at once, so that who watches the connection hears
        that it was lost."""
        await asyncio.sleep(0)
        idle = asyncio.Event()
        if self._connection is not None:
            self._connection.when_idle(idle.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await idle.wait()

    def send(self, data: bytes, askers: tuple[Asker, ...]) -> None:
        """Write commands. Only while it is up."""
        assert self._connection is not None
        self._connection.send(data, askers)
        if self._watch is None:
            self._watch = self._loop.call_later(TIMEOUT_SECONDS, self._check, None)

    def fail(self, reason: str) -> None:
        """Redis answers, but not as it should: begin anew."""
        if self._connection is not None:
            self._connection.drop(reason)

    def _check(self, suspected: float | None) -> None:
        """Cut the connection if a command waits for too long. Seen twice, for the answer may be there and unread."""
        self._watch = None
        connection = self._connection
        oldest = None if connection is None else connection.oldest
        if connection is None or oldest is None:
            return
        due = oldest + TIMEOUT_SECONDS
        now = self._loop.time()
        if now < due:
            self._watch = self._loop.call_at(due, self._check, None)
        elif suspected == oldest:
            connection.drop(f"Redis did not answer within {TIMEOUT_SECONDS * 1000:.0f} ms")
        else:
            self._watch = self._loop.call_later(_SECOND_LOOK_SECONDS, self._check, oldest)

    async def run(self) -> None:
        """Keep it open for ever."""
        backoff = FIRST_BACKOFF_SECONDS
        tried = False
        try:
            while True:
                seen = _identity(self._file)
                try:
                    connection, now_ms = await self._connect()
                except LinkError as error:
                    if not tried:
                        self._user.link_down(str(error))
                    tried = True
                    log.warning("Redis cannot be used", extra={"reason": str(error)})
                    backoff = await self._back_off(backoff)
                    continue
                self._take(connection, now_ms)
                tried = True
                since = self._loop.time()
                await self._until_changed_or_lost(connection, seen)
                if self._connection is not None or self._loop.time() - since > MOST_BACKOFF_SECONDS:
                    backoff = FIRST_BACKOFF_SECONDS
                else:
                    # It can be reached and yet not used: a replica that takes no writes, for one.
                    backoff = await self._back_off(backoff)
        finally:
            if self._connection is not None:
                self._connection.drop("this process ends")

    async def _back_off(self, seconds: float) -> float:
        """Wait; returns how long to wait next time."""
        await asyncio.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311 - no secret
        return min(MOST_BACKOFF_SECONDS, seconds * 2)

    def _take(self, connection: Connection, now_ms: int) -> None:
        before, self._connection = self._connection, connection
        if before is not None:
            # What was asked through it is answered through it.
            asyncio.ensure_future(_finished(before))  # noqa: RUF006 - bounded by the connection's own timeout
        else:
            log.info("Redis answers", extra={"again": self._lost_before})
            self._user.link_up(now_ms, again=self._lost_before)
        self.stood.set()

    async def _until_changed_or_lost(self, connection: Connection, seen: object) -> None:
        while not connection.closed.done():
            await asyncio.wait((connection.closed,), timeout=POLL_SECONDS)
            if _identity(self._file) != seen:
                log.info("the address of Redis has changed")
                return
        self._connection = None
        self._lost_before = True
        reason = connection.closed.result()
        log.warning("Redis is lost", extra={"reason": reason})
        self._user.link_down(reason)

    async def _connect(self) -> tuple[Connection, int]:
        """A connection that has proved itself, and the server's time (Unix ms)."""
        try:
            where = address.parse(self._file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise LinkError(f"{self._file} cannot be read ({error}); mount the address of Redis there") from error
        except AddressError as error:
            raise LinkError(f"{self._file}: {error}") from error
        connection = await _dial(where)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return connection, await _prove(connection, where)
        except BaseException as error:
            connection.drop("it did not prove itself")
            if isinstance(error, TimeoutError | ConnectionError):
                raise LinkError(f"Redis at {where.host}:{where.port} did not answer in time") from error
            raise


async def _dial(where: Address) -> Connection:
    loop = asyncio.get_running_loop()
    try:
        tls = ssl.create_default_context(cafile=where.ca_file or None) if where.tls else None
        async with asyncio.timeout(CONNECT_SECONDS):
            # The name is looked up each time: after a fail-over it points elsewhere.
            _, connection = await loop.create_connection(_PROTOCOL, where.host, where.port, ssl=tls)
    except (OSError, TimeoutError) as error:
        raise LinkError(f"Redis at {where.host}:{where.port} cannot be reached ({error})") from error
    return cast("Connection", connection)


async def _prove(connection: Connection, where: Address) -> int:
    """Log in, load the scripts, and let it say the time within the time that it will have."""
    greeting = []
    if where.password:
        user = (where.user.encode(),) if where.user else ()
        greeting.append((b"AUTH", *user, where.password.encode()))
    if where.database:
        greeting.append((b"SELECT", b"%d" % where.database))
    greeting += [(b"HELLO",), *((b"SCRIPT", b"LOAD", script.text) for script in calls.SCRIPTS)]
    for said in await _ask(connection, greeting):
        if isinstance(said, hiredis.HiredisError):
            raise LinkError(f"Redis at {where.host}:{where.port} refuses: {said}")
        if in_cluster(said):
            raise LinkError(f"Redis at {where.host}:{where.port} {NO_CLUSTER}")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        (time,) = await _ask(connection, [(b"TIME",)])
    match time:
        case [bytes() as seconds, bytes() as microseconds]:
            return int(seconds) * 1000 + int(microseconds) // 1000
        case _:
            raise LinkError(f"Redis at {where.host}:{where.port} does not say the time: {time!r}")


async def _ask(connection: Connection, commands: Sequence[tuple[bytes, ...]]) -> list[Reply]:
    asked = [awaited() for _ in commands]
    connection.send(b"".join(pack(*parts) for parts in commands), tuple(asker for asker, _ in asked))
    return [await future for _, future in asked]


async def _finished(connection: Connection) -> None:
    """Close a connection when it has nothing more to answer, and cut it when that takes too long."""
    idle = asyncio.Event()
    connection.when_idle(idle.set)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await idle.wait()
    connection.drop("its address has changed")


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
