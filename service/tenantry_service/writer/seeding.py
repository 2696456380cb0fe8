"""A Redis that has lost its memory: budgets would begin at zero again. What was spent before is in PostgreSQL.

A state that was made anew says when it was born, and that it is not seeded. Once the tenant's stream is empty, so that
everything spent before is a row, the sums of its windows before its birth are added to it, once.
"""

import re
import time
from collections.abc import Awaitable, Callable

from tenantry_service.ledger.link import Link
from tenantry_service.ledger.schema import Connection
from tenantry_service.limits import calls, records
from tenantry_service.limits.calls import Keys
from tenantry_service.limits.packed import UnreadableError
from tenantry_service.limits.records import StateView
from tenantry_service.writer.streams import scan
from tenantry_service.writer.sweeper import Sweeper

#: Seconds between two looks for states that were born without a past.
SEED_SECONDS = 30.0
_STATE = re.compile(rb"tn:\{([a-z0-9-]{1,63})\}:limits(?::(.{1,253}))?", re.DOTALL)
_SPENT = """
SELECT coalesce(sum(nano_usd) FILTER (WHERE started_at >= to_timestamp($3)), 0)::bigint,
    coalesce(sum(nano_usd) FILTER (WHERE started_at >= to_timestamp($4)), 0)::bigint
FROM usage_events
WHERE tenant = $1 AND ($2 = '' OR key_name = $2) AND started_at >= to_timestamp(least($3, $4))
    AND occurred_at < to_timestamp($5 / 1000.0)
"""


class Seeder:
    """Looks at every tenant's states; most were seeded long ago, and cost one GET each."""

    def __init__(self, link: Link, scripts: Sweeper, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._link = link
        self._scripts = scripts
        self._connect = connect
        self.seeded = 0
        self._took = 0.0

    def pause(self) -> float:
        """Seconds to the next look."""
        return max(SEED_SECONDS, 10 * self._took)

    async def seed(self) -> None:
        """Look once.

        Raises:
            RedisGone, RedisRefused, asyncpg.PostgresError, OSError: the rest comes with the next look.
        """
        began = time.monotonic()
        scopes = [
            (Keys(match[1].decode()), match[1].decode(), (match[2] or b"").decode())
            for key in await scan(self._link, "tn:{*}:limits*")
            if (match := _STATE.fullmatch(key))
        ]
        values = await self._link.call(("GET", keys.state_of(key_name)) for keys, _, key_name in scopes)
        born: list[tuple[Keys, str, str, StateView]] = []
        for (keys, tenant, key_name), value in zip(scopes, values, strict=True):
            if isinstance(value, bytes):
                try:
                    state = records.read_state(value)
                except UnreadableError:
                    continue
                if not state.seeded:
                    born.append((keys, tenant, key_name, state))
        if born:
            waiting = await self._link.call(("XLEN", keys.usage) for keys, *_ in born)
            connection = await self._connect()
            try:
                for (keys, tenant, key_name, state), length in zip(born, waiting, strict=True):
                    if length == 0:
                        await self._seed_one(connection, keys, tenant, key_name, state)
            finally:
                connection.terminate()
        self._took = time.monotonic() - began

    async def _seed_one(self, connection: Connection, keys: Keys, tenant: str, key_name: str, state: StateView) -> None:
        spent = await connection.fetchrow(_SPENT, tenant, key_name, state.day, state.month, state.born_ms)
        assert spent is not None
        day, month = (max(0, int(part)) for part in spent)
        self.seeded += await self._scripts.run(calls.seed(keys, key_name, state, day, month))
