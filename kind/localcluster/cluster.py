"""The kind cluster of a checkout: bring it up, use it, take it down. Every operation may be repeated at any point."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from localcluster import engine, nodeimage, ports, tools
from localcluster.cache import locked
from localcluster.config import Spec, cluster_name, kind_config
from localcluster.engine import Engine, Places
from localcluster.machine import Machine, look, require_disk
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, Refusal, Step, StepLog, run_steps

#: Names that a cluster may have; each is one state directory.
NAMES = ("demo", "test")

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


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up. `node_ports` are host ports and node ports at once, all on 127.0.0.1."""

    checkout: Checkout
    name: str
    kind_name: str
    kubeconfig: Path
    node_ports: list[int]
    engine: Engine

    @property
    def control_plane(self) -> str:
        """The control plane's container and node name."""
        return f"{self.kind_name}-control-plane"

    @property
    def workers(self) -> list[str]:
        """The workers' container and node names."""
        return [f"{self.kind_name}-worker", f"{self.kind_name}-worker2"]

    def load_image(self, ref: str, log: StepLog | None = None) -> None:
        """Copy one image from the engine into every node."""
        self.load_images([ref], log)

    def load_images(self, refs: Sequence[str], log: StepLog | None = None) -> None:
        """Copy images from the engine into every node, side by side."""
        argv = [tools.kind(self.checkout), "load", "docker-image", "--name", self.kind_name, *refs]
        (log or _log(self.checkout, f"load-{self.name}")).run(argv, env=kind_env(self.checkout, self.engine))


class Bringing:
    """One `up` as steps, for those who have steps of their own to run beside them. `cluster` is there after the last.

    The last step is called "cluster"; "docker engine" is the one that images are built after.
    """

    def __init__(
        self, checkout: Checkout, name: str, *, node_image: str | None = None, port: int | None = None
    ) -> None:
        self.checkout = checkout
        self.name = name
        self._wanted_image = node_image
        self._port = port
        self._machine: Machine | None = None
        self._engine: Engine | None = None
        self._image: str | None = None
        self._cluster: Cluster | None = None

    @property
    def engine(self) -> Engine:
        """The engine; there after the step "docker engine"."""
        assert self._engine is not None
        return self._engine

    @property
    def cluster(self) -> Cluster:
        """The cluster; there after the step "cluster"."""
        assert self._cluster is not None
        return self._cluster

    def steps(self) -> list[Step]:
        """Return the steps."""
        own = [f"build {program}" for program in tools.NODE_PROGRAMS]
        return [
            Step("docker engine", self._start_engine),
            Step("build kind", self._build_kind),
            Step("node base", self._node_base, after=("docker engine",)),
            *[Step(name, self._node_program(name.split()[1]), after=("docker engine",)) for name in own],
            Step("node image", self._node_image, after=("node base", *own)),
            Step("cluster", self._create, after=("node image", "build kind")),
        ]

    def _start_engine(self, log: StepLog) -> None:
        if self._port is not None and _facts(self.checkout, self.name) is None:
            ports.require(self._port)
        require_disk(self.checkout.state)
        self._machine = look()
        self._engine = engine.ensure(self.checkout, log)
        note = log.last_note
        if self._wanted_image is not None:
            self._image = self._wanted_image
        elif not nodeimage.own_archive(self.checkout, self._machine).exists() and nodeimage.pull(self._engine, log):
            self._image = nodeimage.PUBLISHED
        log.note(note)

    def _build_kind(self, log: StepLog) -> None:
        tools.ensure(self.checkout, "kind", log)

    def _own_image_is_needed(self, log: StepLog) -> bool:
        assert self._machine is not None
        if self._image is not None:
            log.note("not needed")
            return False
        if nodeimage.own_archive(self.checkout, self._machine).exists():
            log.note("reused")
            return False
        return True

    def _node_base(self, log: StepLog) -> None:
        if self._own_image_is_needed(log):
            assert self._machine is not None
            nodeimage.base_tree(self.checkout, self._machine, log)

    def _node_program(self, name: str) -> Callable[[StepLog], None]:
        def run(log: StepLog) -> None:
            if self._own_image_is_needed(log):
                tools.ensure(self.checkout, name, log)

        return run

    def _node_image(self, log: StepLog) -> None:
        assert self._machine is not None
        if self._image is None:
            nodeimage.assemble(self.checkout, self._machine, log)
            self._image = nodeimage.load(self.checkout, self._machine, self.engine, log)
        elif not nodeimage.pull(self.engine, log, self._image):
            raise Refusal(
                f"the node image {self._image} is neither in the engine nor can it be pulled",
                "see that the engine reaches the image's registry, or leave out --node-image",
            )

    def _create(self, log: StepLog) -> None:
        assert self._machine is not None
        assert self._image is not None
        place = self.checkout.cluster_dir(self.name)
        with locked(self.checkout.state / f"{self.name}.lock"):
            place.mkdir(parents=True, exist_ok=True)
            facts = _facts(self.checkout, self.name)
            known = find(self.checkout, self.name, self.engine)
            if facts is not None and facts.complete and known is not None and _revive(known, log):
                self._cluster = known
                return
            self._cluster = _create(self.checkout, self.name, self.engine, self._machine, self._image, self._port, log)


def up(checkout: Checkout, name: str, *, node_image: str | None = None, port: int | None = None) -> Cluster:
    """Bring the checkout's cluster of that name up, with progress lines, and return it.

    `node_image` overrides the choice of localcluster.nodeimage; `port` is the first host port, by default 30080 (or a
    free one) for "demo" and free ones for others. Raises `Refusal` and `StepFailed`.
    """
    bringing = Bringing(checkout, name, node_image=node_image, port=port)
    run_steps(bringing.steps(), checkout.log_dir)
    return bringing.cluster


def find(checkout: Checkout, name: str, docker: Engine) -> Cluster | None:
    """Return the cluster that `up` made and `down` did not yet remove, whether its nodes run or not."""
    facts = _facts(checkout, name)
    if facts is None:
        return None
    return Cluster(checkout, name, facts.kindName, Path(facts.kubeconfig), list(facts.nodePorts), docker)


def _facts(checkout: Checkout, name: str) -> Facts | None:
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


def down(checkout: Checkout, name: str | None = None) -> None:
    """Remove one cluster, or all; with the last one goes our own engine with everything that it had made.

    What was built stays in the cache. Nothing to remove is fine.
    """
    left = [other for other in known_names(checkout) if name is not None and other != name]
    going = [name] if name is not None else known_names(checkout)
    if not checkout.state.exists():
        return
    run_steps([Step("down", lambda log: _remove(checkout, going, left, log))], checkout.log_dir)
    if not left:
        shutil.rmtree(checkout.log_dir, ignore_errors=True)
        if not any(checkout.state.iterdir()):
            checkout.state.rmdir()


def known_names(checkout: Checkout) -> list[str]:
    """Return the names of the clusters that have facts in the checkout's state."""
    return sorted(path.parent.name for path in checkout.state.glob("*/cluster.json"))


def _remove(checkout: Checkout, going: Sequence[str], left: Sequence[str], log: StepLog) -> None:
    docker = engine.current(checkout)
    own = Places.of(checkout).facts.exists()
    if docker is not None and (left or not docker.own):
        for name in going:
            argv = [tools.kind(checkout), "delete", "cluster", "--name", cluster_name(name, checkout.id)]
            kubeconfig = checkout.cluster_dir(name) / "kubeconfig"
            log.run([*argv, "--kubeconfig", kubeconfig], env=kind_env(checkout, docker))
    if not left:
        if own:
            engine.stop(checkout)
        elif docker is not None:
            for argv_tail in (["network", "rm", network_name(checkout)], ["image", "rm", _own_ref(checkout)]):
                log.run([*docker.docker, *argv_tail], check=False)
    for name in going:
        shutil.rmtree(checkout.cluster_dir(name), ignore_errors=True)
        (checkout.state / f"{name}.lock").unlink(missing_ok=True)
    if not left:
        (checkout.state / "engine.lock").unlink(missing_ok=True)


def _log(checkout: Checkout, name: str) -> StepLog:
    checkout.log_dir.mkdir(parents=True, exist_ok=True)
    return StepLog(checkout.log_dir / f"{name}.log")


def _own_ref(checkout: Checkout) -> str:
    return nodeimage.own_ref(checkout, look())


def _revive(known: Cluster, log: StepLog) -> bool:
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


def _create(
    checkout: Checkout, name: str, docker: Engine, machine: Machine, image: str, port: int | None, log: StepLog
) -> Cluster:
    place = checkout.cluster_dir(name)
    kind = tools.kind(checkout)
    kind_name = cluster_name(name, checkout.id)
    env = kind_env(checkout, docker)
    log.run([kind, "delete", "cluster", "--name", kind_name, "--kubeconfig", place / "kubeconfig"], env=env)
    chosen = _choose_ports(checkout, name, port)
    own = image.startswith("tenantry.dev/")
    spec = Spec(kind_name, image, chosen, own, machine.cgroups, machine.missing_capabilities)
    (place / "kind.json").write_text(kind_config(spec))
    facts = Facts(name, kind_name, list(chosen), docker.host, image, str(place / "kubeconfig"), complete=False)
    # Before the cluster is there: `down` must find what an interrupted `up` leaves.
    _write(facts, place)
    _ensure_network(checkout, docker, log)
    argv = [kind, "create", "cluster", "--config", place / "kind.json", "--kubeconfig", place / "kubeconfig"]
    log.run([*argv, "--retain", "--wait", "0s", "--verbosity", "1"], env=env)
    made = Cluster(checkout, name, kind_name, place / "kubeconfig", list(chosen), docker)
    wait_ready(made, log)
    _write(replace(facts, complete=True), place)
    log.note(f"3 nodes, host ports from {chosen[0]}")
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
