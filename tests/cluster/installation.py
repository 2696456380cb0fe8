"""The platform chart on a cluster without an image of ours: its rights, fences and policies, but none of its pods.

So operators that run as processes of the tests are who the chart says they are, and may do what it says, no more.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cluster.cluster import TENANTS, TIERS, Cluster, eventually
from tests.cluster.kubectl import kubectl_for, rendered

SYSTEM = "tenantry-system"

#: What would run pods, or cost objects that tests want to make themselves; and an aggregated API, which must be served
#: as long as it is there, because no namespace can be deleted otherwise.
LEFT_OUT = {"APIService", "Deployment", "Job", "TenantTier"}

#: Seconds that a token is good for; no test run takes so long.
TOKEN_SECONDS = 4 * 3600


@dataclass(frozen=True)
class Installation:
    """The chart's objects on a cluster, and a kubeconfig for each account that its pods run as."""

    cluster: Cluster
    operator: Path
    hook: Path

    def apply_crds(self) -> None:
        """What the chart's upgrade hook runs, as the account that it runs as."""
        command = [sys.executable, "-m", "tenantry", "operator", "--apply-crds", "--kubeconfig", str(self.hook)]
        subprocess.run(command, timeout=120, check=True)


def install(cluster: Cluster, directory: Path) -> Installation:
    """Apply the chart, then the CRDs as its hook does, and wait until all of it is in force."""
    kubectl = kubectl_for(cluster.kubeconfig)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    items = [namespace, *(each for each in rendered("tenantry") if each["kind"] not in LEFT_OUT)]
    everything = {"apiVersion": "v1", "kind": "List", "items": items}
    done = kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", manifest=everything)
    assert done.returncode == 0, done.stderr
    operator = kubeconfig_for(cluster, "tenantry-operator", directory)
    installed = Installation(cluster, operator, kubeconfig_for(cluster, "tenantry-apply-crds", directory))
    installed.apply_crds()
    eventually("the CRDs are served", lambda: cluster.find(TENANTS) and cluster.find(TIERS))
    probe = ["create", "namespace", "probe", f"--as=system:serviceaccount:{SYSTEM}:tenantry-operator"]
    eventually(
        "rights and fence are in force",
        lambda: "tenants (tenant-*) only" in kubectl(*probe, "--dry-run=server").stderr,
    )
    return installed


def kubeconfig_for(cluster: Cluster, account: str, directory: Path) -> Path:
    """A kubeconfig with a token of this ServiceAccount, as the kubelet asks for one (TokenRequest)."""
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token"
    wanted = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_SECONDS},
    }
    token = cluster.call("POST", path, wanted)["status"]["token"]
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [{"name": each["name"], "user": {"token": token}} for each in document["users"]]
    written = directory / f"{account}.kubeconfig"
    written.write_text(yaml.safe_dump(document))
    return written
