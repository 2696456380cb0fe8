"""The ledger's SQLite file: its tables, and how it is opened."""

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

#: A row is what differs from request to request, and the number of its kind (see ``inserts.py``). Whoever reads, reads
#: the view: it has an event's columns in the order of its fields.
TABLES = (
    """
CREATE TABLE usage_kinds (
    kind INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    route TEXT NOT NULL,
    requested_model TEXT NOT NULL,
    served_model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    status INTEGER NOT NULL,
    error_type TEXT NOT NULL,
    stream INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    price_version TEXT NOT NULL,
    policy_revision TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    key_name TEXT NOT NULL,
    UNIQUE (
        tenant, key_id, route, requested_model, served_model, upstream, status, error_type, stream, estimated,
        price_version, policy_revision, service_tier, key_name
    )
)
""",
    """
CREATE TABLE usage_rows (
    event_id TEXT PRIMARY KEY,
    kind INTEGER NOT NULL,
    occurred_at_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL,
    usage TEXT,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    audio_input_tokens INTEGER NOT NULL DEFAULT 0,
    audio_output_tokens INTEGER NOT NULL DEFAULT 0,
    image_input_tokens INTEGER NOT NULL DEFAULT 0,
    image_output_tokens INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID
""",
)
VIEW = """
CREATE VIEW usage_events AS
SELECT event_id, tenant, key_id, occurred_at_ms, duration_ms, route, requested_model, served_model, upstream, status,
    error_type, stream, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, nano_usd, estimated,
    price_version, policy_revision, usage, cache_write_tokens, audio_input_tokens, audio_output_tokens,
    image_input_tokens, image_output_tokens, service_tier, key_name
FROM usage_rows JOIN usage_kinds USING (kind)
"""
#: How a file of the version before becomes one of this version. In the first two, events were one table.
UPGRADES: Mapping[int, Sequence[str]] = {
    2: (
        "ALTER TABLE usage_events ADD COLUMN cache_write_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE usage_events ADD COLUMN audio_input_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE usage_events ADD COLUMN audio_output_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE usage_events ADD COLUMN image_input_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE usage_events ADD COLUMN image_output_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE usage_events ADD COLUMN service_tier TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE usage_events ADD COLUMN key_name TEXT NOT NULL DEFAULT ''",
    ),
    3: (
        *TABLES,
        """
INSERT INTO usage_kinds
SELECT DISTINCT NULL, tenant, key_id, route, requested_model, served_model, upstream, status, error_type, stream,
    estimated, price_version, policy_revision, service_tier, key_name
FROM usage_events
""",
        """
INSERT INTO usage_rows
SELECT event_id, kind, occurred_at_ms, duration_ms, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens,
    nano_usd, usage, cache_write_tokens, audio_input_tokens, audio_output_tokens, image_input_tokens,
    image_output_tokens
FROM usage_events JOIN usage_kinds USING (
    tenant, key_id, route, requested_model, served_model, upstream, status, error_type, stream, estimated,
    price_version, policy_revision, service_tier, key_name
)
""",
        # Never renamed: SQLite would have views that others have made of it read the other name ever after.
        "DROP TABLE usage_events",
        VIEW,
    ),
}
#: Raised by one with every change of the schema; a file of a later version is refused and left as it is.
SCHEMA_VERSION = 3


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
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            with connection:
                _bring_up_to_date(connection, path)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"{path} cannot be used as a ledger: {error}; give a directory that can be written"
        ) from error
    return connection


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    # From the start, so that nobody else does the same meanwhile.
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise LedgerError(f"{path} was written by a later version of tenantry; use that, or another file")
    if version:
        upgrades = [UPGRADES[later] for later in range(version + 1, SCHEMA_VERSION + 1)]
    else:
        _clear_half_made(connection, path)
        upgrades = [(*TABLES, VIEW)]
    for statement in chain.from_iterable(upgrades):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _clear_half_made(connection: sqlite3.Connection, path: Path) -> None:
    """Earlier versions made their table before the file had its version: killed in between, they left an empty one."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'usage_events'").fetchone():
        return
    if connection.execute("SELECT 1 FROM usage_events LIMIT 1").fetchone():
        raise LedgerError(f"{path} has a table usage_events with rows, but no version of tenantry's; use another file")
    connection.execute("DROP TABLE usage_events")
