"""The life of a local cluster, with real containers: up, used, hurt, up again, down to nothing.

The tests are one story about one cluster, told in the order of this file. It has a state directory of its own, and with
it its own engine, names, ports and network: the demo of this checkout goes on beside it.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from localcluster import cluster as clusters
from localcluster import debian, engine, leftovers, ports, tools
from localcluster.cluster import Cluster
from localcluster.engine import Engine, Places
from localcluster.paths import Checkout, cache_dir

from tests.e2e.probe import answers, install, kubectl, pods_reach_each_other

ROOT = Path(__file__).resolve().parents[2]

# The first run on a machine builds the node image.
pytestmark = pytest.mark.timeout(1500)


def localcluster(state: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command line for the checkout whose state is there."""
    return subprocess.run(
        [sys.executable, "-m", "localcluster", *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT / "kind"), "TENANTRY_STATE_DIR": str(state)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )


def eventually(question: Callable[[], bool], what: str, seconds: float = 180) -> None:
    """Wait until the answer is yes."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.25)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory of these tests' own; whatever happens, nothing of it stays."""
    directory = tmp_path_factory.mktemp("checkout") / "state"
    yield directory
    localcluster(directory, "down", "--all")


@pytest.fixture(scope="module")
def checkout(state: Path) -> Checkout:
    return Checkout(root=ROOT, state=state, cache=cache_dir())


@pytest.fixture(scope="module")
def cluster(checkout: Checkout) -> Cluster:
    """The cluster, brought up by an `up` after one that was killed half-way."""
    killed_half_way(checkout)
    done = localcluster(checkout.state, "up", "--name", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    return known(checkout)


def known(checkout: Checkout) -> Cluster:
    docker = engine.current(checkout)
    assert docker is not None
    found = clusters.find(checkout, "test", docker)
    assert found is not None
    return found


def killed_half_way(checkout: Checkout) -> None:
    """Start `up` and kill it, and kind, when the first node's container is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "localcluster", "up", "--name", "test"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "kind"), "TENANTRY_STATE_DIR": str(checkout.state)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )

    def first_node_is_there() -> bool:
        assert process.poll() is None, "up ended before it could be killed"
        docker = engine.current(checkout)
        return docker is not None and "-control-plane" in names(docker, "ps", "{{.Names}}")

    try:
        eventually(first_node_is_there, "the first node's container", 1300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def names(docker: Engine, *argv: str) -> str:
    *command, form = argv
    asked = [*docker.docker, *command, "--format", form]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def probe(cluster: Cluster) -> None:
    """The probe on every node, behind the first host port."""
    install(cluster)


def test_up_after_a_killed_up_gives_a_system_node_and_spot_workers_in_two_zones(cluster: Cluster) -> None:
    items = json.loads(kubectl(cluster, "get", "nodes", "-o", "json"))["items"]
    found = {item["metadata"]["name"]: item for item in items}
    assert set(found) == {cluster.control_plane, *cluster.workers}
    capacity = {name: item["metadata"]["labels"]["karpenter.sh/capacity-type"] for name, item in found.items()}
    assert capacity.pop(cluster.control_plane) == "on-demand"
    assert set(capacity.values()) == {"spot"}
    assert len({found[name]["metadata"]["labels"]["topology.kubernetes.io/zone"] for name in cluster.workers}) == 2
    assert all(item["spec"]["providerID"].startswith("aws:///") for item in items)
    # A node that has just become Ready keeps node.kubernetes.io/not-ready for a moment; that is no rule of ours.
    taints = {taint["key"] for item in items for taint in item["spec"].get("taints", [])}
    assert taints <= {"node.kubernetes.io/not-ready"}, "the platform may run on the system node"
    minor = tools.KUBERNETES.rpartition(".")[0]
    assert all(item["status"]["nodeInfo"]["kubeletVersion"].startswith(f"v{minor}.") for item in items)


@pytest.mark.usefixtures("probe")
def test_pods_of_all_nodes_reach_each_other_and_answer_at_the_host_port(cluster: Cluster) -> None:
    eventually(lambda: answers(cluster), "answers at the host port")
    eventually(lambda: pods_reach_each_other(cluster), "pods reach each other")


@pytest.mark.usefixtures("probe")
def test_a_worker_that_died_without_notice_works_again_after_its_start(cluster: Cluster) -> None:
    victim = cluster.workers[1]
    for action in ("kill", "start"):
        subprocess.run([*cluster.engine.docker, action, victim], capture_output=True, check=True, timeout=60)
    eventually(lambda: pods_reach_each_other(cluster), "routes to and from the worker")
    eventually(lambda: answers(cluster), "answers from all pods")


@pytest.mark.usefixtures("probe")
def test_a_second_up_changes_nothing(cluster: Cluster, checkout: Checkout) -> None:
    form = "jsonpath={.items[*].metadata.uid}"
    before = kubectl(cluster, "get", "nodes", "-o", form)
    done = localcluster(checkout.state, "up", "--name", "test")
    assert done.returncode == 0, done.stderr
    assert "running already" in done.stdout
    assert known(checkout) == cluster
    assert kubectl(cluster, "get", "nodes", "-o", form) == before


def test_status_tells_where_things_are_and_what_is_not_enforced(cluster: Cluster, checkout: Checkout) -> None:
    told = localcluster(checkout.state, "status").stdout
    assert str(cluster.kubeconfig) in told
    assert str(cluster.node_ports[0]) in told
    assert told.count(": running") == 3
    assert ("not enforced" in told) == ("tenantry.dev/" in told)


@pytest.mark.usefixtures("probe")
def test_up_after_everything_was_killed_brings_the_same_cluster_back(cluster: Cluster, checkout: Checkout) -> None:
    places = Places.of(checkout)
    if cluster.engine.own:
        leftovers.kill([*leftovers.engine_processes(places.run), *leftovers.container_processes(places.cgroup)])
        assert engine.current(checkout) is None
    else:
        for node in (cluster.control_plane, *cluster.workers):
            subprocess.run([*cluster.engine.docker, "kill", node], capture_output=True, check=True, timeout=60)
    done = localcluster(checkout.state, "up", "--name", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    kubectl(cluster, "get", "daemonset", "probe")
    eventually(lambda: pods_reach_each_other(cluster), "pods reach each other again")
    eventually(lambda: answers(cluster), "answers at the same host port")


@pytest.mark.usefixtures("probe")
def test_another_checkout_comes_and_goes_without_touching_this_one(cluster: Cluster, tmp_path: Path) -> None:
    other = Checkout(root=ROOT, state=tmp_path / "state", cache=cache_dir())
    theirs = engine.ensure(other)
    assert theirs.own == cluster.engine.own
    assert clusters.network_name(other) != clusters.network_name(cluster.checkout)
    if theirs.own:
        assert theirs.host != cluster.engine.host
        assert names(theirs, "ps", "--all", "{{.Names}}") == ""
    assert localcluster(other.state, "down", "--all").returncode == 0
    assert not other.state.exists()
    # Not at the first attempt: each has two seconds, and a busy machine may stand still longer.
    eventually(lambda: answers(cluster), "it answers as before", 60)
    eventually(lambda: pods_reach_each_other(cluster), "its pods reach each other as before", 60)


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path: Path) -> None:
    port = ports.choose(None, ports.is_free, random.Random())[0]
    with socket.create_server(("127.0.0.1", port)):
        refused = localcluster(tmp_path / "state", "up", "--name", "test", "--port", str(port))
    assert refused.returncode == 2
    assert f"port {port} on 127.0.0.1 is taken\nremedy:" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_down_leaves_nothing_and_may_be_repeated(cluster: Cluster, checkout: Checkout) -> None:
    places = Places.of(checkout)
    shims = [
        leftovers.shim_socket(places.run / "exec/containerd/containerd.sock", container)
        for container in names(cluster.engine, "ps", "--no-trunc", "--all", "{{.ID}}").split()
    ]
    assert not cluster.engine.own or all(path.exists() for path in shims), "the test looks at the right sockets"
    done = localcluster(checkout.state, "down", "--name", "test")
    assert done.returncode == 0, done.stdout + done.stderr

    assert leftovers.engine_processes(places.run) == []
    assert leftovers.container_processes(places.cgroup) == []
    assert leftovers.cgroup_dirs(places.cgroup) == []
    assert leftovers.mounts_below(Path("/proc/self/mountinfo").read_text(), [checkout.state, places.run]) == []
    assert not Path("/sys/class/net", places.bridge).exists()
    assert not any(path.exists() for path in shims) or not cluster.engine.own
    assert packet_filter_lines(checkout, places.cgroup) == []
    assert not checkout.state.exists()
    assert not places.run.exists()
    elsewhere = engine.running_elsewhere()
    if elsewhere is not None:
        assert cluster.kind_name not in names(elsewhere, "ps", "--all", "{{.Names}}")
        assert clusters.network_name(checkout) not in names(elsewhere, "network", "ls", "{{.Name}}").split()

    assert localcluster(checkout.state, "down", "--name", "test").returncode == 0
    assert not checkout.state.exists()


def packet_filter_lines(checkout: Checkout, comment: str) -> list[str]:
    """The rules of both packet filters that carry our comment."""
    prefixes = sorted(checkout.cache.glob("engine-*/usr/bin"))
    env = {**os.environ, **(debian.environment(prefixes[-1].parents[1]) if prefixes else {})}
    found = []
    for program in ("iptables-nft-save", "iptables-legacy-save"):
        if shutil.which(program, path=env["PATH"]):
            saved = subprocess.run([program], env=env, capture_output=True, text=True, timeout=60, check=True).stdout
            found += [line for line in saved.splitlines() if comment in line]
    return found
