"""Real PostgreSQL, made for the session; every test gets an empty database of it and of Redis."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from localcluster.datastores import Postgres, Redis
from tenantry_service import usage_sources
from tenantry_service.ledger import link as links
from tenantry_service.ledger.link import Link
from tenantry_service.writer import mover

from tests.component.ledger.world import PATIENT, World

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores get more time than in a cluster: what comes of one that is slow is not what is tested here."""
    for module, name in (
        (links, "CONNECT_SECONDS"),
        (mover, "CONNECT_SECONDS"),
        (mover, "STATEMENT_SECONDS"),
        (usage_sources, "REDIS_SECONDS"),
    ):
        monkeypatch.setattr(module, name, PATIENT)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    # Tests kill the process, never the machine.
    with Postgres(settings={"fsync": "off"}) as running:
        yield running


@pytest.fixture
async def redis(redis_server: Redis) -> AsyncIterator[Link]:
    """A link to an empty Redis."""
    link = Link(lambda: redis_server.url, PATIENT)
    await link.one("FLUSHALL")
    yield link
    await link.close()


@pytest.fixture
def database(postgres_server: Postgres) -> str:
    """The URL of an empty database."""
    name = f"test_{next(_numbers)}"

    async def create() -> None:
        connection = await asyncpg.connect(postgres_server.url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    with asyncio.Runner() as runner:
        runner.run(create())
    return postgres_server.database_url(name)


@pytest.fixture
def world(redis: Link, database: str) -> World:
    """A writer's parts, to be run step by step."""
    return World(redis, database)
