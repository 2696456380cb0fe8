"""Where a process finds what its tenants have used: in Redis, where the ledger writes it, or in its own SQLite file."""

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

from tenantry_service import usage_report
from tenantry_service.ledger import spend as spends
from tenantry_service.ledger.link import Link, RedisRefused
from tenantry_service.ledger.spend import Day, Spend
from tenantry_service.limits import records
from tenantry_service.limits.calls import Keys
from tenantry_service.limits.memory import MemoryLimiter
from tenantry_service.limits.packed import UnreadableError
from tenantry_service.usage_report import Spent

#: A tenant that asks and asks again reads its file once in this time.
SQLITE_SECONDS = 5.0
#: Redis answers in less than one; a caller that waits is told what is known without it.
REDIS_SECONDS = 3.0

_LINES = """
SELECT date((occurred_at_ms - duration_ms) / 1000, 'unixepoch') AS day, served_model, count(*), sum(input_tokens),
    sum(cached_input_tokens), sum(output_tokens), sum(nano_usd), sum(estimated)
FROM usage_events WHERE tenant = ? AND day >= ? GROUP BY 1, 2
"""


class RedisSource:
    """Of a pod: the roll-up that the ledger wrote, and the state that all its replicas share."""

    def __init__(self, file: Path) -> None:
        """``file`` holds the URL; read again at every connection."""
        self._link = Link(lambda: file.read_text(encoding="utf-8").strip(), REDIS_SECONDS)

    async def spend(self, tenant: str) -> Spend | None:
        """See :class:`tenantry_service.usage_report.Source`."""
        try:
            value = await self._link.one("GET", spends.spend_key(tenant))
        except (OSError, RedisRefused):
            return None
        return spends.decode(value) if isinstance(value, bytes) else None

    async def spent(self, tenant: str, key_name: str) -> Spent | None:
        """See :class:`tenantry_service.usage_report.Source`."""
        try:
            value = await self._link.one("GET", Keys(tenant).state_of(key_name))
            if not isinstance(value, bytes):
                return None
            state = records.read_state(value)
        except (RedisRefused, UnreadableError) as error:
            raise OSError(str(error)) from error
        return Spent(state.day, state.day_nano_usd, state.month, state.month_nano_usd)


class OwnSource:
    """Of a process with limits in memory and a ledger of its own."""

    def __init__(self, file: Path, limiter: MemoryLimiter) -> None:
        self._file = file
        self._limiter = limiter
        self._read: dict[str, tuple[float, Spend | None]] = {}

    async def spend(self, tenant: str) -> Spend | None:
        """See :class:`tenantry_service.usage_report.Source`."""
        known = self._read.get(tenant)
        if known is None or time.monotonic() >= known[0]:
            now = datetime.now(UTC)
            found = await asyncio.to_thread(_sqlite_lines, self._file, tenant, usage_report.since(now))
            made = None if found is None else usage_report.rolled_up(found, now)
            known = self._read[tenant] = (time.monotonic() + SQLITE_SECONDS, made)
        return known[1]

    async def spent(self, tenant: str, key_name: str) -> Spent | None:
        """See :class:`tenantry_service.usage_report.Source`."""
        found = self._limiter.spent(tenant, key_name)
        return None if found is None else Spent(*found)


def _sqlite_lines(file: Path, tenant: str, since: date) -> list[Day] | None:
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            rows = connection.execute(_LINES, (tenant, since.isoformat())).fetchall()
    except sqlite3.Error:
        return None
    return [Day.read((date.fromisoformat(day), *rest)) for day, *rest in rows]
