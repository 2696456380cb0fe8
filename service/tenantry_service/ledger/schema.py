"""The PostgreSQL schema: numbered migrations that a writer applies by itself when it connects.

Rules that let two versions be alive at once, as during a roll-out: a migration only adds (tables, columns with a
default, indexes, views); writers name their columns; a writer takes a database that is newer than itself as it is. A
migration that breaks with that says so in its first line, ``-- oldest writer: N``: older writers then stop.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import resources
from typing import Any, NamedTuple, Protocol

#: Serialises writers that start together; any number that nobody else uses in this database.
MIGRATION_LOCK = 0x7465_6E61_6E74
_OLDEST = re.compile(r"-- oldest writer: (\d+)")


class Connection(Protocol):
    """What we use of asyncpg's connection (it has no types of its own)."""

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Commits when the block ends well."""

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, or several without arguments."""

    async def executemany(self, command: str, args: Iterable[Sequence[object]]) -> None:
        """Run one statement for many rows."""

    async def fetch(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        """All rows."""

    async def fetchrow(self, query: str, *args: object) -> tuple[Any, ...] | None:
        """The first row."""

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first column of the first row."""

    async def copy_records_to_table(
        self, table_name: str, *, records: Iterable[Sequence[object]], columns: Sequence[str]
    ) -> str:
        """Binary COPY."""

    def terminate(self) -> None:
        """Close without ceremony."""


class Migration(NamedTuple):
    """One step: SQL, and the version of the oldest writer that may go on writing after it."""

    version: int
    name: str
    sql: str
    oldest_writer: int


class SchemaError(Exception):
    """The database belongs to a later version that this one must not write for; the message says what to do."""


def migrations() -> tuple[Migration, ...]:
    """All of them, in order."""
    found = []
    for file in sorted(
        resources.files("tenantry_service.ledger").joinpath("migrations").iterdir(), key=lambda f: f.name
    ):
        number, _, name = file.name.removesuffix(".sql").partition("_")
        if not file.name.endswith(".sql"):
            continue
        sql = file.read_text(encoding="utf-8")
        oldest = _OLDEST.match(sql)
        found.append(Migration(int(number), name, sql, int(oldest[1]) if oldest else 1))
    return tuple(found)


async def migrate(connection: Connection, known: tuple[Migration, ...] | None = None) -> int:
    """Bring the database to the newest version that this program knows; returns how many steps were taken.

    Each step is one transaction under a lock, so that writers which start together take each step once.

    Raises:
        SchemaError: a later version has changed it so that we must not write.
    """
    steps = migrations() if known is None else known
    taken = 0
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS tenantry_schema (version integer PRIMARY KEY, name text NOT NULL,"
            " oldest_writer integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    for step in steps:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            if await connection.fetchval("SELECT 1 FROM tenantry_schema WHERE version = $1", step.version):
                continue
            await connection.execute(step.sql)
            await connection.execute(
                "INSERT INTO tenantry_schema (version, name, oldest_writer) VALUES ($1, $2, $3)",
                step.version,
                step.name,
                step.oldest_writer,
            )
            taken += 1
    ours = steps[-1].version
    needed = await connection.fetchval("SELECT max(oldest_writer) FROM tenantry_schema")
    if needed > ours:
        raise SchemaError(
            f"the database's schema wants a writer that knows version {needed} of it, this one knows {ours}; "
            "roll out the newer version"
        )
    return taken
