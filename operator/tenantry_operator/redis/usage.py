"""What tenants have used, read for all of them together: from the ledger's roll-ups into ``Live``."""

import asyncio
import logging
import random
from collections.abc import Callable

from tenantry_operator.live import Live
from tenantry_operator.plan.store import prefix
from tenantry_operator.plan.usage import RollUp, rolled_up
from tenantry_operator.redis.connection import Connection, StoreError

log = logging.getLogger(__name__)

#: Seconds between two readings, ± 20 %. The writer rolls up within 10 s: what a status says is less than a minute old.
PERIOD = 15.0
#: Tenants in one round trip, and seconds over which those that differ are spread.
BATCH, SPREAD = 500, 10.0


class Usages:
    """Reads the roll-ups. ``notify(tenant, pause)``: the tenant's has changed; look at it in so many seconds."""

    def __init__(self, connection: Connection, live: Live, notify: Callable[[str, float], None]) -> None:
        self._connection, self._live, self._notify = connection, live, notify

    async def forever(self) -> None:
        """Read all of them now and then until cancelled. Redis away: what was read last stays."""
        while True:
            try:
                await self.read()
            except StoreError as error:
                log.debug("usage not read: %s", error)
            await asyncio.sleep(PERIOD * random.uniform(0.8, 1.2))  # noqa: S311 - no secret

    async def read(self) -> None:
        """Read all roll-ups once. Raises StoreError."""
        tenants = list(self._live.tenants)
        known = self._live.usage
        for gone in known.keys() - tenants:
            del known[gone]
        for start in range(0, len(tenants), BATCH):
            some = tenants[start : start + BATCH]
            found = await self._connection.ask(*(("GET", f"{prefix(tenant)}spend") for tenant in some))
            for tenant, document in zip(some, found, strict=True):
                self._take(tenant, rolled_up(document if isinstance(document, str) else None))

    def _take(self, tenant: str, fresh: RollUp | None) -> None:
        if fresh is not None and self._live.usage.get(tenant) != fresh:
            self._live.usage[tenant] = fresh
            self._notify(tenant, random.uniform(0, SPREAD))  # noqa: S311 - no secret
