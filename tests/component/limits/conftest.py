"""A limiter over a real Redis, and somebody who looks into that Redis beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from localcluster.datastores import Redis
from tenantry_service.limits import link
from tenantry_service.limits.redis import RedisLimiter

from tests.component.limits.asking import Asking
from tests.component.limits.redis_store import Client

#: Seconds that Redis has to answer a limiter here: one that a busy machine keeps from it for a moment is not away.
PATIENT = 30.0
#: And those that it has in a cluster.
SHIPPED = link.TIMEOUT_SECONDS


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limiters wait for Redis, unless a test is about those that do not."""
    monkeypatch.setattr(link, "TIMEOUT_SECONDS", PATIENT)
    monkeypatch.setattr(link, "CONNECT_SECONDS", PATIENT)


@pytest.fixture
def as_shipped(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limiters give Redis up as soon as they do in a cluster."""
    monkeypatch.setattr(link, "TIMEOUT_SECONDS", SHIPPED)


@pytest.fixture
def admin(redis_server: Redis) -> Iterator[Client]:
    """An administrator's connection to an empty Redis."""
    client = Client(redis_server)
    client("FLUSHALL")
    yield client
    client.close()


@pytest.fixture
def address(redis_server: Redis, tmp_path: Path) -> Path:
    """The file with the address."""
    file = tmp_path / "url"
    file.write_text(redis_server.url)
    return file


@pytest.fixture
async def asking(address: Path, admin: Client) -> AsyncIterator[Asking]:
    """Requests of one process, whose limiter has reached Redis."""
    limiter = RedisLimiter(address, address.parent / "unsettled")
    async with running(limiter):
        yield Asking(limiter)


@contextlib.asynccontextmanager
async def running(limiter: RedisLimiter, patience: float = 60) -> AsyncIterator[None]:
    """Keep a limiter in touch with Redis as long as the block lasts; wait for an answer, but not longer than that."""
    task = asyncio.create_task(limiter.run())
    await limiter.started(patience)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
