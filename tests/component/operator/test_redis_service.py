"""`tenantry serve` with the user that the operator gives its tenant: it may do all that it does, and no more."""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import openai
import pytest
from localcluster.datastores import Redis
from tenantry_operator.redis.connection import Connection
from tenantry_service import policy as policies
from tenantry_service.policy import Limits

from tests.component.limits.patient import patient_service_program
from tests.component.operator.test_redis import OTHER_SEED, OVERLAP, SEED, World, there, until
from tests.component.service.harness import KEY, Program, policy, simulator_program


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A Redis of its own, since it counts what it has refused."""
    with Redis(appendonly=False) as server:
        file = tmp_path / "admin"
        file.write_text(server.url)
        admin = Connection(file)
        found = World(server, admin, file)
        found.tenant("acme")
        yield found
        await admin.close()


async def given(world: World, seed: bytes) -> str:
    """The URL that the pods get after the operator has let it in."""
    world.restart(seed)
    await world.accounts.ensure("acme", "u")
    return world.store.url("acme", "u")


async def denied(world: World) -> object:
    """What Redis has refused so far, whether commands, keys or passwords."""
    return (await world.admin.ask(("ACL", "LOG")))[0]


def chat(service: Program) -> None:
    with openai.OpenAI(base_url=service.base_url, api_key=KEY, max_retries=0, timeout=60) as sdk:
        sdk.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])


class Load:
    """Requests one after the other, beside whatever the test does."""

    def __init__(self, service: Program) -> None:
        self._service, self._ends, self.failures, self.served = service, threading.Event(), list[str](), 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                chat(self._service)
                self.served += 1
            except openai.OpenAIError as error:
                self.failures.append(str(error))


async def test_passwords_change_under_load_without_a_failed_request(world: World, tmp_path: Path) -> None:
    with simulator_program(tmp_path) as simulator:
        document = policy(simulator.port, limits=Limits(requests_per_minute=1_000_000, concurrent_requests=10))
        (tmp_path / "policy.json").write_bytes(policies.encode(document))
        url = tmp_path / "url"
        url.write_text(await given(world, SEED))
        flags = ("--policy", str(tmp_path / "policy.json"), "--state-dir", str(tmp_path), "--redis-file", str(url))
        with patient_service_program(tmp_path, *flags) as service:
            chat(service)
            assert json.loads(service.get("/tenantry/v1/inflight")[1])["limiter"] == "shared"
            assert (await world.admin.ask(("EXISTS", "tn:{acme}:limits")))[0] == 1
            rounds = itertools.cycle((OTHER_SEED, SEED))
            with Load(service) as load:
                for seed in itertools.islice(rounds, 4):
                    await goes_on(load)
                    connections = await connected(world)
                    fresh = await given(world, seed)
                    await world.accounts.resync()
                    url.write_text(fresh)
                    world.accounts.delivered("acme")
                    await logs_in_anew(world, connections)
                    world.clock += OVERLAP
                    await world.accounts.resync()
                    (user,) = [line for line in await listed(world) if line.startswith("user tenant-acme ")]
                    assert user.count("#") == 1, "the former password is shut out"
                    await goes_on(load)
                    assert not connections & await connected(world), "it has logged in anew"
            assert load.failures == []
            await settles(world, load.served + 1)
            assert json.loads(service.get("/tenantry/v1/inflight")[1])["limiter"] == "shared"
        assert await denied(world) == []
        (events,) = await world.admin.ask(("XLEN", "tn:{acme}:usage"))
        assert events == load.served + 1, "each of them is to be billed, once"


async def goes_on(load: Load) -> None:
    """Wait until some more requests have been served."""
    enough = load.served + 5
    await until(lambda: load.served >= enough or bool(load.failures))


async def logs_in_anew(world: World, former: set[str]) -> None:
    """Wait until the tenant's pods have connections, and none of these."""
    async with asyncio.timeout(60):
        while not (present := await connected(world)) or present & former:  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.02)


async def settles(world: World, requests: int) -> None:
    """Wait until so many requests are to be billed: settlements travel a moment behind their answers."""
    async with asyncio.timeout(60):
        while (await world.admin.ask(("XLEN", "tn:{acme}:usage")))[0] != requests:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)


async def connected(world: World) -> set[str]:
    """The connections of the tenant's pods."""
    (found,) = await world.admin.ask(("CLIENT", "LIST"))
    lines = [line.split() for line in str(found).splitlines()]
    return {line[0] for line in lines if "user=tenant-acme" in line}


async def listed(world: World) -> list[str]:
    (found,) = await world.admin.ask(("ACL", "LIST"))
    assert isinstance(found, list)
    return [str(each) for each in found]


async def test_a_pod_counts_again_by_itself_once_its_user_is_back(world: World, tmp_path: Path) -> None:
    with simulator_program(tmp_path) as simulator:
        document = policy(simulator.port, limits=Limits(requests_per_minute=1_000_000))
        (tmp_path / "policy.json").write_bytes(policies.encode(document))
        url = tmp_path / "url"
        url.write_text(await given(world, SEED))
        flags = ("--policy", str(tmp_path / "policy.json"), "--state-dir", str(tmp_path), "--redis-file", str(url))
        with patient_service_program(tmp_path, *flags) as service:
            chat(service)
            world.server.kill()
            assert mode(service, "refusing")
            with pytest.raises(openai.APIStatusError) as refused:
                chat(service)
            assert refused.value.status_code == 503
            world.server.start()
            await asyncio.to_thread(time.sleep, 0.5)
            assert json.loads(service.get("/tenantry/v1/inflight")[1])["limiter"] == "refusing", "it has no user there"
            await world.accounts.resync()
            await there(world, 1)
            assert mode(service, "shared")
            chat(service)


def mode(service: Program, wanted: str) -> bool:
    """Wait until the pod says that it counts so."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if json.loads(service.get("/tenantry/v1/inflight")[1])["limiter"] == wanted:
            return True
        time.sleep(0.05)
    return False
