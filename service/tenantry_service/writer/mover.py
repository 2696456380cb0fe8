"""The moving itself: read a round, commit it, delete it; the next is read and decoded while the last is committed.

What may happen and what comes of it:

* Killed before the commit: nothing has happened. Killed between commit and deletion: the entries come again and are
  rows already. (Whether a commit whose answer was lost took place is the same question.)
* PostgreSQL gone: nothing is deleted, the streams grow, nobody else notices; after a pause everything is read again.
* Redis gone: the same. Redis back from an older file: entries come again, see above.
* An entry that is no event, or one that no row can hold: set aside in ``usage_dead_letters``, counted, logged, deleted
  from its stream; never in the way of others.
* A second writer: waits. Who writes holds an advisory lock in the very session that it writes with, so nobody writes
  who has lost it. (Two would only be slow: every statement bears repeating.)
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import asyncpg

from tenantry_service.ledger import codec, daily, postgres, schema
from tenantry_service.ledger.event import UsageEvent, created_ms
from tenantry_service.ledger.link import Link, RedisGone, RedisRefused
from tenantry_service.ledger.postgres import DeadLetter, Stored
from tenantry_service.ledger.schema import Connection
from tenantry_service.writer.figures import Figures
from tenantry_service.writer.streams import Entry, Streams, stream_of

#: Seconds between two looks at streams that were all empty.
IDLE_SECONDS = 0.1
#: Of the time, the share that looking at empty streams may take: 5,000 of them take some 10 ms.
BUSY_SHARE = 0.1
#: Seconds between attempts while PostgreSQL or Redis is gone, and between a second writer's looks at the lock.
RETRY_SECONDS = 1.0
#: Any number that nobody else uses in this database.
WRITER_LOCK = 0x6C65_6467_6572
#: Seconds for one statement; a batch takes a tenth of one.
STATEMENT_SECONDS = 30.0
CONNECT_SECONDS = 10.0
#: An event outside of this is somebody's wrong clock, or forged; it would make partitions of its own.
OLDEST_MS = 400 * 86_400_000
NEWEST_MS = 2 * 86_400_000
#: How much of a payload that is no event is kept.
DEAD_BYTES = 64 * 1024

log = logging.getLogger(__name__)

#: What PostgreSQL in trouble looks like: worth another attempt.
TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)


class Round(NamedTuple):
    """What was read at once: its entries, which of them are events to store, and which are to be set aside."""

    entries: Sequence[Entry]
    events: list[UsageEvent]
    dead: list[DeadLetter]


def sort(entries: Sequence[Entry], now_ms: int) -> Round:
    """Tell events from what is none. Pure.

    A tenant's pod may write into its own stream only, but it writes the event: one that names another tenant, or a time
    that cannot be, is set aside.
    """
    events: list[UsageEvent] = []
    dead: list[DeadLetter] = []
    for entry in entries:
        try:
            event = codec.decode(entry.payload)
        except codec.NoEvent as error:
            dead.append(_letter(entry, f"no event: {error}"))
            continue
        if event.tenant != entry.tenant:
            dead.append(_letter(entry, f"names another tenant: {event.tenant}"))
        elif not now_ms - OLDEST_MS < min(event.occurred_at_ms, created_ms(event.event_id, event.occurred_at_ms)):
            dead.append(_letter(entry, "is too old"))
        elif event.occurred_at_ms > now_ms + NEWEST_MS:
            dead.append(_letter(entry, "is from the future"))
        else:
            events.append(event)
    return Round(entries, events, dead)


def _letter(entry: Entry, reason: str) -> DeadLetter:
    return DeadLetter(stream_of(entry.tenant), entry.id.decode(), reason[:500], entry.payload[:DEAD_BYTES])


class Mover:
    """Moves until cancelled."""

    def __init__(
        self,
        streams: Streams,
        removal: Link,
        database: Callable[[], str],
        figures: Figures,
    ) -> None:
        """``removal`` is a link of its own, so that deleting does not wait for reading; ``database`` is asked for the
        PostgreSQL URL at every connection attempt."""
        self._streams = streams
        self._removal = Streams(removal)
        self._database = database
        self._figures = figures
        #: Hears which tenants got new rows.
        self.wrote: Callable[[set[str]], None] = lambda _: None
        self._months: set[tuple[int, int]] = set()
        #: The last round held what was there already, and so may the next: after a fail-over, or with a tenant that
        #: repeats itself.
        self._repeats = False

    async def run(self) -> None:
        """Be the writer whenever nobody else is, for ever."""
        while True:
            try:
                connection = await self.connect()
                try:
                    await self._take_turn(connection)
                finally:
                    connection.terminate()
            except RedisGone as error:
                self._trouble("redis", error)
            except (*TROUBLE, schema.SchemaError) as error:
                self._trouble("postgres", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def connect(self) -> Connection:
        """A session that can write: the schema is there."""
        connection: Connection = await asyncpg.connect(
            self._database(),
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings={"application_name": "tenantry-ledger"},
        )
        try:
            await schema.migrate(connection)
            await postgres.prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        self._figures.up("postgres", None)
        return connection

    def _trouble(self, store: str, error: Exception) -> None:
        self._figures.writing = False
        if self._figures.up(store, f"{type(error).__name__}: {error}"):
            log.error(
                "ledger: %s is in trouble, events wait in the streams", store, extra={"reason": self._figures.problem}
            )

    async def _take_turn(self, connection: Connection) -> None:
        """Wait for the lock, then move rounds until something fails."""
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", WRITER_LOCK):
            self._figures.writing = False
            await asyncio.sleep(RETRY_SECONDS)
        self._figures.writing = True
        log.info("ledger: writing")
        commit: asyncio.Task[None] | None = None
        beyond: dict[str, bytes] = {}
        try:
            while True:
                began = time.monotonic()
                entries = await self._streams.read(beyond)
                self._figures.up("redis", None)
                self._figures.waiting, self._figures.oldest_ms = self._streams.waiting, self._streams.oldest_ms
                taken = sort(entries, time.time_ns() // 1_000_000)
                if commit is not None:
                    await commit
                    commit = None
                beyond = {entry.tenant: entry.id for entry in entries}
                if entries:
                    commit = asyncio.create_task(self._move(connection, taken))
                else:
                    await asyncio.sleep(max(IDLE_SECONDS, (time.monotonic() - began) / BUSY_SHARE))
        finally:
            if commit is not None:
                commit.cancel()
                with contextlib.suppress(asyncio.CancelledError, RedisGone, RedisRefused, *TROUBLE):
                    await commit

    async def _move(self, connection: Connection, taken: Round) -> None:
        await self.store(connection, taken)
        await self.forget(taken.entries)

    async def store(self, connection: Connection, taken: Round) -> None:
        """Commit a round, and set aside what is no event."""
        began = time.monotonic()
        entries, events, dead = taken
        await self._make_partitions(connection, events)
        try:
            stored = await postgres.store(connection, events, dead, fresh=not self._repeats)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, OverflowError):
            stored, misfits = await postgres.store_what_fits(connection, events)
            reasons = {event.event_id: reason for event, reason in misfits}
            for entry in entries:
                with contextlib.suppress(codec.NoEvent):
                    reason = reasons.get(codec.decode(entry.payload).event_id)
                    if reason is not None:
                        dead.append(_letter(entry, reason))
            await postgres.store(connection, (), dead)
        self._repeats = stored.repeated > 0
        self._count(stored, dead, time.monotonic() - began)
        if stored.new:
            self.wrote({event.tenant for event in events})

    def _count(self, stored: Stored, dead: Sequence[DeadLetter], seconds: float) -> None:
        figures = self._figures
        figures.new += stored.new - stored.corrections
        figures.corrections += stored.corrections
        figures.repeated += stored.repeated
        figures.dead += len(dead)
        figures.batches += 1
        figures.commit_seconds += seconds
        for letter in dead:
            log.error(
                "ledger: an entry cannot be billed, it is set aside in usage_dead_letters",
                extra={"stream": letter.stream, "entry": letter.entry_id, "reason": letter.reason},
            )

    async def forget(self, entries: Sequence[Entry]) -> None:
        """Delete a committed round from the streams."""
        await self._removal.forget(entries)

    async def _make_partitions(self, connection: Connection, events: Sequence[UsageEvent]) -> None:
        """Those of the events, and next month's, so that midnight of the first finds it there."""
        now = daily.month_of(time.time_ns() // 1_000_000)
        wanted = {now, postgres.next_month(now), *daily.months_of(events)}
        if missing := wanted - self._months:
            await postgres.ensure_partitions(connection, missing)
            self._months |= missing


async def patiently(task: Callable[[], Awaitable[None]], what: str, pause: Callable[[], float]) -> None:
    """Do something again and again, for ever; trouble with a store is logged and does not end it."""
    failing = False
    while True:
        try:
            await task()
            failing = False
        except (RedisGone, RedisRefused, *TROUBLE) as error:
            if not failing:
                log.error("ledger: %s failed, it is tried again", what, extra={"reason": str(error)})
            failing = True
        await asyncio.sleep(pause())
