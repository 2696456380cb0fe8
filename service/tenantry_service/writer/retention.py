"""How long events are kept. A month goes as a whole, and only if its daily sums, which stay, say what it says."""

import logging
import re
import time
from collections.abc import Awaitable, Callable

from tenantry_service.ledger.daily import month_of
from tenantry_service.ledger.postgres import next_month, partition
from tenantry_service.ledger.schema import Connection
from tenantry_service.writer.figures import Figures

CHECK_SECONDS = 3600.0
_NAME = re.compile(r"usage_events_(\d{4})_(\d{2})")
_PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_events'::regclass"
_SUMS = "count(*) FILTER (WHERE corrects IS NULL), coalesce(sum(nano_usd), 0), coalesce(sum(input_tokens), 0)"
_DAILY = """
SELECT coalesce(sum(requests), 0), coalesce(sum(nano_usd), 0), coalesce(sum(input_tokens), 0)
FROM usage_daily WHERE month = make_date($1, $2, 1)
"""

log = logging.getLogger(__name__)


class Retention:
    """Drops what is older than ``keep_months`` whole months (0: nothing, ever)."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], keep_months: int, figures: Figures) -> None:
        self._connect = connect
        self._keep = keep_months
        self._figures = figures

    def pause(self) -> float:
        """Seconds to the next look."""
        return CHECK_SECONDS if self._figures.writing else 1.0

    async def enforce(self) -> None:
        """Look once."""
        if not self._keep:
            return
        connection = await self._connect()
        try:
            oldest = next_month(month_of(time.time_ns() // 1_000_000), -self._keep)
            unequal = 0
            for (name,) in await connection.fetch(_PARTITIONS):
                match = _NAME.fullmatch(name)
                month = (int(match[1]), int(match[2])) if match else oldest
                if month < oldest and not await self._drop(connection, month):
                    unequal += 1
            self._figures.unequal_partitions = unequal
        finally:
            connection.terminate()

    async def _drop(self, connection: Connection, month: tuple[int, int]) -> bool:
        name = partition(month)
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {name} IN SHARE MODE")
            events = await connection.fetchrow(f"SELECT {_SUMS} FROM {name}")  # noqa: S608 - a name of ours
            daily = await connection.fetchrow(_DAILY, *month)
            assert events is not None
            assert daily is not None
            if tuple(events) != tuple(daily):
                log.error(
                    "ledger: a month is kept, for its daily sums are not those of its events",
                    extra={"month": name, "events": [str(n) for n in events], "daily": [str(n) for n in daily]},
                )
                return False
            await connection.execute(f"DROP TABLE {name}")
        self._figures.dropped_partitions += 1
        log.info("ledger: a month was dropped, its daily sums stay", extra={"month": name})
        return True
