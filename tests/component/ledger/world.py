"""One writer's parts among a real Redis and a real PostgreSQL."""

import time
from typing import Any

from tenantry_service.ledger.link import Link
from tenantry_service.writer import streams
from tenantry_service.writer.figures import Figures
from tenantry_service.writer.mover import Mover, Round, sort
from tenantry_service.writer.streams import Entry, Streams, stream_of

#: Seconds that a store may take to connect or to answer here: one that stands still for a while is not away.
PATIENT = 60.0


class World:
    """One mover, one Redis, one database."""

    def __init__(self, redis: Link, database: str) -> None:
        self.redis = redis
        self.figures = Figures()
        self.streams = Streams(redis)
        self.mover = Mover(self.streams, redis, lambda: database, self.figures)

    async def read(self) -> list[Entry]:
        self.streams.watch(await streams.tenants(self.redis))
        return await self.streams.read({})

    async def read_round(self) -> Round:
        return sort(await self.read(), time.time_ns() // 1_000_000)

    async def round(self) -> None:
        """Read, store and forget what is there."""
        taken = await self.read_round()
        connection = await self.mover.connect()
        try:
            await self.mover.store(connection, taken)
            await self.mover.forget(taken.entries)
        finally:
            connection.terminate()

    async def rows(self, query: str = "SELECT * FROM usage_events ORDER BY inserted_at, event_id") -> list[Any]:
        connection = await self.mover.connect()
        try:
            return list(await connection.fetch(query))
        finally:
            connection.terminate()

    async def waiting(self, tenant: str = "acme") -> int:
        answer = await self.redis.one("XLEN", stream_of(tenant))
        assert isinstance(answer, int)
        return answer
