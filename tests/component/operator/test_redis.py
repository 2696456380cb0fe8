"""The operator's side of a real Redis: tenants' users, their passwords, and what is left of the deleted."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from localcluster.datastores import Redis
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.plan.store import Store, address, prefix, store
from tenantry_operator.redis import accounts as accounts_module
from tenantry_operator.redis.accounts import RETIRED, Accounts
from tenantry_operator.redis.connection import Connection, Refused, StoreError
from tenantry_operator.redis.usage import Usages

from tests.unit.operator.tenants import settled

SEED, OTHER_SEED = b"s" * 32, b"t" * 32
OVERLAP = 100.0
GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "datastores.md").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """One that loses everything when it ends, users first of all."""
    with Redis(appendonly=False) as running:
        yield running


@dataclass
class World:
    """A Redis, the Tenants that there are, and an operator's view of both."""

    server: Redis
    admin: Connection
    file: Path
    live: Live = field(default_factory=Live)
    told: list[str] = field(default_factory=list)
    clock: float = 0.0

    def __post_init__(self) -> None:
        self.restart(SEED)

    def restart(self, seed: bytes) -> None:
        """A new process of the operator."""
        self.store: Store = store(address(self.server.url), seed)
        self.accounts = Accounts(
            self.admin, self.live, self.store, self.told.append, overlap=OVERLAP, clock=lambda: self.clock
        )

    def tenant(self, name: str, uid: str = "u") -> None:
        """A Tenant that the operator knows of."""
        seen = settled()
        meta = replace(seen.meta, name=name, uid=uid, deletion_timestamp=None)
        self.live.tenants[name] = TenantRecord(meta, seen.status, seen.tenant)

    def delete(self, name: str) -> None:
        """It is being deleted."""
        record = self.live.tenants[name]
        meta: ObjectMeta = replace(record.meta, deletion_timestamp=datetime.now(UTC))
        self.live.tenants[name] = TenantRecord(meta, record.status, record.tenant)

    def pod(self, name: str, uid: str = "u", *, seed: bytes = SEED) -> Connection:
        """A pod of that tenant, with the URL that it was given."""
        file = self.file.parent / f"{name}-{seed[:1].decode()}"
        file.write_text(store(address(self.server.url), seed).url(name, uid))
        return Connection(file)

    async def users(self) -> list[str]:
        """The tenants' users."""
        (found,) = await self.admin.ask(("ACL", "USERS"))
        assert isinstance(found, list)
        return sorted(str(each) for each in found if each != "default")


@pytest.fixture
async def world(server: Redis, tmp_path: Path) -> AsyncIterator[World]:
    file = tmp_path / "url"
    file.write_text(server.url)
    admin = Connection(file)
    yield World(server, admin, file)
    (found,) = await admin.ask(("ACL", "USERS"))
    assert isinstance(found, list)
    await admin.ask(("FLUSHALL",), *(("ACL", "DELUSER", str(each)) for each in found if each != "default"))
    await admin.close()


async def refused(pod: Connection, *command: str) -> str:
    """What Redis says to it."""
    with pytest.raises(Refused) as caught:
        await pod.ask(command)
    await pod.close()
    return str(caught.value)


async def test_a_tenant_reads_and_writes_its_own_keys_and_nobody_elses(world: World) -> None:
    for name in ("acme", "globex"):
        world.tenant(name)
        await world.accounts.ensure(name, "u")
    await world.admin.ask(("SET", "tn:{globex}:spend", "secret"), ("SET", "other", "secret"))
    pod = world.pod("acme")
    assert await pod.ask(("SET", "tn:{acme}:a", "1"), ("GET", "tn:{acme}:a"), ("TIME",)) != []
    for key in ("tn:{globex}:spend", "other", "tn:{acme}", "tn:{acmes}:a", RETIRED):
        for command in (("GET", key), ("SET", key, "x"), ("XADD", key, "*", "e", "x"), ("DEL", key)):
            assert "NOPERM" in await refused(pod, *command), command
    for script in ("return redis.call('GET', KEYS[1])", "return redis.call('GET', 'tn:{globex}:spend')"):
        said = await refused(pod, "EVAL", script, "1", "tn:{globex}:spend")
        assert "NOPERM" in said
        # A script that does not declare the key that it goes for.
        said = await refused(pod, "EVAL", script.replace("KEYS[1]", "'other'"), "1", "tn:{acme}:a")
        assert "can't access at least one of the keys" in said


@pytest.mark.parametrize(
    "command", ["KEYS *", "SCAN 0", "ACL LIST", "CONFIG GET *", "FLUSHALL", "CLIENT LIST", "MONITOR", "SCRIPT FLUSH"]
)
async def test_a_tenant_may_not_look_around_or_change_the_server(world: World, command: str) -> None:
    world.tenant("acme")
    await world.accounts.ensure("acme", "u")
    assert "NOPERM" in await refused(world.pod("acme"), *command.split())


async def test_another_tenants_password_opens_nothing(world: World) -> None:
    for name in ("acme", "globex"):
        world.tenant(name)
        await world.accounts.ensure(name, "u")
    stolen = world.store.url("acme", "u").replace("tenant-acme", "tenant-globex")
    world.file.with_name("stolen").write_text(stolen)
    said = await refused(Connection(world.file.with_name("stolen")), "PING")
    assert "WRONGPASS" in said
    assert world.store.password("acme", "u") not in said


async def test_what_is_right_is_left_alone(world: World) -> None:
    for number in range(5):
        world.tenant(f"t{number}")
    await world.accounts.resync()
    assert await world.users() == [f"tenant-t{number}" for number in range(5)]
    for restarted in (False, True):
        if restarted:
            world.restart(SEED)
        before = await acl_calls(world)
        await world.accounts.resync()
        await world.accounts.resync()
        after = await acl_calls(world)
        assert after["list"] - before["list"] == 2
        assert after["setuser"] == before["setuser"]


async def acl_calls(world: World) -> dict[str, int]:
    """How often each ACL command was called, as Redis counts."""
    (stats,) = await world.admin.ask(("INFO", "commandstats"))
    lines = dict(line.split(":", 1) for line in str(stats).splitlines() if line.startswith("cmdstat_acl|"))
    return {
        name: int(lines.get(f"cmdstat_acl|{name}", "calls=0,").split("calls=")[1].split(",")[0])
        for name in ("list", "setuser")
    }


@pytest.mark.parametrize(
    "harm",
    [
        "DELUSER tenant-acme",
        "SETUSER tenant-acme ~*",
        "SETUSER tenant-acme +flushall",
        "SETUSER tenant-acme off",
        "SETUSER tenant-acme nopass",
    ],
)
async def test_a_user_that_somebody_has_changed_is_put_right(world: World, harm: str) -> None:
    world.tenant("acme")
    await world.accounts.resync()
    (before,) = await world.admin.ask(("ACL", "GETUSER", "tenant-acme"))
    await world.admin.ask(("ACL", *harm.split()))
    await world.accounts.resync()
    assert await world.admin.ask(("ACL", "GETUSER", "tenant-acme")) == [before]


async def test_users_come_back_by_themselves_after_redis_has_lost_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_module, "BEAT", 0.05)
    for number in range(300):
        world.tenant(f"t{number}")
    looking = asyncio.create_task(world.accounts.forever())
    try:
        await there(world, 300)
        world.server.kill()
        # From then on it is away; a few more looks, and no time goes by.
        await until(lambda: world.accounts._silent_since is not None)
        await asyncio.sleep(0.2)
        assert world.live.store_problem is None, "a restart is no outage yet"
        world.clock += 60
        await until(lambda: (world.live.store_problem or ("",))[0] is Reason.LIMITS_UNREACHABLE)
        assert sorted(world.told) == sorted(world.live.tenants)
        world.told.clear()
        world.server.start()
        await there(world, 300)
        await until(lambda: world.live.store_problem is None)
        assert sorted(world.told) == sorted(world.live.tenants)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def until(so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not so():  # noqa: ASYNC110 - whatever it is, it gives no sign
            await asyncio.sleep(0.02)


async def there(world: World, number: int) -> None:
    """Wait until there are so many users."""
    async with asyncio.timeout(60):
        while True:
            try:
                if len(await world.users()) == number:
                    return
            except StoreError:
                pass
            await asyncio.sleep(0.02)


async def test_a_password_changes_without_a_gap(world: World) -> None:
    world.tenant("acme")
    await world.accounts.ensure("acme", "u")
    old = world.pod("acme")
    await old.ask(("PING",))
    world.restart(OTHER_SEED)
    await world.accounts.ensure("acme", "u")
    await world.accounts.resync()
    assert world.told == ["acme"], "it has to get its new password"
    for seed in (SEED, OTHER_SEED):
        pod = world.pod("acme", seed=seed)
        assert await pod.ask(("PING",)) == ["PONG"]
        await pod.close()
    world.clock += 10 * OVERLAP
    await world.accounts.resync()
    assert await world.pod("acme").ask(("PING",)) == ["PONG"], "nobody has handed out the new one yet"
    world.accounts.delivered("acme")
    await world.accounts.resync()
    assert await world.pod("acme").ask(("PING",)) == ["PONG"], "it takes pods a moment to read it"
    world.clock += OVERLAP
    await world.accounts.resync()
    assert "WRONGPASS" in await refused(world.pod("acme"), "PING")
    assert await old.ask(("PING",)) == ["PONG"], "connections that were made before stay"
    await old.close()
    assert await world.pod("acme", seed=OTHER_SEED).ask(("PING",)) == ["PONG"]
    world.told.clear()
    await world.accounts.resync()
    assert world.told == []


async def test_a_deleted_tenants_keys_stay_until_all_of_it_is_billed(world: World) -> None:
    world.tenant("acme")
    world.tenant("acme-2")
    await world.accounts.resync()
    pod = world.pod("acme")
    for name in ("acme", "acme-2"):
        own = prefix(name)
        await world.admin.ask(
            ("XADD", f"{own}usage", "1-1", "e", "[]"),
            ("HSET", f"{own}reservations", "r", "x"),
            ("SET", f"{own}limits", "x"),
            ("SET", f"{own}spend", "x"),
        )
    await pod.ask(("PING",))
    world.delete("acme")
    await world.accounts.retire("acme")
    assert await world.users() == ["tenant-acme-2"]
    with pytest.raises(StoreError):
        await pod.ask(("GET", "tn:{acme}:limits"))
    await world.accounts.resync()
    await world.accounts.forget_retired()
    del world.live.tenants["acme"]
    await world.accounts.forget_retired()
    assert len(await keys(world, "acme")) == 4, "there is an event that is not in the ledger"
    await world.admin.ask(("XDEL", "tn:{acme}:usage", "1-1"))
    await world.accounts.forget_retired()
    assert len(await keys(world, "acme")) == 4, "there is a reservation that is to be swept"
    await world.admin.ask(("HDEL", "tn:{acme}:reservations", "r"))
    await world.accounts.forget_retired()
    assert await keys(world, "acme") == []
    assert len(await keys(world, "acme-2")) == 4
    assert await world.admin.ask(("SCARD", RETIRED)) == [0]


async def keys(world: World, tenant: str) -> list[object]:
    (found,) = await world.admin.ask(("KEYS", f"{prefix(tenant)}*"))
    assert isinstance(found, list)
    return list(found)


async def test_a_tenant_of_the_same_name_keeps_what_is_left_of_the_former(world: World) -> None:
    world.tenant("acme")
    await world.accounts.resync()
    world.delete("acme")
    await world.accounts.retire("acme")
    await world.admin.ask(("SET", "tn:{acme}:limits", "spent"))
    world.tenant("acme", uid="v")
    await world.accounts.ensure("acme", "v")
    await world.accounts.forget_retired()
    assert await keys(world, "acme") == ["tn:{acme}:limits"]
    assert "WRONGPASS" in await refused(world.pod("acme", uid="u"), "PING")
    assert await world.pod("acme", uid="v").ask(("PING",)) == ["PONG"]


async def test_usage_is_read_for_all_tenants_at_once_and_told_once(world: World) -> None:
    told: list[str] = []
    for number in range(1200):
        world.tenant(f"t{number}")
    sums = {"start": "2026-11-01", "requests": 2, "inputTokens": 3, "outputTokens": 4, "nanoUsd": 5}
    await world.admin.ask(
        *(("SET", f"tn:{{t{number}}}:spend", json.dumps({"v": 1, "month": sums})) for number in (0, 700, 1199)),
        ("SET", "tn:{t1}:spend", "broken"),
    )
    usages = Usages(world.admin, world.live, lambda tenant, _: told.append(tenant))
    await usages.read()
    assert sorted(told) == ["t0", "t1199", "t700"]
    assert world.live.usage["t700"].month.nano_usd == 5
    await usages.read()
    assert len(told) == 3
    await world.admin.ask(("SET", "tn:{t0}:spend", json.dumps({"v": 1, "month": {**sums, "requests": 3}})))
    del world.live.tenants["t700"]
    await usages.read()
    assert told[3:] == ["t0"]
    assert "t700" not in world.live.usage


async def test_the_operator_needs_no_more_rights_than_the_guide_gives_it(world: World) -> None:
    (said,) = re.findall(r"operator's user needs `([^`]+)` on `(~[^`]+)` and\n`(~[^`]+)`", GUIDE)
    rules = " ".join(said).split()
    await world.admin.ask(("ACL", "SETUSER", "operator", "on", ">own", *rules))
    world.file.write_text(f"redis://operator:own@127.0.0.1:{world.server.port}")
    await world.admin.close()
    world.tenant("acme")
    await world.accounts.ensure("acme", "u")
    await world.accounts.resync()
    await Usages(world.admin, world.live, lambda _tenant, _pause: None).read()
    world.delete("acme")
    await world.accounts.retire("acme")
    del world.live.tenants["acme"]
    await world.accounts.forget_retired()
    assert await world.accounts._process() != ""
    world.file.write_text(world.server.url)
    await world.admin.close()


async def test_the_operators_own_password_may_change(world: World) -> None:
    await world.admin.ask(("ACL", "SETUSER", "second", "on", ">new", "~*", "&*", "+@all"))
    world.file.write_text(f"redis://second:new@127.0.0.1:{world.server.port}")
    assert await world.admin.ask(("ACL", "WHOAMI")) == ["default"]
    await world.admin.ask(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"))
    assert await world.admin.ask(("ACL", "WHOAMI")) == ["second"]
    world.file.write_text(world.server.url)
    await world.admin.close()


async def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(world: World) -> None:
    slow = asyncio.create_task(world.admin.ask(("BLPOP", "nothing", "0")))
    onlooker = Connection(world.file)
    async with asyncio.timeout(60):
        while "blocked_clients:1" not in str(await onlooker.ask(("INFO", "clients"))):  # noqa: ASYNC110 - no sign
            await asyncio.sleep(0.02)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    await onlooker.close()
    assert await world.admin.ask(("ECHO", "mine")) == ["mine"]


async def test_a_node_of_a_cluster_is_refused_by_that_reason(tmp_path: Path) -> None:
    with Redis(settings=["cluster-enabled yes"]) as node:
        file = tmp_path / "url"
        file.write_text(node.url)
        connection = Connection(file)
        with pytest.raises(Refused, match="Redis Cluster, which is not supported") as refused:
            await connection.ask(("PING",))
        assert node.password not in str(refused.value)
        await connection.close()


async def test_an_outage_is_told_without_the_password(world: World) -> None:
    file = world.file.with_name("away")
    file.write_text("redis://:hidden@127.0.0.1:1/0")
    with pytest.raises(StoreError, match="Redis does not answer") as caught:
        await Connection(file).ask(("PING",))
    assert "hidden" not in str(caught.value)
    file.write_text(world.server.url.replace(world.server.password, "hidden"))
    with pytest.raises(Refused, match="WRONGPASS") as refusal:
        await Connection(file).ask(("PING",))
    assert "hidden" not in str(refusal.value)
