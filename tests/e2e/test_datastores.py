"""The development datastores: they answer, to those who know the password and to nobody else."""

import pytest

from tests.e2e.world import CommandError, World

SYSTEM = "--namespace=tenantry-system"


@pytest.fixture(scope="module")
def stores(world: World) -> World:
    """The platform with its datastores ready."""
    if not world.exists("deployment", "redis", SYSTEM):
        settings = ("--reuse-values", "--set", "dev.datastores.enabled=true", "--wait", "--timeout=360s")
        world.helm("upgrade", "tenantry", world.chart, *settings)
    for name in ("redis", "postgres"):
        world.kubectl("rollout", "status", f"deployment/{name}", SYSTEM, "--timeout=200s")
    return world


def inside(world: World, store: str, script: str) -> str:
    return world.kubectl("exec", SYSTEM, f"deployment/{store}", "--", "sh", "-c", script).strip()


def test_redis_answers_with_its_password_only(stores: World) -> None:
    password = "$(sed -n 's/^requirepass //p' /etc/tenantry/redis.conf)"
    assert inside(stores, "redis", f"REDISCLI_AUTH={password} redis-cli ping 2>&1") == "PONG"
    assert "NOAUTH" in inside(stores, "redis", "redis-cli ping 2>&1")


def test_postgresql_answers_with_its_password_only(stores: World) -> None:
    client = 'PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)" psql --host 127.0.0.1 --username tenantry --tuples-only'
    query = f"{client} --command 'select 1' tenantry 2>&1"
    assert inside(stores, "postgres", f"PGPASSWORD=$(cat /etc/tenantry/postgres-password) {query}") == "1"
    with pytest.raises(CommandError):
        inside(stores, "postgres", f"PGPASSWORD=wrong {query}")


def test_no_password_is_on_a_command_line(stores: World) -> None:
    for store in ("redis", "postgres"):
        shown = inside(stores, store, "tr '\\0' ' ' < /proc/1/cmdline")
        secret = stores.get("secret", "dev-datastores", SYSTEM)
        assert shown
        for value in secret["data"].values():
            assert value not in shown
