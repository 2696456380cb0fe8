"""Operators that come, go, are killed and meet each other: real processes against a real API server."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.cluster.operator_process import TENANTS, TIERS, Cluster, Operators, Proxy, killing_proxy


@pytest.fixture(scope="module")
def cluster(control_plane_kubeconfig: Path) -> Cluster:
    """The cluster, with our CRDs."""
    found = Cluster(control_plane_kubeconfig)
    found.install()
    return found


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A tenant's name of the test's own."""
    return f"t-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"


@pytest.fixture
def operators(cluster: Cluster, tmp_path: Path) -> Iterator[Operators]:
    """Operators; when the test is over, one of them takes all Tenants away."""
    cluster.tier()
    running = Operators(cluster.kubeconfig, tmp_path)
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
    time.sleep(2)  # let the HPA and the quota controller have their say
    writes, versions = first.writes(), written_by_us(cluster, name, f"{name}-two")
    time.sleep(4)
    assert first.writes() == writes
    assert first.stop() == 0
    second = operators.start().says("synced")
    time.sleep(4)
    assert second.writes() == 0
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
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    assert second.writes() > 0


def test_an_operator_that_lost_its_lease_ends(cluster: Cluster, operators: Operators) -> None:
    first = operators.start().says("leading")
    lease = "/apis/coordination.k8s.io/v1/namespaces/tenantry-system/leases/tenantry-operator"
    cluster.patch(lease, {"spec": {"holderIdentity": "somebody"}})
    assert first.process.wait(timeout=30) == 1


def test_the_probes_tell_health_and_readiness(operators: Operators) -> None:
    operator = operators.start().says("synced")
    assert operator.get("/healthz") == (200, "ok\n")
    assert operator.get("/readyz") == (200, "ok\n")
    assert operator.metric("tenantry_leading") == 1


def test_release_all_frees_tenants_and_stops_the_operator(cluster: Cluster, operators: Operators, name: str) -> None:
    operator = operators.start()
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    assert operators.release_all() == 0
    assert operator.process.wait(timeout=30) == 1
    tenant = cluster.call("GET", f"{TENANTS}/{name}")
    assert "finalizers" not in tenant["metadata"]
    assert cluster.key(name) is not None
    waiting = operators.start().says("standing by")
    time.sleep(2)
    assert waiting.writes() == 0
    waiting.kill()
    cluster.delete("/apis/coordination.k8s.io/v1/namespaces/tenantry-system/leases/tenantry-operator")


class Mortal:
    """What a kubelet does for the operator: start it anew when it has ended."""

    def __init__(self, proxy: Proxy, directory: Path) -> None:
        self.proxy = proxy
        self._operators = Operators(proxy.kubeconfig, directory)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._supervise)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._operators.end()

    def _supervise(self) -> None:
        while not self._ending.wait(0.05):
            if self.proxy.victim is None or self.proxy.victim.process.poll() is not None:
                # A Lease of its own for each, so that nobody waits for a dead holder's to run out.
                self.proxy.victim = self._operators.start(lease=f"life-{len(self._operators.started)}")


class Life:
    """What happens to one tenant from its creation to its end."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self.keys: dict[str, str] = {}

    def created(self) -> None:
        """The Tenant is applied and Ready."""
        self._cluster.tenant(self._name)
        self._cluster.wait_for(self._name, "Ready", "True")
        self._note_keys()

    def changed(self) -> set[str]:
        """It gets a second key and more pods; gives the objects that it then consists of."""
        more = {"keys": [{"name": "default"}, {"name": "ci"}], "autoscaling": {"maxReplicas": 2}}
        self._cluster.tenant(self._name, **more)
        self._cluster.wait_for(self._name, "Ready", "True")
        self._note_keys()
        policy = {record["id"] for record in self._cluster.policy(self._name)["keys"]}
        held = {self._key_id(key) for key in ("default", "ci")}
        assert policy == held, "the policy holds exactly the keys that the Secrets hold"
        return set(self._cluster.objects(self._name))

    def deleted(self) -> None:
        """Nothing of it is left."""
        self._cluster.delete(f"{TENANTS}/{self._name}")
        self._cluster.gone(self._name)

    def _key_id(self, key: str) -> str:
        secret = self._cluster.key(self._name, key)
        assert secret is not None
        return base64.b64decode(secret["data"]["api-key"]).decode().split("_")[1]

    def _note_keys(self) -> None:
        for key in ("default", "ci"):
            secret = self._cluster.key(self._name, key)
            if secret is not None:
                uid = self.keys.setdefault(key, secret["metadata"]["uid"])
                assert uid == secret["metadata"]["uid"], f"key {key} was issued twice"


@pytest.fixture(scope="module")
def mortal(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    """An operator behind a proxy that can kill it, started anew whenever that happens."""
    directory = tmp_path_factory.mktemp("mortal")
    cluster.tier()
    with killing_proxy(cluster.kubeconfig, directory) as proxy, Mortal(proxy, directory) as running:
        yield running


@pytest.fixture(scope="module")
def reference(cluster: Cluster, mortal: Mortal) -> tuple[int, set[str]]:
    """An undisturbed life: how many writes it takes, and the objects that it leads to."""
    mortal.proxy.kill_after_writes(0)
    life = Life(cluster, "t-reference")
    life.created()
    objects = life.changed()
    life.deleted()
    return len(mortal.proxy.writes), objects


#: After which write the operator is killed. A life takes some 40 writes, each of these tests some 10 s: all of the
#: beginning, where claim and keys are made, and a sample of what follows: applying, changing, deleting.
CRASHES = (*range(1, 7), 12, 19, 21, 28, 36, 38)


@pytest.mark.parametrize("crash", CRASHES)
def test_killed_after_a_write_it_ends_where_an_undisturbed_life_does(
    cluster: Cluster, mortal: Mortal, name: str, crash: int, reference: tuple[int, set[str]]
) -> None:
    writes, objects = reference
    assert crash < writes, "the sample reaches beyond a life's writes: make it smaller"
    mortal.proxy.kill_after_writes(crash)
    life = Life(cluster, name)
    life.created()
    assert life.changed() == objects
    life.deleted()
    assert mortal.proxy.kills == 1
    issued = [path for method, path, status in mortal.proxy.writes if path.endswith("/secrets") and status == 201]
    assert len(issued) == 2
