"""Where a process counts limits and records usage: all by itself, or in Redis together with its replicas."""

import asyncio
from pathlib import Path
from typing import Protocol

from tenantry_service.ledger.event import Ledger
from tenantry_service.ledger.sqlite import SqliteLedger
from tenantry_service.limits.limiter import Limiter
from tenantry_service.limits.memory import MemoryLimiter
from tenantry_service.limits.redis import RedisLimiter
from tenantry_service.usage_report import Source
from tenantry_service.usage_sources import OwnSource, RedisSource

#: How long a process waits for Redis before it serves. A new pod's network may take seconds to let it out, and what it
#: answered until then would be refusals; but a Redis that is away is a mode, not a reason to stay away, too.
START_SECONDS = 5.0
#: For what is still on its way when all requests have ended.
FINISH_SECONDS = 5.0


class Books(Protocol):
    """What an engine needs, and the work behind it."""

    @property
    def limiter(self) -> Limiter:
        """Counts limits."""

    @property
    def ledger(self) -> Ledger | None:
        """Records usage, unless the limiter does."""

    @property
    def usage(self) -> Source:
        """What tenants have used."""

    def figures(self) -> tuple[int, int, int]:
        """Usage events not yet recorded, recorded, and attempts that failed."""

    async def run(self) -> None:
        """Work until cancelled."""

    async def ready(self) -> None:
        """Return when there is no use in waiting any longer before requests are taken."""

    async def finish(self) -> int:
        """Record what is left; returns how many usage events could not be recorded."""


class OwnBooks:
    """In memory and in SQLite."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.limiter = MemoryLimiter()
        self.ledger = ledger
        self.usage = OwnSource(ledger.path, self.limiter)

    def figures(self) -> tuple[int, int, int]:
        """See :class:`Books`."""
        return self.ledger.queued, self.ledger.written, self.ledger.failures

    async def run(self) -> None:
        """The ledger has a thread of its own."""

    async def ready(self) -> None:
        """At once."""

    async def finish(self) -> int:
        """See :class:`Books`."""
        return await asyncio.to_thread(self.ledger.close)


class SharedBooks:
    """In Redis."""

    def __init__(self, file: Path, state_dir: Path) -> None:
        self.limiter = RedisLimiter(file, state_dir / "unsettled")
        self.ledger = None
        self.usage = RedisSource(file)

    def figures(self) -> tuple[int, int, int]:
        """See :class:`Books`."""
        return self.limiter.figures()

    async def run(self) -> None:
        """See :class:`Books`."""
        await self.limiter.run()

    async def ready(self) -> None:
        """When Redis has answered, or has not for a while."""
        await self.limiter.started(START_SECONDS)

    async def finish(self) -> int:
        """See :class:`Books`."""
        return await self.limiter.finish(FINISH_SECONDS)
