"""Operators that come, go, are killed and meet each other: real processes against a real API server."""

import hashlib
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster.cluster import TENANTS, TIERS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operator, Operators
from tests.cluster.recording_proxy import Asked, Fault, Harm, proxies

#: Seconds until another operator leads, after one has died or stopped to move.
HAND_OVER = 10.0
#: Seconds after which a tenant that is not Ready yet is said to be on its way, which costs calls (``report.HOLD``).
HOLD = 10.0


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A tenant's name of the test's own."""
    return f"t-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"


@pytest.fixture
def operators(cluster: Cluster, installation: Installation, tmp_path: Path) -> Iterator[Operators]:
    """Operators; when the test is over, one of them takes all Tenants away."""
    cluster.tier()
    running = Operators(installation.operator, tmp_path)
    yield running
    try:
        running.end()
        if cluster.call("GET", TENANTS)["items"]:
            running.start(lease="cleaner")  # a Lease of its own, in case that the test has killed a holder
            cluster.empty()
    finally:
        running.end()


def test_a_deletion_without_an_operator_is_finished_by_the_next(
    cluster: Cluster, operators: Operators, name: str
) -> None:
    first = operators.start()
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    assert first.stop() == 0
    cluster.delete(f"{TENANTS}/{name}")
    cluster.delete(f"{TIERS}/standard")
    operators.start()
    cluster.gone(name)


def test_an_object_of_another_set_is_left_alone(cluster: Cluster, operators: Operators, name: str) -> None:
    first = operators.start()
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    first.stop()
    path = f"/api/v1/namespaces/tenant-{name}/configmaps/tenantry-policy"
    cluster.delete(path)
    labels = {"applyset.kubernetes.io/part-of": "applyset-other-v1"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tenantry-policy", "labels": labels}}
    cluster.apply(path, {**body, "data": {"policy.json": "theirs"}})
    operators.start()
    stalled = cluster.wait_for(name, "Stalled", "True", "ObjectConflict")
    assert "tenantry-policy" in stalled["message"]
    assert cluster.call("GET", path)["data"] == {"policy.json": "theirs"}


def test_a_new_tenant_costs_at_most_three_calls_more_than_it_has_objects(
    cluster: Cluster, operators: Operators, name: str
) -> None:
    running = operators.start().says("synced")
    owners = [{"kind": "User", "name": "ada"}]
    for each in (name, *(f"{name}-{number}" for number in range(2, 6))):
        before, began = calls(running), time.monotonic()
        cluster.tenant(each, autoscaling={"minReplicas": 1, "maxReplicas": 3}, owners=owners)
        cluster.wait_for(each, "Ready", "True")
        used, objects = calls(running) - before, len(cluster.objects(each))
        if time.monotonic() - began < HOLD / 2 or used <= objects + 3:
            break  # else the machine stood still, and that it is on its way was told, too: the next one counts
        running.settles()
    assert used <= objects + 3, f"{used:.0f} calls for {objects} objects"


def calls(operator: Operator) -> float:
    """Requests so far, without lists and streams of everything, which are there whatever tenants there are."""
    text = operator.get("/metrics")[1]
    counted = [line for line in text.splitlines() if line.startswith("tenantry_kube_requests_total{")]
    return sum(
        float(line.rpartition(" ")[2]) for line in counted if 'verb="LIST"' not in line and 'verb="WATCH"' not in line
    )


def test_at_rest_nothing_is_written_also_not_after_a_restart(cluster: Cluster, operators: Operators, name: str) -> None:
    first = operators.start()
    labels = {"tenantry.dev/upstream-credentials": "true"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "at-rest", "labels": labels}}
    secret_path = "/api/v1/namespaces/tenantry-system/secrets/at-rest"
    cluster.apply(secret_path, {**secret, "stringData": {"api-key": "sk"}})
    upstream = {"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "at-rest"}
    for each in (name, f"{name}-two"):
        cluster.tenant(each, autoscaling={"maxReplicas": 3}, upstreams=[upstream])
        cluster.wait_for(each, "Ready", "True")
    first.settles()  # the HPA and the quota controller have their say
    written, versions = first.written(), written_by_us(cluster, name, f"{name}-two")
    time.sleep(4)
    assert first.written() == written
    assert first.stop() == 0
    second = operators.start().says("synced")
    time.sleep(4)
    assert second.written() == {}
    assert written_by_us(cluster, name, f"{name}-two") == versions
    cluster.delete(secret_path)


def written_by_us(cluster: Cluster, *names: str) -> dict[str, str]:
    """Every object's uid and the times at which the operator last wrote to it."""
    found: dict[str, str] = {}
    for name in names:
        objects = {"tenant": cluster.call("GET", f"{TENANTS}/{name}"), **cluster.objects(name)}
        for key, each in objects.items():
            fields = each["metadata"]["managedFields"]
            ours = [entry["time"] for entry in fields if entry["manager"] == "tenantry-operator"]
            found[f"{name}/{key}"] = f"{each['metadata']['uid']} {ours}"
    return found


def test_of_two_operators_one_writes_until_it_goes(cluster: Cluster, operators: Operators, name: str) -> None:
    first = operators.start().says("leading")
    second = operators.start().says("standing by")
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    assert first.writes() > 0
    assert second.writes() == 0
    assert second.get("/readyz")[0] == 200
    assert first.stop() == 0
    second.says("leading")
    cluster.tenant(f"{name}-two")
    cluster.wait_for(f"{name}-two", "Ready", "True")


def test_the_other_takes_over_from_one_that_was_killed(cluster: Cluster, operators: Operators, name: str) -> None:
    first = operators.start().says("leading")
    second = operators.start().says("standing by")
    first.kill()
    killed = datetime.now(UTC)
    cluster.tenant(name)
    second.says("leading")
    assert (second.said_at("leading") - killed).total_seconds() <= HAND_OVER
    cluster.wait_for(name, "Ready", "True")
    assert second.writes() > 0


def test_a_leader_that_was_paused_in_the_middle_of_its_work_writes_nothing_more(
    cluster: Cluster, installation: Installation, operators: Operators, name: str, tmp_path: Path
) -> None:
    cluster.tenant(name)
    with proxies(installation.operator, tmp_path) as ways:
        way = ways.open()
        operators.kubeconfig = way.kubeconfig
        first = operators.start(revived=False)
        cluster.wait_for(name, "Ready", "True")
        operators.kubeconfig = installation.operator
        second = operators.start().says("standing by")
        first.settles()
        way.writes.clear()
        paused: list[datetime] = []

        def pause_at_the_first_write(asked: Asked) -> None:
            if asked.is_write and not way.writes:
                first.process.send_signal(signal.SIGSTOP)
                paused.append(datetime.now(UTC))

        way.fault = pause_at_the_first_write
        cluster.tenant(name, limits={"requestsPerMinute": 7})
        eventually("it is paused in its work", lambda: bool(way.writes))
        second.says("leading")
        assert (second.said_at("leading") - paused[0]).total_seconds() <= HAND_OVER
        cluster.wait_for(name, "Ready", "True")
        eventually("the other has done the work", lambda: cluster.policy(name)["limits"].get("requestsPerMinute") == 7)
        second.settles()  # all that it has to write is written
        done, sent = written_by_us(cluster, name), len(way.writes)
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(timeout=60) == 1
        assert len(way.writes) == sent
        assert written_by_us(cluster, name) == done


def test_an_operator_that_lost_its_lease_ends(cluster: Cluster, operators: Operators) -> None:
    first = operators.start(revived=False).says("leading")
    lease = "/apis/coordination.k8s.io/v1/namespaces/tenantry-system/leases/tenantry-operator"
    cluster.patch(lease, {"spec": {"holderIdentity": "somebody"}})
    assert first.process.wait(timeout=60) == 1


def test_the_probes_tell_health_and_readiness(operators: Operators) -> None:
    operator = operators.start().says("synced")
    assert operator.get("/healthz") == (200, "ok\n")
    assert operator.get("/readyz") == (200, "ok\n")
    assert operator.metric("tenantry_leading") == 1


def test_release_all_frees_tenants_and_stops_the_operator(
    cluster: Cluster, installation: Installation, operators: Operators, name: str, tmp_path: Path
) -> None:
    operator = operators.start(revived=False)
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    with proxies(installation.operator, tmp_path) as before:
        way = before.open()
        conflicts = iter([Fault(Harm.REFUSE, 409)])  # somebody else has changed the finalizers since they were read
        way.fault = lambda asked: next(conflicts, None) if asked == Asked("patch", f"{TENANTS}/{name}") else None
        assert operators.release_all(way.kubeconfig) == 0
    assert operator.process.wait(timeout=60) == 1
    tenant = cluster.call("GET", f"{TENANTS}/{name}")
    assert "finalizers" not in tenant["metadata"]
    assert cluster.key(name) is not None
    try:
        waiting = operators.start().says("standing by")
        time.sleep(2)
        assert waiting.writes() == 0
        waiting.kill()
    finally:
        cluster.delete("/apis/coordination.k8s.io/v1/namespaces/tenantry-system/leases/tenantry-operator")
