"""The ledger in a SQLite file: one writer thread, write-ahead log, batches.

What is decided:

* A batch is one transaction of a few multi-row INSERTs: the interpreter lock is given up once per statement and not
  once per row, so a busy event loop does not starve the writer. Its thread has a lower priority than the event loop's.
* ``ON CONFLICT DO NOTHING`` on the event id: writing a batch again, after an error whose outcome is unknown, is
  harmless.
* ``synchronous=NORMAL``: a killed process loses no committed batch (a machine that loses power may lose the last
  ones). What a process was at, and what it had queued, when it was killed with -9 is in its write-ahead journal: the
  next process to open the file bills what had ended as it ended, and what had not at its estimate (``estimated``,
  error type ``lost``).
* Disk full, file locked or any other database error: the batch stays first in the queue and is tried again, with
  growing pauses. When the queue is full, ``accepting`` turns false and the service refuses new requests (503) until
  the writer catches up. Nothing that was served is dropped to make room.
"""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from tenantry_service.ledger import codec, journal, sqlite_file, sqlite_rows
from tenantry_service.ledger.event import UsageEvent
from tenantry_service.ledger.journal import Journal
from tenantry_service.ledger.sqlite_file import LedgerError
from tenantry_service.ledger.sqlite_rows import UNWRITABLE

#: Events that may wait. About 1 KB each, so 50 MB at worst; at 1,000 requests/s that is a minute of a stuck disk.
QUEUE_LIMIT = 50_000
#: How long an event may wait for company. The journal has it meanwhile, and the fewer batches there are, the fewer
#: requests meet one.
BATCH_SECONDS = 0.25
BATCH_ROWS = 4096
#: How much nicer (see nice(2)) the writer's thread is than the service's: requests go first, and still leave it a
#: quarter of a core that they could fill, which is several times what it needs for them.
NICER = 5
MAX_RETRY_SECONDS = 5.0
#: How often a full disk is asked for room.
JOURNAL_RETRY_SECONDS = 1.0

#: Kinds of journal records: a request that goes upstream, and one that has ended.
BEGUN, ENDED = 1, 2

log = logging.getLogger(__name__)


class SqliteLedger:
    """See :class:`tenantry_service.ledger.event.Ledger`. ``append`` belongs to one thread (the event loop's)."""

    def __init__(self, path: Path, queue_limit: int = QUEUE_LIMIT, batch_seconds: float = BATCH_SECONDS) -> None:
        """Open or create the file and start the writer.

        Raises:
            LedgerError: it cannot be opened, or a later version wrote it.
        """
        self.path = path
        self._limit = queue_limit
        self._batch_seconds = batch_seconds
        self._queue: deque[UsageEvent] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._retry_seconds = 0.0
        self._close_by = float("inf")
        #: The writer has ended in a way that nobody foresaw.
        self._broken = False
        #: The journal could not be written the last time.
        self._unjournaled = False
        self._journal_retry = 0.0
        #: Events committed, and batches that failed; read by the metrics.
        self.written = 0
        self.failures = 0
        #: Events that no database would take; they are in the log.
        self.unwritable = 0
        self._connection = sqlite_file.open_file(path)
        self._rows = sqlite_rows.Rows(self._connection)
        #: Segments of the journal that hold requests under way, by event id.
        self._begun: dict[str, int] = {}
        #: Segments that hold the queued events, in the queue's order, and those of their beginnings.
        self._segments: deque[tuple[int, int]] = deque()
        directory = path.with_name(path.stem + ".ahead")
        try:
            self._settle_left_behind(directory)
            self._journal = Journal(directory)
        except (sqlite3.Error, OSError) as error:
            self._connection.close()
            raise LedgerError(f"{directory} cannot be used as the ledger's journal: {error}") from error
        self._writer = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._writer.start()

    @property
    def accepting(self) -> bool:
        """False while the queue or the disk is full, and for ever if the writer has died."""
        if self._unjournaled and time.monotonic() >= self._journal_retry:
            self._make_room()
        return len(self._queue) < self._limit and not self._broken and not self._unjournaled

    @property
    def queued(self) -> int:
        """Events not yet committed."""
        return len(self._queue)

    def begin(self, event_id: str, note: bytes) -> None:
        """Write ahead what a request is billed at if this process dies before it ends."""
        segment = self._write_ahead(BEGUN, note)
        if segment:
            self._begun[event_id] = segment

    def append(self, event: UsageEvent) -> None:
        """Queue one event."""
        try:
            segment = self._write_ahead(ENDED, codec.encode(event))
        except ValueError:
            # No row can hold it either; the writer says so.
            segment = 0
        self._segments.append((self._begun.pop(event.event_id, 0), segment))
        self._queue.append(event)
        # Setting an Event costs a lock; the writer clears it only after it has seen an empty queue.
        if not self._wake.is_set():
            self._wake.set()

    def _write_ahead(self, kind: int, record: bytes) -> int:
        """The segment it went to; 0 if there is none: the disk is full, and new requests are refused from now on, or
        the event is larger than any."""
        try:
            segment = self._journal.append(kind, record)
        except ValueError:
            return 0
        except OSError as error:
            if not self._unjournaled:
                log.error("ledger: the journal takes no more", extra={"reason": str(error)})
            self._unjournaled = True
            return 0
        return segment

    def _make_room(self) -> None:
        try:
            self._journal.make_room()
        except OSError:
            self._journal_retry = time.monotonic() + JOURNAL_RETRY_SECONDS
        else:
            self._unjournaled = False

    def close(self, timeout_seconds: float = 10.0) -> int:
        """Write what is queued and stop. Returns how many events could not be written in time (0 is what one wants)."""
        self._close_by = time.monotonic() + timeout_seconds
        self._closing.set()
        self._wake.set()
        self._writer.join(timeout_seconds)
        if not self._writer.is_alive():
            self._journal.close(keep=bool(self._queue or self._begun))
        return len(self._queue)

    def _run(self) -> None:
        orderly = False
        try:
            # Where threads have no priority of their own, all are equal.
            with suppress(OSError, AttributeError):
                thread = threading.get_native_id()
                os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICER))
            self._write_until_closed()
            orderly = True
        finally:
            self._broken = not orderly

    def _write_until_closed(self) -> None:
        while True:
            self._wake.wait()
            self._pause()
            self._wake.clear()
            while self._queue:
                if not self._write_batch():
                    self._wake.set()
                    break
            if self._closing.is_set() and (not self._queue or time.monotonic() > self._close_by):
                break
        self._connection.close()

    def _pause(self) -> None:
        """Wait for company, or for the database to recover. A ledger that closes hurries, but tries to the end."""
        if not self._closing.is_set():
            self._closing.wait(self._retry_seconds or self._batch_seconds)
        elif self._retry_seconds:
            time.sleep(min(self._retry_seconds, 0.2))

    def _write_batch(self) -> bool:
        batch = list(islice(self._queue, BATCH_ROWS))
        try:
            try:
                self._rows.write(batch)
            except UNWRITABLE:
                self._insert_each(batch)
        except sqlite3.Error as error:
            self.failures += 1
            self._retry_seconds = min(MAX_RETRY_SECONDS, max(0.1, self._retry_seconds * 2))
            log.error(
                "ledger: a batch could not be written, it will be tried again",
                extra={"reason": str(error), "queued": len(self._queue), "retry_seconds": self._retry_seconds},
            )
            return False
        step = sqlite_rows.step_rows(len(batch)) * sqlite_rows.STATEMENTS_AT_ONCE
        for start in range(0, len(batch), step):
            if start:
                time.sleep(sqlite_rows.PAUSE_SECONDS)
            self._written_down(min(step, len(batch) - start))
        self.written += len(batch)
        self._retry_seconds = 0.0
        return True

    def _written_down(self, rows: int) -> None:
        """So many of the first in the queue are in the database."""
        safe: dict[int, int] = {}
        for _ in range(rows):
            begun, ended = self._segments.popleft()
            self._queue.popleft()
            safe[begun] = safe.get(begun, 0) + 1
            safe[ended] = safe.get(ended, 0) + 1
        # Those that the journal has not.
        safe.pop(0, None)
        self._journal.done(safe)

    def _settle_left_behind(self, directory: Path) -> None:
        """Bill what processes that were killed had not written."""
        with journal.left_behind(directory) as records:
            begun: dict[str, UsageEvent] = {}
            ended: list[UsageEvent] = []
            for record in records:
                try:
                    event = codec.decode(record.payload)
                except codec.NoEvent as error:
                    log.error("ledger: a journal record is no event", extra={"reason": str(error)})
                    continue
                if record.kind == BEGUN:
                    begun[event.event_id] = event
                else:
                    begun.pop(event.event_id, None)
                    ended.append(event)
            if begun or ended:
                self._rows.write([*ended, *begun.values()])
                log.warning(
                    "ledger: a process was killed; its requests are billed now",
                    extra={"ended": len(ended), "estimated": len(begun)},
                )

    def _insert_each(self, batch: Sequence[UsageEvent]) -> None:
        """One of them can never be written, and must not hold up the others: it goes to the log instead."""
        for event in batch:
            try:
                self._rows.write([event])
            except UNWRITABLE as error:
                self.unwritable += 1
                log.error("ledger: an event cannot be written", extra={"reason": str(error), "event": event._asdict()})
