"""The kind cluster of a checkout: bring it up, use it, take it down. Every operation may be repeated at any point."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence

from localcluster import engine, kindcluster, nodeimage, ports, tools
from localcluster.cache import locked
from localcluster.config import WORKERS, cluster_name
from localcluster.engine import Engine, Places
from localcluster.kindcluster import Cluster, find, kind_env, known_names, network_name
from localcluster.machine import Machine, look, require_disk
from localcluster.paths import Checkout
from localcluster.steps import Refusal, Step, StepLog, run_steps

__all__ = ["NAMES", "Bringing", "Cluster", "down", "find", "kind_env", "known_names", "network_name", "up"]

#: Names that a cluster may have; each is one state directory.
NAMES = ("demo", "test")


class Bringing:
    """One `up` as steps, for those who have steps of their own to run beside them. `cluster` is there after the last.

    The last step is called "cluster"; "docker engine" is the one that images are built after.
    """

    def __init__(
        self,
        checkout: Checkout,
        name: str,
        *,
        node_image: str | None = None,
        port: int | None = None,
        workers: int = WORKERS,
    ) -> None:
        self.checkout = checkout
        self.name = name
        self._workers = workers
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
        begin = [Step("docker engine", self._start_engine), Step("build kind", self._build_kind)]
        last = Step("cluster", self._create, after=("node image", "build kind"))
        if self._wanted_image is not None or nodeimage.own_archive(self.checkout, look()).exists():
            return [*begin, Step("node image", self._node_image, after=("docker engine",)), last]
        # Whether the published image can be had is known once there is an engine; if so, these have nothing to do. One
        # program is built after the other, for each go build takes all cores, and finds what the one before compiled.
        own = [f"build {program}" for program in tools.NODE_PROGRAMS]
        before = ["build kind", *own]
        return [
            *begin,
            Step("node base", self._node_base, after=("docker engine",)),
            *[
                Step(name, self._node_program(name.split()[1]), after=("docker engine", earlier))
                for earlier, name in zip(before, own, strict=False)
            ],
            Step("node image", self._node_image, after=("node base", *own)),
            last,
        ]

    def _start_engine(self, log: StepLog) -> None:
        if self._port is not None and kindcluster.facts_of(self.checkout, self.name) is None:
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
            facts = kindcluster.facts_of(self.checkout, self.name)
            known = find(self.checkout, self.name, self.engine)
            usable = facts is not None and facts.complete and facts.workers == self._workers
            if usable and known is not None and kindcluster.revive(known, log):
                self._cluster = known
                return
            self._cluster = kindcluster.create(
                self.checkout, self.name, self.engine, self._machine, self._image, self._port, log, self._workers
            )


def up(checkout: Checkout, name: str, *, node_image: str | None = None, port: int | None = None) -> Cluster:
    """Bring the checkout's cluster of that name up, with progress lines, and return it.

    `node_image` overrides the choice of localcluster.nodeimage; `port` is the first host port, by default 30080 (or a
    free one) for "demo" and free ones for others. Raises `Refusal` and `StepFailed`.
    """
    bringing = Bringing(checkout, name, node_image=node_image, port=port)
    run_steps(bringing.steps(), checkout.log_dir)
    return bringing.cluster


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
        with contextlib.suppress(OSError):  # not empty, or gone already: another down runs at the same time
            checkout.state.rmdir()


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


def _own_ref(checkout: Checkout) -> str:
    return nodeimage.own_ref(checkout, look())
