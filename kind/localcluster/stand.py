"""A cluster with the platform and its gateway on it: what the demo shows and the end-to-end tests use, as steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localcluster import gateway, loading, release, tools
from localcluster.cluster import Bringing, Cluster
from localcluster.config import WORKERS, cluster_name
from localcluster.images import SIMULATOR, Build, Built, Image
from localcluster.paths import Checkout
from localcluster.release import Target
from localcluster.steps import Step, StepLog


class Stand:
    """The steps, and what has come of them. The one called "platform" ends with an operator that is ready, the one
    called "gateway" with a proxy that serves on the cluster's first port.

    `wanted` are the images to bring in; with the simulator's among them it is deployed too. `settings` are further
    values of the platform's chart.
    """

    def __init__(
        self,
        checkout: Checkout,
        name: str,
        wanted: Sequence[Image],
        settings: Mapping[str, str] | None = None,
        workers: int = WORKERS,
    ) -> None:
        self._checkout = checkout
        self._name = name
        self._bringing = Bringing(checkout, name, workers=workers)
        self._wanted = wanted
        self._settings = settings
        self._workers = workers
        self._build = Build(checkout, wanted, lambda: self._bringing.engine)
        self._gateway: Built | None = None

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
        bringing = self._bringing.steps()
        # One program is built after the other (see `Bringing.steps`), and this one is the last to be needed.
        built = [step.name for step in bringing if step.name.startswith("build ")][-1:]
        steps = [
            *bringing,
            *self._build.steps(("docker engine",)),
            Step("gateway image", self._gateway_image, () if gateway.archived(self._checkout) else tuple(built)),
            Step("gateway image into its node", self._load_gateway, ("cluster", "gateway image")),
            Step("gateway definitions", self._define_gateway, ("cluster", "kubectl")),
            Step(
                "envoy gateway",
                self._install_gateway,
                ("gateway definitions", "gateway image into its node", "build helm"),
            ),
            Step("build helm", self._build_helm),
            Step("kubectl", self._find_kubectl, ("node image",)),
            Step("images ahead", self._load_ahead, ("node image", "images")),
            Step("images into the nodes", self._load, ("cluster", "images ahead")),
            Step(
                "platform",
                self._install,
                ("images into the nodes", "build helm", "kubectl", "gateway definitions"),
            ),
            Step("gateway", self._wait_for_gateway, ("platform", "envoy gateway")),
        ]
        if SIMULATOR in self._wanted:
            steps.append(Step("upstream simulator", self._simulator, ("images into the nodes", "kubectl")))
        return steps

    def _build_helm(self, log: StepLog) -> None:
        tools.ensure(self._checkout, "helm", log)

    def _find_kubectl(self, log: StepLog) -> None:
        log.note(str(release.kubectl_program(self._checkout)))

    def _load_ahead(self, log: StepLog) -> None:
        nodes = loading.node_names(cluster_name(self._name, self._checkout.id), self._workers)
        loading.load_ahead(self._build.built, nodes, self._bringing.engine, log)

    def _load(self, log: StepLog) -> None:
        nodes = [self.cluster.control_plane, *self.cluster.workers]
        loading.load(self._build.built, nodes, self.cluster.engine, log)

    def _gateway_image(self, log: StepLog) -> None:
        self._gateway = gateway.image(self._checkout, log)

    def _load_gateway(self, log: StepLog) -> None:
        assert self._gateway is not None
        loading.load(self._gateway, [self.cluster.control_plane], self.cluster.engine, log)

    def _define_gateway(self, log: StepLog) -> None:
        gateway.define(self.target, log)

    def _install_gateway(self, log: StepLog) -> None:
        gateway.install(self.target, log)

    def _wait_for_gateway(self, log: StepLog) -> None:
        gateway.wait_ready(self.target, log)

    def _install(self, log: StepLog) -> None:
        through = gateway.settings(self._checkout, self.cluster.node_ports[0])
        release.install(self.target, self.references, log, {**through, **(self._settings or {})})

    def _simulator(self, log: StepLog) -> None:
        release.deploy_simulator(self.target, self.references, log)
