"""All of the operator's work with Redis as one thing, for ``main`` to start."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from tenantry_operator.kube.client import Client
from tenantry_operator.live import Live
from tenantry_operator.plan.store import Store, address, store
from tenantry_operator.redis.accounts import Accounts
from tenantry_operator.redis.connection import Connection
from tenantry_operator.redis.seed import seed
from tenantry_operator.redis.usage import Usages

#: Tenants in a second that are looked at when Redis has gone or is back: each of them is a status to write.
RATE = 50.0


class Shared:
    """The tenants' users, and what tenants have used."""

    def __init__(
        self, file: Path, found: Store, live: Live, notify: Callable[[str, float], None], *, overlap: float
    ) -> None:
        self.store = found
        # Two connections: a long list of users must not hold up who waits to get one.
        self._connections = Connection(file), Connection(file)

        def spread(tenant: str) -> None:
            notify(tenant, random.uniform(0, len(live.tenants) / RATE))  # noqa: S311 - no secret

        self.accounts = Accounts(self._connections[0], live, found, spread, overlap=overlap)
        self._usages = Usages(self._connections[1], live, notify)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.accounts.forever())
                group.create_task(self._usages.forever())
        finally:
            for connection in self._connections:
                await connection.close()


async def reachable(client: Client, file: Path, namespace: str, cidrs: tuple[str, ...]) -> Store:
    """What tenants' pods need to know of Redis, which itself may be away.

    Raises OSError and ValueError for settings that cannot be right, and KubeError.
    """
    found = address(await asyncio.to_thread(file.read_text))
    return store(found, await seed(client, namespace), cidrs)
