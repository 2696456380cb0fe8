"""A cluster with the platform on it: what the demo shows and the end-to-end tests use, as steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localcluster import loading, release, tools
from localcluster.cluster import Bringing, Cluster
from localcluster.config import cluster_name
from localcluster.images import SIMULATOR, Build, Image
from localcluster.paths import Checkout
from localcluster.release import Target
from localcluster.steps import Step, StepLog


class Stand:
    """The steps, and what has come of them. The one called "platform" ends with an operator that is ready.

    `wanted` are the images to bring in; with the simulator's among them it is deployed too. `settings` are further
    values of the platform's chart.
    """

    def __init__(
        self, checkout: Checkout, name: str, wanted: Sequence[Image], settings: Mapping[str, str] | None = None
    ) -> None:
        self._checkout = checkout
        self._name = name
        self._bringing = Bringing(checkout, name)
        self._wanted = wanted
        self._settings = settings
        self._build = Build(checkout, wanted, lambda: self._bringing.engine)

    @property
    def cluster(self) -> Cluster:
        """The cluster; there after the step "cluster"."""
        return self._bringing.cluster

    @property
    def target(self) -> Target:
        """What Helm and kubectl work on; there after the step "cluster"."""
        return Target(self._checkout, self.cluster.kubeconfig)

    @property
    def references(self) -> Mapping[str, str]:
        """Image name -> reference; there after the step "images"."""
        return self._build.built.references

    def steps(self) -> list[Step]:
        """Return the steps; what does not need each other runs side by side."""
        steps = [
            *self._bringing.steps(),
            *self._build.steps(("docker engine",)),
            Step("build helm", self._build_helm),
            Step("kubectl", self._find_kubectl, ("node image",)),
            Step("images ahead", self._load_ahead, ("node image", "images")),
            Step("images into the nodes", self._load, ("cluster", "images ahead")),
            Step("platform", self._install, ("images into the nodes", "build helm", "kubectl")),
        ]
        if SIMULATOR in self._wanted:
            steps.append(Step("upstream simulator", self._simulator, ("images into the nodes", "kubectl")))
        return steps

    def _build_helm(self, log: StepLog) -> None:
        tools.ensure(self._checkout, "helm", log)

    def _find_kubectl(self, log: StepLog) -> None:
        log.note(str(release.kubectl_program(self._checkout)))

    def _load_ahead(self, log: StepLog) -> None:
        nodes = loading.node_names(cluster_name(self._name, self._checkout.id))
        loading.load_ahead(self._build.built, nodes, self._bringing.engine, log)

    def _load(self, log: StepLog) -> None:
        loading.load(self._build.built, loading.node_names(self.cluster.kind_name), self.cluster.engine, log)

    def _install(self, log: StepLog) -> None:
        release.install(self.target, self.references, log, self._settings)

    def _simulator(self, log: StepLog) -> None:
        release.deploy_simulator(self.target, self.references, log)
