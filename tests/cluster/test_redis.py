"""An operator with a Redis: users come and go with their Tenants, an outage holds nobody up, and spend is shown."""

import base64
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from localcluster.datastores import Redis
from tenantry_operator.redis.connection import Answer, Connection, Refused, StoreError

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import SYSTEM, Installation
from tests.cluster.kubectl import Kubectl
from tests.cluster.operator_process import Operator, Operators


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """One that forgets its users when it ends."""
    with Redis(appendonly=False) as running:
        yield running


@pytest.fixture(scope="module")
def operators(
    cluster: Cluster, installation: Installation, redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operators]:
    """Operators that know of it."""
    cluster.tier()
    started = Operators(installation.operator, tmp_path_factory.mktemp("with-redis"))
    try:
        yield started
        cluster.empty()
    finally:
        started.end()


@pytest.fixture(scope="module")
def url_file(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("redis") / "url"
    file.write_text(redis.url)
    return file


@pytest.fixture(scope="module")
def running(operators: Operators, url_file: Path) -> Operator:
    """One of them, at work."""
    return operators.start(f"--redis-file={url_file}", lease="with-redis").says("synced")


async def ask(file: Path, *command: str) -> Answer:
    """One command over a connection of its own."""
    connection = Connection(file)
    try:
        return (await connection.ask(command))[0]
    finally:
        await connection.close()


def handed_out(cluster: Cluster, name: str, directory: Path) -> Path:
    """The URL that the tenant's pods get, in a file as they find it."""
    secret = cluster.find(f"/api/v1/namespaces/tenant-{name}/secrets/redis")
    assert secret is not None
    file = directory / f"{name}-url"
    file.write_text(base64.b64decode(secret["data"]["url"]).decode())
    return file


def of_kind(cluster: Cluster, name: str, plural: str) -> list[str]:
    return [each.partition("/")[2] for each in cluster.objects(name) if each.startswith(f"{plural}/")]


async def test_a_tenants_pods_reach_its_keys_and_no_others(cluster: Cluster, running: Operator, tmp_path: Path) -> None:
    for name in ("red", "blue"):
        cluster.tenant(name, autoscaling={"maxReplicas": 2}, limits={"requestsPerMinute": 60})
        cluster.wait_for(name, "Ready", "True")
    red, blue = (handed_out(cluster, name, tmp_path) for name in ("red", "blue"))
    assert await ask(red, "SET", "tn:{red}:x", "1") == "OK"
    for file, command in ((blue, "GET"), (blue, "DEL")):
        with pytest.raises(Refused, match="NOPERM"):
            await ask(file, command, "tn:{red}:x")
    assert cluster.condition("red", "Degraded") is not None
    cluster.wait_for("red", "Degraded", "False")  # limits hold for both pods together
    pod = cluster.objects("red")["deployments/api"]["spec"]["template"]["spec"]
    assert "--redis-file=/etc/tenantry/redis/url" in pod["containers"][0]["args"]
    assert {"name": "redis", "secret": {"secretName": "redis", "defaultMode": 0o440}} in pod["volumes"]
    (policy,) = [each for path, each in cluster.objects("red").items() if path == "networkpolicies/allow-redis"]
    (rule,) = policy["spec"]["egress"]
    assert rule["to"] == [{"ipBlock": {"cidr": "127.0.0.1/32"}}]
    assert len(rule["ports"]) == 1


async def test_no_password_is_in_a_log_an_event_a_status_or_a_metric(
    cluster: Cluster, running: Operator, redis: Redis, tmp_path: Path
) -> None:
    password = handed_out(cluster, "red", tmp_path).read_text().partition("@")[0].rpartition(":")[2]
    assert len(password) == 43
    events = cluster.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
    shown = [running.log.read_text(), running.get("/metrics")[1], json.dumps(events)]
    shown += [json.dumps(cluster.find(f"{TENANTS}/red")), json.dumps(cluster.objects("red")["deployments/api"])]
    for text in shown:
        assert password not in text
        assert redis.password not in text


def test_an_operator_that_starts_anew_finds_users_and_secrets_as_they_should_be(
    cluster: Cluster, operators: Operators, running: Operator, url_file: Path
) -> None:
    running.settles()
    late = operators.start(f"--redis-file={url_file}", lease="with-redis-late").says("synced")
    eventually("it has looked at all users", lambda: late.metric("tenantry_redis_up") == 1)
    eventually("it has come to all tenants", lambda: late.metric("tenantry_reconcile_duration_seconds_count") >= 2)
    assert late.written() == {}
    assert late.metric("tenantry_redis_user_changes_total{") == 0
    assert late.stop() == 0


async def test_what_the_ledger_has_added_up_is_in_the_status_and_written_once(
    cluster: Cluster, running: Operator, url_file: Path, kubectl: Kubectl, today: date
) -> None:
    month = f"{today:%Y-%m}"
    used = {"requests": 3, "inputTokens": 30, "outputTokens": 12, "nanoUsd": 1_234_500_000}
    rolled = {"v": 1, "month": {"start": f"{month}-01", **used}}
    await ask(url_file, "SET", "tn:{red}:spend", json.dumps(rolled))

    def usage() -> object:
        found = cluster.find(f"{TENANTS}/red")
        return found and found["status"].get("usage")

    eventually("it is shown", usage)
    assert usage() == {"windowStart": f"{month}-01T00:00:00Z", "requests": 3, "tokens": 42, "spend": "1.2345"}
    header, row = kubectl("get", "tenant", "red").stdout.splitlines()
    assert row[header.index("SPEND") :].split()[0] == "1.2345"
    written = running.settles().written()
    await ask(url_file, "SET", "tn:{red}:spend", json.dumps({**rolled, "asOf": "later"}))
    eventually("it is read again", lambda: running.metric("tenantry_redis_up") == 1)
    assert running.written() == written


async def test_a_redis_that_is_away_degrades_whom_it_serves_and_holds_up_nobody(
    cluster: Cluster, running: Operator, redis: Redis, tmp_path: Path
) -> None:
    file = handed_out(cluster, "blue", tmp_path)
    redis.kill()
    cluster.wait_for("blue", "Degraded", "True", "LimitsUnreachable")
    cluster.tenant("green")
    cluster.wait_for("green", "Ready", "True")
    cluster.delete(f"{TENANTS}/green")
    eventually(
        "it waits for Redis with the removal of its user",
        lambda: (
            cluster.find("/api/v1/namespaces/tenant-green") is None
            and "user in Redis" in str(cluster.find(f"{TENANTS}/green"))
        ),
    )
    redis.start()
    cluster.gone("green")
    cluster.wait_for("blue", "Degraded", "False")
    assert await ask(file, "PING") == "PONG"


async def test_a_deleted_tenant_is_shut_out(
    cluster: Cluster, running: Operator, url_file: Path, tmp_path: Path
) -> None:
    file = handed_out(cluster, "blue", tmp_path)
    assert await ask(file, "PING") == "PONG"
    cluster.delete(f"{TENANTS}/blue")
    cluster.gone("blue")
    with pytest.raises(StoreError, match="WRONGPASS"):
        await ask(file, "PING")
    assert await ask(url_file, "SISMEMBER", "tenantry:retired", "blue") == 1


def test_another_seed_gives_every_tenant_another_password(
    cluster: Cluster, operators: Operators, running: Operator, url_file: Path, tmp_path: Path
) -> None:
    before = handed_out(cluster, "red", tmp_path).read_text()
    assert running.stop() == 0
    cluster.delete(f"/api/v1/namespaces/{SYSTEM}/secrets/tenantry-redis-seed")
    again = operators.start(f"--redis-file={url_file}", "--redis-overlap=0", lease="with-redis").says("synced")
    eventually("the pods get it", lambda: handed_out(cluster, "red", tmp_path).read_text() != before)
    eventually("the old one is shut out", lambda: again.metric('tenantry_redis_user_changes_total{change="narrowed"'))
