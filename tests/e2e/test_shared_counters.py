"""The platform with Redis and PostgreSQL: what tenants' pods may do there, what is billed, how passwords change."""

import base64
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.world import HELLO, MODEL, Access, World, answers, until

SYSTEM = "--namespace=tenantry-system"


@pytest.fixture(scope="module")
def pair(world: World) -> Iterator[tuple[Access, Access]]:
    """Two tenants that have been used."""
    with world.tenant("north"), world.tenant("south"):
        for name in ("north", "south"):
            world.wait_ready(name)
        found = world.access("north"), world.access("south")
        for access in found:
            until(lambda access=access: answers(access), "it answers", pause=0.05)  # type: ignore[misc]
        yield found


def url_of(world: World, tenant: str) -> str:
    """What the tenant's pods were given."""
    secret = world.get("secret", "redis", f"--namespace=tenant-{tenant}")
    return base64.b64decode(secret["data"]["url"]).decode()


def redis(world: World, url: str, *command: str) -> str:
    """What Redis answers to the holder of this URL. It travels over standard input."""
    inside = 'read -r url; exec redis-cli --no-auth-warning -u "$url" "$@" 2>&1'
    argv = ["exec", "--stdin", SYSTEM, "deployment/redis", "--", "sh", "-c", inside, "sh", *command]
    return world.kubectl(*argv, given=url + "\n").strip()


def administrator(world: World) -> str:
    """The default user's URL; redis-cli takes a name that is left out for an empty one."""
    secret = world.get("secret", "dev-redis", SYSTEM)
    return base64.b64decode(secret["data"]["url"]).decode().replace("://:", "://default:")


def test_a_pods_own_credentials_open_its_own_keys_and_nobody_elses(world: World, pair: tuple[Access, Access]) -> None:
    for mine, theirs in (("north", "south"), ("south", "north")):
        url = url_of(world, mine)
        own = redis(world, administrator(world), "KEYS", f"tn:{{{theirs}}}:*").split()
        assert f"tn:{{{theirs}}}:limits" in own, "they count there"
        assert redis(world, url, "EXISTS", f"tn:{{{mine}}}:limits") == "1"
        for key in own:
            assert "NOPERM" in redis(world, url, "GET", key)
            assert "NOPERM" in redis(world, url, "DEL", key)
            assert "NOPERM" in redis(world, url, "SET", key, "x")
        assert "NOPERM" in redis(world, url, "XADD", f"tn:{{{theirs}}}:usage", "*", "e", "[]")
        assert "NOPERM" in redis(world, url, "KEYS", "*")
        stolen = url.replace(f"tenant-{mine}:", f"tenant-{theirs}:")
        assert "WRONGPASS" in redis(world, stolen, "PING")


def test_no_pod_of_a_tenant_holds_a_credential_of_the_database(world: World, pair: tuple[Access, Access]) -> None:
    database = world.get("secret", "dev-postgres", SYSTEM)
    password = base64.b64decode(database["data"]["url"]).decode().partition("@")[0].rpartition(":")[2]
    assert len(password) == 32
    secrets = world.items("secrets", "--namespace=tenant-north")
    maps = world.items("configmaps", "--namespace=tenant-north")
    values = [base64.b64decode(each).decode() for secret in secrets for each in secret["data"].values()]
    values += [each for config in maps for each in config.get("data", {}).values()]
    assert len(values) >= 3
    for value in [*values, str(world.pods("north"))]:
        assert password not in value
        assert "postgres" not in value


def rows(world: World, tenant: str) -> int:
    """Requests of a tenant in the ledger."""
    query = f"select count(*) from usage_events where tenant = '{tenant}'"
    script = (
        'PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)" PGPASSWORD=$(cat /etc/tenantry/postgres-password) '
        f'psql --host 127.0.0.1 --username tenantry --tuples-only --command "{query}" tenantry'
    )
    return int(world.kubectl("exec", SYSTEM, "deployment/postgres", "--", "sh", "-c", script).strip())


def test_what_was_used_is_in_the_ledger_and_in_the_status_within_a_minute(
    world: World, pair: tuple[Access, Access]
) -> None:
    stream = ("XLEN", "tn:{north}:usage")
    until(lambda: redis(world, administrator(world), *stream) == "0", "what was used before is in the ledger")
    before = rows(world, "north")
    for _ in range(5):
        until(lambda: answers(pair[0]), "it answers", pause=0.05)
    took = until(lambda: rows(world, "north") == before + 5, "each request has a row", seconds=60)
    until(lambda: usage(world, "north").get("requests", 0) >= before + 5, "the status says so", seconds=60 - took)
    used = usage(world, "north")
    assert float(used["spend"]) > 0
    assert used["tokens"] >= 5 * 12
    row = next(row for row in world.kubectl("get", "tenants").splitlines() if row.startswith("north "))
    assert used["spend"] in row.split()


def usage(world: World, tenant: str) -> dict[str, Any]:
    found: dict[str, Any] = world.get("tenant", tenant)["status"].get("usage", {})
    return found


def test_passwords_change_under_load_without_a_failed_request(world: World, pair: tuple[Access, Access]) -> None:
    before, stop, failures, served = url_of(world, "north"), threading.Event(), list[Exception](), [0]

    def load() -> None:
        with pair[0].sdk() as sdk:
            while not stop.is_set():
                try:
                    sdk.chat.completions.create(model=MODEL, messages=HELLO)
                    served[0] += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, a request has failed
                    failures.append(error)
                time.sleep(0.05)

    asking = threading.Thread(target=load)
    asking.start()
    try:
        world.kubectl("delete", "secret", "tenantry-redis-seed", SYSTEM)
        world.kubectl("rollout", "restart", "deployment/tenantry-operator", SYSTEM)
        until(lambda: url_of(world, "north") != before, "the tenant is given another password")
        assert redis(world, before, "PING") == "PONG", "the former one is still good"
        # Whoever has to connect anew now does so with the new one; the old one ends here instead of in ten minutes.
        until(lambda: knows(world, "north", url_of(world, "north")), "the pod has read it")
        former = digest(world, before)
        redis(world, administrator(world), "ACL", "SETUSER", "tenant-north", f"!{former}")
        assert "WRONGPASS" in redis(world, before, "PING")
        time.sleep(3)
    finally:
        stop.set()
        asking.join()
    assert served[0] > 20
    assert failures == []


def digest(world: World, url: str) -> str:
    password = url.partition("@")[0].rpartition(":")[2]
    done = subprocess.run(["sha256sum"], input=password.encode(), capture_output=True, check=True)
    return done.stdout.decode().split()[0]


def knows(world: World, tenant: str, url: str) -> bool:
    """Whether the file in the tenant's pod is this one."""
    (pod,) = world.pods(tenant)
    script = "print(open('/etc/tenantry/redis/url').read(), end='')"
    name = pod["metadata"]["name"]
    return world.kubectl("exec", f"--namespace=tenant-{tenant}", name, "--", "python3", "-c", script) == url


def condition(world: World, tenant: str, kind: str) -> dict[str, str]:
    (found,) = [each for each in world.get("tenant", tenant)["status"]["conditions"] if each["type"] == kind]
    return dict(found)


def test_pods_that_lose_redis_say_so_and_come_back(world: World, pair: tuple[Access, Access]) -> None:
    world.kubectl("scale", "deployment/redis", "--replicas=0", SYSTEM)
    try:
        until(
            lambda: condition(world, "north", "Degraded")["reason"] in ("LimitsUnreachable", "LimitsRefusing"),
            "the Tenant says that its limits cannot be counted",
        )
        until(lambda: condition(world, "north", "Degraded")["reason"] == "LimitsRefusing", "its pods say so, too")
        assert condition(world, "north", "Ready")["status"] in ("True", "False")
    finally:
        world.kubectl("scale", "deployment/redis", "--replicas=1", SYSTEM)
        world.kubectl("rollout", "status", "deployment/redis", SYSTEM, "--timeout=200s")
    until(lambda: answers(pair[0]), "it answers again, with a user that Redis had lost", pause=0.5)
    until(lambda: condition(world, "north", "Degraded")["status"] == "False", "all is well")
