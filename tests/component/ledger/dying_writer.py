"""A ledger writer that kills itself with -9 right after the nth time it has taken a step.

``python dying_writer.py REDIS_URL DATABASE_URL STEP N``; steps in the order of a round are STEPS.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from tenantry_service.ledger import daily, postgres
from tenantry_service.ledger.link import Link
from tenantry_service.ledger.schema import Connection
from tenantry_service.writer import streams
from tenantry_service.writer.figures import Figures
from tenantry_service.writer.mover import Mover, Round
from tenantry_service.writer.streams import Entry, Streams

STEPS = ("connected", "read", "copied", "summed", "committed", "forgotten")
#: Of a round that holds what is a row already.
REPEATED_STEPS = ("staged", "inserted", "committed", "forgotten")


class Death:
    """Comes at the nth ``step``."""

    def __init__(self, step: str, times: int) -> None:
        self._step = step
        self._left = times

    def at(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A connection that tells death what it has done."""

    def __init__(self, connection: Connection, death: Death) -> None:
        self._connection = connection
        self._death = death

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def copy_records_to_table(self, table_name: str, **kwargs: Any) -> Any:
        done = await self._connection.copy_records_to_table(table_name, **kwargs)
        self._death.at("staged" if table_name == "staging" else "copied")
        return done

    async def execute(self, query: str, *args: Any) -> Any:
        done = await self._connection.execute(query, *args)
        if query == daily.ADD:
            self._death.at("summed")
        return done

    async def fetchval(self, query: str, *args: Any) -> Any:
        done = await self._connection.fetchval(query, *args)
        if query == postgres.STORE_NEW:
            self._death.at("inserted")
        return done


class Dying(Mover):
    """See the module."""

    death: Death

    async def connect(self) -> Connection:
        made = await super().connect()
        self.death.at("connected")
        return Watched(made, self.death)

    async def store(self, connection: Connection, taken: Round) -> None:
        self.death.at("read")
        await super().store(connection, taken)
        self.death.at("committed")

    async def forget(self, entries: Sequence[Entry]) -> None:
        await super().forget(entries)
        self.death.at("forgotten")


async def main(redis: str, database: str, step: str, times: int) -> None:
    streams.BATCH_ENTRIES = 300
    link, other = Link(lambda: redis), Link(lambda: redis)
    watched = Streams(link)
    mover = Dying(watched, other, lambda: database, Figures())
    mover.death = Death(step, times)
    watched.watch(await streams.tenants(link))
    await mover.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
