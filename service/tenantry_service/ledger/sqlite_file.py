"""The ledger's SQLite file: its tables, how it is opened, and how rows get into it without being in anybody's way."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tenantry_service.ledger.event import UsageEvent
from tenantry_service.ledger.inserts import FEWEST_ROWS, MOST_ROWS, Insert, inserts

#: Between two steps of a batch.
PAUSE_SECONDS = 0.000_05
#: Steps of a batch, more or less: a long one is written in larger ones, because it must not take longer than the next
#: needs to gather; a short one is nobody's hurry.
STEPS = 32
#: Rows that are prepared at once, in statements. Preparing holds the interpreter: 0.4 ms for 512 rows.
STATEMENTS_AT_ONCE = 4

SCHEMA = """
CREATE TABLE IF NOT EXISTS usage_events (
    event_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    occurred_at_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    route TEXT NOT NULL,
    requested_model TEXT NOT NULL,
    served_model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    status INTEGER NOT NULL,
    error_type TEXT NOT NULL,
    stream INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    price_version TEXT NOT NULL,
    policy_revision TEXT NOT NULL,
    usage TEXT
) WITHOUT ROWID
"""
#: What each version after the first adds.
ADDITIONS: dict[int, tuple[str, ...]] = {
    2: (
        "cache_write_tokens INTEGER NOT NULL DEFAULT 0",
        "audio_input_tokens INTEGER NOT NULL DEFAULT 0",
        "audio_output_tokens INTEGER NOT NULL DEFAULT 0",
        "image_input_tokens INTEGER NOT NULL DEFAULT 0",
        "image_output_tokens INTEGER NOT NULL DEFAULT 0",
        "service_tier TEXT NOT NULL DEFAULT ''",
        "key_name TEXT NOT NULL DEFAULT ''",
    )
}
#: Raised by one with every change of the schema; a file of a later version is refused and left as it is.
SCHEMA_VERSION = 2

#: What the values of a row can be at fault for; trying again does not help.
UNWRITABLE = (
    OverflowError,
    ValueError,
    TypeError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
)


class LedgerError(Exception):
    """The file cannot be used; the message says why and what to do."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file, or create it; one of an earlier version is brought up to date.

    Raises:
        LedgerError: it cannot be used, or a later version wrote it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            connection.close()
            raise LedgerError(f"{path} was written by a later version of tenantry; use that, or another file")
        with connection:
            if not version:
                connection.execute(SCHEMA)
            for later in range(max(version, 1) + 1, SCHEMA_VERSION + 1):
                for column in ADDITIONS[later]:
                    connection.execute(f"ALTER TABLE usage_events ADD COLUMN {column}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"{path} cannot be used as a ledger: {error}; give a directory that can be written"
        ) from error
    return connection


def write(connection: sqlite3.Connection, batch: Sequence[UsageEvent]) -> None:
    """Insert in small steps with pauses in between: where service and writer share a core, a request that comes
    meanwhile waits for one step and not for the batch. (Linux lets a thread that runs go on for some milliseconds,
    whoever wakes up; and compiled code gives the interpreter up in no loop of its own.)

    Raises:
        sqlite3.Error: the database does not take it, now or ever (see ``UNWRITABLE``).
    """
    for number, insert in enumerate(_steps(batch)):
        if number:
            time.sleep(PAUSE_SECONDS)
        connection.execute(insert.statement, insert.values)


def step_rows(rows: int) -> int:
    """How many of so many rows are to be written in one step: a power of two."""
    return max(FEWEST_ROWS, min(MOST_ROWS, 1 << (max(1, rows // STEPS).bit_length() - 1)))


def _steps(batch: Sequence[UsageEvent]) -> Iterator[Insert]:
    most = step_rows(len(batch))
    at_once = most * STATEMENTS_AT_ONCE
    for start in range(0, len(batch), at_once):
        yield from inserts(batch[start : start + at_once], most)
