"""What a tenant has used, written back into its own corner of Redis, where its pods and the operator read it.

``tn:{tenant}:spend``, JSON: the present day and month, and a line per day and model. Made from PostgreSQL's daily sums,
so it is what the ledger says and not a second count; written within seconds of a change, and only if it changed.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import msgspec

from tenantry_service.ledger.link import Link, checked
from tenantry_service.ledger.schema import Connection
from tenantry_service.ledger.spend import Day, Spend, Sums, Used, encode, spend_key
from tenantry_service.writer.figures import Figures

#: Seconds between two rounds; a round that takes longer than a quarter of that is followed by a longer pause.
PUBLISH_SECONDS = 5.0
#: Tenants per query and write.
CHUNK = 250
#: Days that are told one by one: the month and the one before it, at least.
DAYS = 62
#: Lines per tenant; the cheapest beyond are told as one, model ``other``, per day.
MOST_LINES = 500
OTHER = "other"
S = TypeVar("S", bound=Sums)

_QUERY = """
SELECT tenant, day, model, sum(requests)::bigint, sum(input_tokens)::bigint, sum(cached_input_tokens)::bigint,
    sum(output_tokens)::bigint, sum(nano_usd)::bigint, sum(estimated)::bigint
FROM usage_daily WHERE tenant = ANY($1) AND day >= $2 GROUP BY tenant, day, model
"""
_TENANTS = "SELECT DISTINCT tenant FROM usage_daily WHERE day >= $1"


def build(lines: Iterable[Day], now: datetime) -> Spend:
    """The roll-up of one tenant from its lines (any order). Pure."""
    today = now.astimezone(UTC).date()
    month = today.replace(day=1)
    found = sorted(lines, key=lambda line: (line.day, line.nano_usd, line.model), reverse=True)
    kept = found[:MOST_LINES]
    rest: dict[date, list[Day]] = {}
    for line in found[MOST_LINES:]:
        rest.setdefault(line.day, []).append(line)
    kept += [_total(lines, Day(day=day, model=OTHER)) for day, lines in rest.items()]
    return Spend(
        as_of=now,
        day=_window(found, today, today),
        month=_window(found, month, today),
        days=tuple(kept),
    )


def _window(lines: Sequence[Day], start: date, end: date) -> Used:
    return _total([line for line in lines if start <= line.day <= end], Used(start=start))


def _total(lines: Iterable[Day], total: S) -> S:
    for line in lines:
        total = total.plus(line)
    return total


class Publisher:
    """Keeps the roll-ups fresh. ``changed`` may be called from anywhere in the loop's thread."""

    def __init__(self, link: Link, connect: Callable[[], Awaitable[Connection]], figures: Figures) -> None:
        self._link = link
        self._connect = connect
        self._figures = figures
        self._dirty: set[str] = set()
        #: What was written, to know what is news.
        self._written: dict[str, Spend] = {}
        self._seen_connections = 0
        self._day: date | None = None
        #: Seconds that the last round took.
        self._took = 0.0

    def changed(self, tenants: set[str]) -> None:
        """These have new rows."""
        self._dirty |= tenants

    def pause(self) -> float:
        """Seconds to the next round."""
        return max(PUBLISH_SECONDS, 4 * self._took)

    async def publish(self) -> None:
        """Write what changed since the last round.

        Raises:
            RedisGone, asyncpg.PostgresError, OSError: the rest comes with the next round.
        """
        began = time.monotonic()
        now = datetime.now(UTC)
        everything = self._day != now.date() or self._link.connections != self._seen_connections
        if not everything and not self._dirty:
            self._took = 0.0
            return
        connection = await self._connect()
        try:
            if everything:
                # A new day began, or Redis may have forgotten what it knew.
                self._written.clear()
                month = now.date().replace(day=1)
                self._dirty |= {tenant for (tenant,) in await connection.fetch(_TENANTS, month)}
                await self._link.one("PING")
                self._day, self._seen_connections = now.date(), self._link.connections
            while self._dirty:
                chunk = sorted(self._dirty)[:CHUNK]
                await self._publish(connection, chunk, now)
        finally:
            connection.terminate()
            self._took = time.monotonic() - began

    async def _publish(self, connection: Connection, tenants: Sequence[str], now: datetime) -> None:
        # Taken out before they are read: what comes meanwhile makes them dirty again.
        self._dirty.difference_update(tenants)
        try:
            lines = await read_lines(connection, tenants, now.date() - timedelta(days=DAYS))
            fresh = {tenant: build(lines[tenant], now) for tenant in tenants}
            changed = {tenant: spend for tenant, spend in fresh.items() if self._is_news(tenant, spend)}
            for answer in await self._link.call(
                ("SET", spend_key(tenant), encode(spend)) for tenant, spend in changed.items()
            ):
                checked(answer)
        except BaseException:
            self._dirty.update(tenants)
            raise
        self._written.update(changed)
        self._figures.published += len(changed)

    def _is_news(self, tenant: str, spend: Spend) -> bool:
        before = self._written.get(tenant)
        return before is None or msgspec.structs.replace(before, as_of=spend.as_of) != spend


async def read_lines(connection: Connection, tenants: Sequence[str], since: date) -> Mapping[str, list[Day]]:
    """The daily lines of some tenants."""
    found: dict[str, list[Day]] = {tenant: [] for tenant in tenants}
    for tenant, *line in await connection.fetch(_QUERY, tenants, since):
        found[tenant].append(Day.read(line))
    return found
