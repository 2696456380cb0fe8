"""The ledger in PostgreSQL: batches of events, each row once, and the daily sums that go with them.

One transaction per batch. Events are nearly always new: they are copied straight into their partitions, and what they
add up to goes into the daily sums. If one of them is there already, nothing of that has happened, and the batch goes
the long way: COPY into a temporary table, from there into the partitions with ``ON CONFLICT DO NOTHING``, and only the
rows that were new into the daily sums. So a batch may come twice, or half of it with another, and every event still
counts once. Rows are never changed: the real usage of a request that had been billed at its estimate becomes a second
row with the differences.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from tenantry_service.ledger import daily
from tenantry_service.ledger.daily import SUMS
from tenantry_service.ledger.event import LOST, UsageEvent, created_ms
from tenantry_service.ledger.schema import MIGRATION_LOCK, Connection

_FIELDS = UsageEvent._fields
_COUNTS = (
    *SUMS,
    "cache_write_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
)
_MOMENT = _FIELDS.index("occurred_at_ms")
_PLAIN = (*_FIELDS[:_MOMENT], *_FIELDS[_MOMENT + 1 :])
_ROW = (*_PLAIN, "created_at", "started_at", "occurred_at")
_COLUMNS = ", ".join(_ROW)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Made anew in every session: the writer's own, so no other session sees it.
STAGING = """
CREATE TEMPORARY TABLE staging (
    event_id text, tenant text, key_id text, occurred_at_ms bigint, duration_ms bigint, route text,
    requested_model text, served_model text, upstream text, status smallint, error_type text, stream boolean,
    input_tokens bigint, cached_input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, nano_usd bigint,
    estimated boolean, price_version text, policy_revision text, usage text, cache_write_tokens bigint,
    audio_input_tokens bigint, audio_output_tokens bigint, image_input_tokens bigint, image_output_tokens bigint,
    service_tier text, key_name text, created_ms bigint
) ON COMMIT DELETE ROWS
"""

# Only names of columns, all from this file, are put together into statements.
_NEW_ROWS = f"""
    INSERT INTO usage_events ({_COLUMNS})
    SELECT {", ".join(_PLAIN)}, to_timestamp(created_ms / 1000.0),
        to_timestamp((occurred_at_ms - duration_ms) / 1000.0), to_timestamp(occurred_at_ms / 1000.0)
    FROM staging
    ON CONFLICT DO NOTHING
    RETURNING *
"""  # noqa: S608
_CORRECTIONS = f"""
    INSERT INTO usage_events ({_COLUMNS}, corrects)
    SELECT {
    ", ".join(
        "s.event_id || '~late'"
        if name == "event_id"
        else f"s.{name} - e.{name}"
        if name in _COUNTS
        else f"e.{name}"
        if name in ("tenant", "key_id", "key_name", "served_model")
        else f"s.{name}"
        for name in _PLAIN
    )
}, e.created_at, e.started_at, to_timestamp(s.occurred_at_ms / 1000.0), s.event_id
    FROM staging s
    JOIN usage_events e ON e.event_id = s.event_id AND e.created_at = to_timestamp(s.created_ms / 1000.0)
    WHERE e.error_type = '{LOST}' AND s.error_type <> '{LOST}' AND e.tenant = s.tenant
    ON CONFLICT DO NOTHING
    RETURNING *
"""  # noqa: S608


def _summed(rows: str) -> str:
    """A statement that inserts ``rows``, adds what was new to the daily sums, and returns how many were new."""
    sums = ", ".join(f"sum({name})" for name in SUMS)
    return f"""
    WITH fresh AS ({rows}), summed AS (
        INSERT INTO usage_daily AS d (day, tenant, key_name, model, requests, {", ".join(SUMS)}, estimated, month)
        SELECT started_at::date, tenant, key_name, served_model, count(*) FILTER (WHERE corrects IS NULL), {sums},
            sum(estimated::integer - (corrects IS NOT NULL)::integer), date_trunc('month', created_at)::date
        FROM fresh GROUP BY 1, 2, 3, 4, 12 ORDER BY 2, 1, 3, 4, 12
        {daily.ON_CONFLICT}
    )
    SELECT count(*) FROM fresh
    """  # noqa: S608


STORE_NEW = _summed(_NEW_ROWS)
_CORRECT = _summed(_CORRECTIONS)


class DeadLetter(NamedTuple):
    """An entry that cannot be billed, as it came, and why."""

    stream: str
    entry_id: str
    reason: str
    payload: bytes


class Stored(NamedTuple):
    """What became of a batch: rows that were new, of them corrections, and events that were there already."""

    new: int
    corrections: int
    repeated: int


def next_month(month: tuple[int, int], by: int = 1) -> tuple[int, int]:
    """The month ``by`` months later (or earlier, if negative)."""
    index = month[0] * 12 + month[1] - 1 + by
    return index // 12, index % 12 + 1


def partition(month: tuple[int, int]) -> str:
    """The name of a month's partition."""
    return f"usage_events_{month[0]:04d}_{month[1]:02d}"


async def prepare(connection: Connection) -> None:
    """Make a fresh session ready for :func:`store`."""
    await connection.execute("SET TIME ZONE 'UTC'")
    await connection.execute(STAGING)


async def ensure_partitions(connection: Connection, months: Collection[tuple[int, int]]) -> None:
    """Make the partitions of these months where they are missing."""
    async with connection.transaction():
        # Two sessions that make the same table at the same time fail in spite of IF NOT EXISTS.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        for month in sorted(months):
            (year, number), (end_year, end_number) = month, next_month(month)
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {partition(month)} PARTITION OF usage_events FOR VALUES"
                f" FROM ('{year:04d}-{number:02d}-01+00') TO ('{end_year:04d}-{end_number:02d}-01+00')"
            )


async def store(
    connection: Connection, events: Sequence[UsageEvent], dead: Iterable[DeadLetter] = (), *, fresh: bool = True
) -> Stored:
    """Commit a batch. The partitions of its months must exist. ``fresh``: most likely nothing of it is there yet; where
    something is, nothing but time is lost.

    Raises:
        asyncpg.DataError: an event does not fit into a row; nothing is written.
        asyncpg.PostgresError, OSError: it could not be written, or nobody knows; the same batch may be given again.
    """
    letters = list(dead)
    if fresh and len({event.event_id for event in events}) == len(events):
        try:
            async with connection.transaction():
                if events:
                    await connection.copy_records_to_table("usage_events", records=map(_row, events), columns=_ROW)
                    await connection.execute(daily.ADD, *daily.columns(events))
                await _set_aside(connection, letters)
        except asyncpg.UniqueViolationError:
            pass
        else:
            return Stored(len(events), 0, 0)
    async with connection.transaction():
        await connection.copy_records_to_table(
            "staging",
            records=[(*event, created_ms(event.event_id, event.occurred_at_ms)) for event in events],
            columns=(*_FIELDS, "created_ms"),
        )
        new = await connection.fetchval(STORE_NEW)
        corrections = await connection.fetchval(_CORRECT)
        await _set_aside(connection, letters)
    return Stored(new + corrections, corrections, len(events) - new - corrections)


def _row(event: UsageEvent) -> tuple[object, ...]:
    occurred = event.occurred_at_ms
    return (
        *event[:_MOMENT],
        *event[_MOMENT + 1 :],
        _EPOCH + timedelta(milliseconds=created_ms(event.event_id, occurred)),
        _EPOCH + timedelta(milliseconds=occurred - event.duration_ms),
        _EPOCH + timedelta(milliseconds=occurred),
    )


async def _set_aside(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    if letters:
        await connection.executemany(
            "INSERT INTO usage_dead_letters (stream, entry_id, reason, payload) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT DO NOTHING",
            letters,
        )


async def store_what_fits(
    connection: Connection, events: Sequence[UsageEvent]
) -> tuple[Stored, list[tuple[UsageEvent, str]]]:
    """Commit all events but those that no row can hold, which are returned with the reason. For a batch that
    :func:`store` has refused: halves it until the culprits stand alone."""
    try:
        return await store(connection, events, fresh=False), []
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, OverflowError) as error:
        if len(events) == 1:
            return Stored(0, 0, 0), [(events[0], f"{type(error).__name__}: {error}")]
    middle = len(events) // 2
    first, first_misfits = await store_what_fits(connection, events[:middle])
    second, second_misfits = await store_what_fits(connection, events[middle:])
    return Stored(*map(sum, zip(first, second, strict=True))), [*first_misfits, *second_misfits]
