"""One kind cluster: what is written down about it, how it is made, started again, and known to be ready."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from localcluster import ports, tools
from localcluster.config import WORKERS, Spec, cluster_name, kind_config, worker_names
from localcluster.engine import Engine, Places
from localcluster.machine import Machine
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, StepLog

#: kind's label on the containers of a cluster.
LABEL = "io.x-k8s.kind.cluster"

#: Address of the DNS Service: kubeadm takes the tenth of kind's service network, 10.96.0.0/16.
DNS_SERVICE = "10.96.0.10"

#: Seconds that nodes may take from the cluster's creation (or its containers' start) until they are Ready.
READY_TIMEOUT = 180


@dataclass(frozen=True)
class Facts:
    """What is written to `<state>/<name>/cluster.json`."""

    name: str
    kindName: str  # noqa: N815 - JSON that other programs read
    nodePorts: list[int]  # noqa: N815
    engineHost: str  # noqa: N815
    nodeImage: str  # noqa: N815
    kubeconfig: str
    complete: bool  # whether `up` got to its end
    workers: int = WORKERS


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up. `node_ports` are host ports and node ports at once, all on 127.0.0.1."""

    checkout: Checkout
    name: str
    kind_name: str
    kubeconfig: Path
    node_ports: list[int]
    engine: Engine
    worker_count: int = WORKERS

    @property
    def control_plane(self) -> str:
        """The control plane's container and node name."""
        return f"{self.kind_name}-control-plane"

    @property
    def workers(self) -> list[str]:
        """The workers' container and node names."""
        return worker_names(self.kind_name, self.worker_count)

    def load_image(self, ref: str, log: StepLog | None = None) -> None:
        """Copy one image from the engine into every node."""
        self.load_images([ref], log)

    def load_images(self, refs: Sequence[str], log: StepLog | None = None) -> None:
        """Copy images from the engine into every node, side by side."""
        argv = [tools.kind(self.checkout), "load", "docker-image", "--name", self.kind_name, *refs]
        (log or _log(self.checkout, f"load-{self.name}")).run(argv, env=kind_env(self.checkout, self.engine))


def find(checkout: Checkout, name: str, docker: Engine) -> Cluster | None:
    """Return the cluster that `up` made and `down` did not yet remove, whether its nodes run or not."""
    facts = facts_of(checkout, name)
    if facts is None:
        return None
    given = list(facts.nodePorts)
    return Cluster(checkout, name, facts.kindName, Path(facts.kubeconfig), given, docker, facts.workers)


def facts_of(checkout: Checkout, name: str) -> Facts | None:
    path = checkout.cluster_dir(name) / "cluster.json"
    return Facts(**json.loads(path.read_text())) if path.exists() else None


def nodes(cluster: Cluster, log: StepLog) -> dict[str, bool]:
    """Return the cluster's node containers and whether each runs."""
    argv = [*cluster.engine.docker, "ps", "--all", "--filter", f"label={LABEL}={cluster.kind_name}"]
    listed = log.output([*argv, "--format", "{{.Names}} {{.State}}"], env=cluster.engine.env)
    return {name: state == "running" for name, state in (line.split() for line in listed.splitlines())}


def kind_env(checkout: Checkout, docker: Engine) -> dict[str, str]:
    """Return the variables with which kind uses our engine and a network of the checkout's own."""
    return {**docker.env, "KIND_EXPERIMENTAL_DOCKER_NETWORK": network_name(checkout)}


def network_name(checkout: Checkout) -> str:
    return f"tenantry-{checkout.id}"


def known_names(checkout: Checkout) -> list[str]:
    """Return the names of the clusters that have facts in the checkout's state."""
    return sorted(path.parent.name for path in checkout.state.glob("*/cluster.json"))


def revive(known: Cluster, log: StepLog) -> bool:
    """Make an existing cluster usable again, starting what does not run; `False` when that fails."""
    if not known.kubeconfig.exists():
        log.say("kind writes the kubeconfig last: the cluster was interrupted while it was being made")
        return False
    present = nodes(known, log)
    if set(present) != {known.control_plane, *known.workers}:
        return False
    stopped = [node for node in (known.control_plane, *known.workers) if not present[node]]
    try:
        for node in stopped:
            log.run([*known.engine.docker, "start", node], env=known.engine.env)
        wait_ready(known, log)
    except ProgramFailed as failure:
        log.say(f"the cluster does not come back and is made anew: {failure}")
        return False
    log.note(f"{len(stopped)} nodes started again" if stopped else "running already")
    return True


def create(
    checkout: Checkout,
    name: str,
    docker: Engine,
    machine: Machine,
    image: str,
    port: int | None,
    log: StepLog,
    workers: int = WORKERS,
) -> Cluster:
    place = checkout.cluster_dir(name)
    kind = tools.kind(checkout)
    kind_name = cluster_name(name, checkout.id)
    env = kind_env(checkout, docker)
    log.run([kind, "delete", "cluster", "--name", kind_name, "--kubeconfig", place / "kubeconfig"], env=env)
    chosen = _choose_ports(checkout, name, port)
    own = image.startswith("tenantry.dev/")
    spec = Spec(kind_name, image, chosen, own, machine.cgroups, machine.missing_capabilities, workers)
    (place / "kind.json").write_text(kind_config(spec))
    facts = Facts(
        name, kind_name, list(chosen), docker.host, image, str(place / "kubeconfig"), complete=False, workers=workers
    )
    # Before the cluster is there: `down` must find what an interrupted `up` leaves.
    _write(facts, place)
    _ensure_network(checkout, docker, log)
    argv = [kind, "create", "cluster", "--config", place / "kind.json", "--kubeconfig", place / "kubeconfig"]
    log.run([*argv, "--retain", "--wait", "0s", "--verbosity", "1"], env=env)
    made = Cluster(checkout, name, kind_name, place / "kubeconfig", list(chosen), docker, workers)
    wait_ready(made, log)
    _write(replace(facts, complete=True), place)
    log.note(f"{1 + workers} nodes, host ports from {chosen[0]}")
    return made


def _write(facts: Facts, place: Path) -> None:
    partial = place / "cluster.json.partial"
    partial.write_text(json.dumps(asdict(facts), indent=2) + "\n")
    partial.replace(place / "cluster.json")


def _choose_ports(checkout: Checkout, name: str, port: int | None) -> tuple[int, ...]:
    others = [other for other in known_names(checkout) if other != name]
    reserved: set[int] = set()
    for other in others:
        reserved.update(json.loads((checkout.cluster_dir(other) / "cluster.json").read_text())["nodePorts"])
    preferred = ports.require(port) if port is not None else ports.DEMO_PORT if name == "demo" else None
    return ports.choose(preferred, ports.is_free, random.Random(), reserved)  # noqa: S311 - ports are no secret


def _ensure_network(checkout: Checkout, docker: Engine, log: StepLog) -> None:
    """Make the network before kind does, so that on our own engine its bridge has a name by which it can be removed."""
    network = network_name(checkout)
    if log.run([*docker.docker, "network", "inspect", network], env=docker.env, check=False) == 0:
        return
    options = ["--opt", "com.docker.network.bridge.enable_ip_masquerade=true"]
    if docker.own:
        options += ["--opt", f"com.docker.network.bridge.name={Places.of(checkout).bridge}"]
    log.run([*docker.docker, "network", "create", "--driver", "bridge", *options, network], env=docker.env)


def wait_ready(cluster: Cluster, log: StepLog) -> None:
    """Wait until all nodes are Ready and reach the cluster's DNS by its Service address.

    The last is asked on every node, for after a restart conditions and rollouts still tell of the time before it.
    Raises `ProgramFailed` when it takes more than some READY_TIMEOUT seconds.
    """
    docker, env = cluster.engine.docker, cluster.engine.env
    kubectl = [*docker, "exec", cluster.control_plane, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]
    limit = f"--timeout={READY_TIMEOUT}s"
    # `kubectl wait` gives up at the first refused connection.
    log.until([*kubectl, "get", "--raw", "/readyz", "--request-timeout=2s"], READY_TIMEOUT, env=env)
    names = [f"node/{node}" for node in (cluster.control_plane, *cluster.workers)]
    log.run([*kubectl, "wait", "--for=condition=Ready", *names, limit], env=env)
    log.run([*kubectl, "--namespace=kube-system", "rollout", "status", "deployment/coredns", limit], env=env)
    for node in (cluster.control_plane, *cluster.workers):
        asked = ["timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{DNS_SERVICE}/53"]
        log.until([*docker, "exec", node, *asked], READY_TIMEOUT, env=env)


def _log(checkout: Checkout, name: str) -> StepLog:
    checkout.log_dir.mkdir(parents=True, exist_ok=True)
    return StepLog(checkout.log_dir / f"{name}.log")
