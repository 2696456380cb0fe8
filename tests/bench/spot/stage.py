"""The cluster that is interrupted: nodes as containers, two tenants, and a workload without hand-over beside them."""

import base64
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from localcluster.config import WORKERS
from localcluster.kindcluster import Cluster as Kind
from tenantry_operator.interruption.signals import Kind as Reason
from tenantry_operator.interruption.signals import Mark, Source

from tests.bench.spot.load import Endpoint
from tests.cluster.cluster import Cluster, eventually

NODES = "/api/v1/nodes"
SYSTEM = {"tenantry.dev/role": "system"}
#: The workload without hand-over: what a tenant's chart renders, run by nobody but its Deployment.
PLAIN = "plain"
#: Replicas of each tenant, and the node ports of the tenants.
TENANTS = {"soak-one": 1, "soak-three": 3}
PORTS = {"soak-one": 31901, "soak-three": 31903}
#: Enough for any load; what is measured here is no limit, and no Redis that is slow to answer on a busy machine.
LIMITS: Mapping[str, object] = {
    "requestsPerMinute": 1000000,
    "tokensPerMinute": 1000000000,
    "concurrentRequests": 1000,
    "whenUnavailable": "LocalShare",
}
SIMULATOR = "http://simulator.simulator.svc.cluster.local/v1"
#: Seconds for things that take two on an idle machine.
PATIENCE = 120.0
#: Seconds between two looks at the cluster. Each takes some 15 ms of one core from what is measured.
LOOKS = 0.25

Object = dict[str, Any]


@dataclass
class Stage:
    """A kind cluster with the platform and the simulator."""

    kind: Kind
    kubectl: list[str]
    api: Cluster

    @classmethod
    def of(cls, kind: Kind, kubectl: list[str]) -> "Stage":
        """The stage on a cluster that is up."""
        return cls(kind, kubectl, Cluster(Path(kind.kubeconfig)))

    def docker(self, *argv: str) -> str:
        """Run docker on the cluster's engine."""
        command = [*self.kind.engine.docker, *argv]
        environment = dict(self.kind.engine.env) or None
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout

    def pin(self) -> None:
        """Keep what all depend on off the nodes that are interrupted, as on-demand nodes do.

        And the simulator ready: OpenAI's servers do not go away because two cores of ours are busy for three seconds.
        """
        threshold = "/spec/template/spec/containers/0/readinessProbe/failureThreshold"
        patience = [{"op": "add", "path": threshold, "value": 1000}]
        path = "/apis/apps/v1/namespaces/simulator/deployments/simulator"
        self.api.call("PATCH", path, patience, "application/json-patch+json")
        for space, name in (("kube-system", "coredns"), ("simulator", "simulator")):
            path = f"/apis/apps/v1/namespaces/{space}/deployments/{name}"
            self.api.patch(path, {"spec": {"template": {"spec": {"nodeSelector": SYSTEM}}}})
        for space, name in (("kube-system", "coredns"), ("simulator", "simulator")):
            argv = [*self.kubectl, "--namespace", space, "rollout", "status", f"deployment/{name}", "--timeout=120s"]
            subprocess.run(argv, check=True, capture_output=True, timeout=130)

    @contextmanager
    def workloads(self) -> Iterator[None]:
        """The tenants and the plain workload, all of them Ready."""
        try:
            # Where there are several Spot nodes, on those only: a pod on an On-Demand node is never interrupted again.
            placement = {"capacity": "Spot"} if len(self.kind.workers) > WORKERS else {}
            for name, replicas in TENANTS.items():
                scaling = {"minReplicas": replicas, "maxReplicas": replicas}
                upstreams = [{"name": "simulator", "baseURL": SIMULATOR}]
                exposure = {"nodePort": PORTS[name]}
                spec = {"budget": {"amount": "100000"}, "autoscaling": scaling, "upstreams": upstreams}
                spec |= {"placement": placement} if placement else {}
                self.api.tenant(name, limits=LIMITS, exposure=exposure, **spec)
            for name, replicas in TENANTS.items():
                self.settled(f"tenant-{name}", replicas)
                self._copy(name, replicas)
            for name, replicas in TENANTS.items():
                self.settled(f"{PLAIN}-{name}", replicas)
            yield
        finally:
            for name in TENANTS:
                self.api.delete(f"/api/v1/namespaces/{PLAIN}-{name}")
                self.api.delete(f"/apis/tenantry.dev/v1alpha1/tenants/{name}")
            for name in TENANTS:
                self.api.gone(name)

    def _copy(self, tenant: str, replicas: int) -> None:
        """The tenant's Deployment in a namespace where no operator looks after it."""
        space, source = f"{PLAIN}-{tenant}", f"tenant-{tenant}"
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
        self.api.apply(f"/api/v1/namespaces/{space}", namespace)
        for kind, path in (
            ("v1 ServiceAccount", f"/api/v1/namespaces/{source}/serviceaccounts/api"),
            ("v1 ConfigMap", f"/api/v1/namespaces/{source}/configmaps/tenantry-policy"),
            ("apps/v1 Deployment", f"/apis/apps/v1/namespaces/{source}/deployments/api"),
        ):
            found = self.api.call("GET", path)
            version, _, name = kind.partition(" ")
            body: Object = {"apiVersion": version, "kind": name, "metadata": {"name": found["metadata"]["name"]}}
            body |= {key: found[key] for key in ("data", "spec", "automountServiceAccountToken") if key in found}
            if "spec" in body:
                body["spec"]["replicas"] = replicas
                body["spec"]["template"]["metadata"]["labels"][PLAIN] = "yes"
                _count_alone(body["spec"]["template"]["spec"])
            self.api.apply(path.replace(source, space), body)

    def expose(self) -> dict[str, list[Endpoint]]:
        """Endpoints of the tenants and of the plain workload, by the control plane's own address."""
        address = self.docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.kind.control_plane
        ).strip()
        found: dict[str, list[Endpoint]] = {"tenant": [], PLAIN: []}
        for prefix, endpoints in found.items():
            for name in TENANTS:
                secret = self.api.key(name)
                assert secret is not None
                port = self._plain_port(name) if prefix == PLAIN else PORTS[name]
                endpoints.append(Endpoint(f"http://{address}:{port}/v1", _decoded(secret)))
        return found

    def _plain_port(self, tenant: str) -> int:
        selector = {"app.kubernetes.io/name": "tenantry-api", "tenantry.dev/serve": "yes"}
        spec = {"type": "NodePort", "selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "outside"}, "spec": spec}
        made = self.api.apply(f"/api/v1/namespaces/{PLAIN}-{tenant}/services/outside", body)
        return int(made["spec"]["ports"][0]["nodePort"])

    def pods(self, space: str) -> list[Object]:
        """Pods of a namespace that are not on their way out."""
        found: list[Object] = self.api.call("GET", f"/api/v1/namespaces/{space}/pods")["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def settled(self, space: str, replicas: int, away_from: str = "", patience: float = PATIENCE) -> float:
        """Wait until so many pods of a Deployment are Ready elsewhere; the seconds that it took."""
        began = time.monotonic()

        def ready() -> bool:
            try:
                found = self.pods(space)
            except OSError:
                return False
            fine = [
                each
                for each in found
                if each["metadata"]["labels"].get("tenantry.dev/pool") == "active"
                and each["spec"].get("nodeName") not in ("", away_from)
                and _is_ready(each)
            ]
            return len(fine) >= replicas

        eventually(f"{replicas} pods of {space} are ready", ready, patience=patience, every=LOOKS)
        return time.monotonic() - began

    def populated(self, besides: frozenset[str] = frozenset()) -> str:
        """The worker with the most pods on it, and some of a tenant's among them; waits until there is one."""

        def found() -> str | None:
            ours, theirs = (
                [
                    each["spec"].get("nodeName", "")
                    for name in TENANTS
                    for each in self.pods(f"{prefix}-{name}")
                    if each["metadata"]["labels"].get("tenantry.dev/pool") == "active"
                ]
                for prefix in ("tenant", PLAIN)
            )
            free = [each for each in self.kind.workers if each not in besides and each in ours]
            return max(free, key=(ours + theirs).count, default=None)

        return eventually("pods of a tenant are on a node that may go", found, patience=PATIENCE, every=LOOKS)

    def notice(self, node: str, seconds: float) -> datetime:
        """What the node's agent writes when EC2 has told it; the node's end."""
        now = datetime.now(UTC)
        end = now + timedelta(seconds=seconds)
        text = Mark(kind=Reason.SPOT, source=Source.AGENT, since=now, deadline=end).encode()
        self._annotate(node, {"tenantry.dev/agent-notice": text})
        return end

    def drain_plain(self, node: str) -> "subprocess.Popen[bytes]":
        """`kubectl drain` as everybody types it, but of the workload without hand-over only."""
        selector = f"--pod-selector={PLAIN}=yes"
        options = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=100s", selector]
        return subprocess.Popen([*self.kubectl, "drain", node, *options], stdout=subprocess.DEVNULL)

    def drain_tenants(self, node: str) -> "subprocess.Popen[bytes]":
        """`kubectl drain` of all that tenants run there."""
        selector = f"--pod-selector=app.kubernetes.io/name=tenantry-api,{PLAIN}!=yes"
        options = ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={PATIENCE:.0f}s", selector]
        return subprocess.Popen([*self.kubectl, "drain", node, *options], stdout=subprocess.DEVNULL)

    def kill(self, node: str) -> None:
        """EC2 takes the instance away: no signal, no grace."""
        self.docker("kill", node)

    def return_as_new(self, node: str) -> None:
        """Another instance comes in its place: nothing is known against it."""
        self.docker("start", node)
        self._annotate(node, {"tenantry.dev/agent-notice": None, "tenantry.dev/interruption": None})
        self.api.patch(f"{NODES}/{node}", {"spec": {"unschedulable": None}})
        eventually("the node is ready", lambda: self._takes_pods(node), patience=PATIENCE, every=LOOKS)

    def _takes_pods(self, node: str) -> bool:
        found = self.api.call("GET", f"{NODES}/{node}")
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"]["conditions"])
        return ready and not found["spec"].get("taints")

    def _annotate(self, node: str, notes: Mapping[str, str | None]) -> None:
        self.api.patch(f"{NODES}/{node}", {"metadata": {"annotations": dict(notes)}})


def _count_alone(pod: Object) -> None:
    """Without the tenant's Redis, whose password is in the tenant's namespace."""
    (container,) = pod["containers"]
    container["args"] = [each for each in container["args"] if not each.startswith("--redis-file")]
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] != "redis"]
    pod["volumes"] = [each for each in pod["volumes"] if each["name"] != "redis"]


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _decoded(secret: Object) -> str:
    return base64.b64decode(secret["data"]["api-key"]).decode()
