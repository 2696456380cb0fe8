"""Reading the two kinds of ledgers: PostgreSQL, and a laptop's or a single pod's SQLite file."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import date, datetime
from pathlib import Path

import asyncpg

from tenantry_usage.lines import Line

CONNECT_SECONDS = 10.0
QUERY_SECONDS = 300.0

_POSTGRES = """
SELECT day, tenant, key_name, model, sum(requests)::bigint, sum(input_tokens)::bigint,
    sum(cached_input_tokens)::bigint, sum(output_tokens)::bigint, sum(nano_usd)::bigint, sum(estimated)::bigint
FROM usage_daily WHERE day >= $1 AND day < $2 AND ($3 = '' OR tenant = $3)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
_SQLITE = """
SELECT date((occurred_at_ms - duration_ms) / 1000, 'unixepoch') AS day, tenant, key_name, served_model, count(*),
    sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(nano_usd), sum(estimated)
FROM usage_events WHERE day >= ? AND day < ? AND (?3 = '' OR tenant = ?3)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""


class SourceError(Exception):
    """The ledger cannot be read; the message names the flag and the remedy."""


def postgres(file: Path, first: date, end: date, tenant: str) -> list[Line]:
    """Lines of the days from ``first`` to the day before ``end``; of all tenants if none is named.

    Raises:
        SourceError: no database, or none that holds a ledger.
    """

    async def read(url: str) -> list[Line]:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=QUERY_SECONDS)
        try:
            return [Line(*row) for row in await connection.fetch(_POSTGRES, first, end, tenant)]
        finally:
            connection.terminate()

    try:
        return asyncio.run(read(file.read_text(encoding="utf-8").strip()))
    except asyncpg.UndefinedTableError as error:
        raise SourceError("--database-file: that database holds no ledger; start `tenantry ledger` on it") from error
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise SourceError(f"--database-file: {file}: {type(error).__name__}: {error}") from error


def sqlite(state_dir: Path, first: date, end: date, tenant: str) -> list[Line]:
    """The same of the file in a state directory.

    Raises:
        SourceError: there is none, or it is no ledger.
    """
    file = state_dir / "ledger.sqlite"
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            found = connection.execute(_SQLITE, (first.isoformat(), end.isoformat(), tenant)).fetchall()
    except sqlite3.Error as error:
        raise SourceError(
            f"--state-dir: {file}: {error}; name the directory of a `tenantry serve` of this version"
        ) from error
    return [Line(datetime.strptime(row[0], "%Y-%m-%d").date(), *row[1:]) for row in found]  # noqa: DTZ007 - a date
