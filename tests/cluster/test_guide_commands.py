"""The commands of the guides, typed as they stand there, where an API server is all that they need.

Names that are somebody's own (a revision) are put in the place of the examples. What wants a kubelet (`port-forward`)
or a release of Helm's is tried by tests/e2e/test_console.py and, for its settings, by rendering the chart.
"""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from localcluster import tools

from tests.cluster.cluster import TENANTS, TIERS, Cluster, eventually
from tests.cluster.installation import SYSTEM, Installation
from tests.cluster.kubectl import ROOT, rendered
from tests.cluster.operator_process import Operators

#: Types one block of a guide, by its first words; what it printed. ``swaps``: examples, and what they stand for.
Type = Callable[..., str]

REVISIONS = f"/apis/apps/v1/namespaces/{SYSTEM}/controllerrevisions?labelSelector=tenantry.dev/tier=standard"


def blocks(guide: str) -> list[str]:
    """A guide's commands that are not marked as needing AWS."""
    found = re.findall(r"^(<!-- needs AWS -->\n)?```sh\n(.*?)^```", (ROOT / "docs" / guide).read_text(), re.M | re.S)
    return [text for mark, text in found if not mark]


@pytest.fixture(scope="module")
def acme(cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ready tenant, whose tier has a former revision."""
    operators = Operators(installation.operator, tmp_path_factory.mktemp("guides"))
    try:
        operators.start().says("synced")
        for number, limit in enumerate((60, 90), start=1):
            cluster.tier(limits={"requestsPerMinute": limit})
            cluster.tenant("acme")
            cluster.wait_for("acme", "Ready", "True")
            has_come = functools.partial(lambda wanted: len(revisions(cluster)) >= wanted, number)
            eventually("the revision is there", has_come)
        eventually("the tenant is on it", lambda: is_on(cluster, "acme", revisions(cluster)[-1]))
        yield "acme"
        cluster.patch(f"{TIERS}/standard", {"spec": {"rollout": {"rollbackTo": None}}})
        cluster.empty()
    finally:
        operators.end()


def is_on(cluster: Cluster, tenant: str, revision: str) -> bool:
    """Whether the Tenant is Ready on this revision of its tier."""
    applied = cluster.call("GET", f"{TENANTS}/{tenant}").get("status", {}).get("applied", {})
    ready = cluster.condition(tenant, "Ready")
    return applied.get("tierRevision") == revision and ready is not None and ready["status"] == "True"


def revisions(cluster: Cluster) -> list[str]:
    """Names of the tier's revisions, the oldest first."""
    found = sorted(cluster.call("GET", REVISIONS)["items"], key=lambda each: int(each["revision"]))
    return [str(each["metadata"]["name"]) for each in found]


@pytest.fixture(scope="module")
def types(control_plane_kubeconfig: Path) -> Type:
    """A terminal in a checkout, with kubectl and the cluster's kubeconfig."""
    path = os.pathsep.join([str(tools.kubectl().parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "KUBECONFIG": str(control_plane_kubeconfig), "PATH": path}

    def run(guide: str, beginning: str, swaps: dict[str, str] | None = None, stdin: str = "") -> str:
        (text,) = [each for each in blocks(guide) if each.startswith(beginning)]
        for example, real in (swaps or {}).items():
            assert example in text, f"{guide} does not say {example}"
            text = text.replace(example, real)
        argv = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            argv, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{guide}: {text}\n{done.stderr}"
        return done.stdout

    return run


def test_tenants_are_listed(types: Type, acme: str) -> None:
    assert re.search(rf"^{acme} +standard +True", types("console.md", "export PATH"), re.M)


def test_a_key_is_read(types: Type, acme: str) -> None:
    assert re.fullmatch(r"tn_[a-z2-7]{12}_\S{32,}", types("keys.md", "kubectl get secret key-default"))


def test_a_namespace_is_given_over(types: Type, acme: str, cluster: Cluster) -> None:
    types("lifecycle.md", "kubectl annotate namespace")
    notes = cluster.call("GET", f"/api/v1/namespaces/tenant-{acme}")["metadata"]["annotations"]
    assert notes["tenantry.dev/adopt"] == "true"


def test_a_tier_is_watched_and_taken_back_and_a_tenant_kept_back(types: Type, acme: str, cluster: Cluster) -> None:
    former, newest = revisions(cluster)[-2:]
    said = types("rollouts.md", "kubectl get tenanttiers")
    assert "standard" in said
    assert "condition met" in said
    example = {"standard-0a1b2c3d4e": former}
    assert newest in types("rollouts.md", "kubectl get controllerrevisions", example)
    spec = cluster.call("GET", "/apis/tenantry.dev/v1alpha1/tenanttiers/standard")["spec"]
    assert spec["rollout"]["rollbackTo"] == former
    assert types("rollouts.md", "kubectl patch tenant acme", example).count("patched") == 2
    assert "tierRevision" not in cluster.call("GET", f"/apis/tenantry.dev/v1alpha1/tenants/{acme}")["spec"]


def test_argo_cd_learns_what_healthy_means(types: Type, cluster: Cluster) -> None:
    meta = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}
    cluster.apply("/api/v1/namespaces/argocd", meta)
    path = "/api/v1/namespaces/argocd/configmaps/argocd-cm"
    cluster.apply(path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}})
    types("gitops.md", "kubectl patch configmap argocd-cm")
    assert any("tenantry.dev" in key for key in cluster.call("GET", path)["data"])
    cluster.delete("/api/v1/namespaces/argocd")
    eventually("others may make it", lambda: cluster.find("/api/v1/namespaces/argocd") is None, patience=180)


def test_all_passwords_in_redis_are_changed(types: Type, cluster: Cluster) -> None:
    (operator,) = [
        each
        for each in rendered("tenantry", "operator", values={"image": {"tag": "v1"}})
        if each["kind"] == "Deployment"
    ]
    deployment = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/tenantry-operator"
    cluster.apply(deployment, {**operator, "spec": {**operator["spec"], "replicas": 0}})  # type: ignore[dict-item]
    seed = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tenantry-redis-seed"}}
    cluster.apply(f"/api/v1/namespaces/{SYSTEM}/secrets/tenantry-redis-seed", seed)
    assert "restarted" in types("datastores.md", "kubectl delete secret tenantry-redis-seed")
    cluster.delete(deployment)


@pytest.mark.parametrize(
    ("guide", "beginning"),
    [
        ("datastores.md", "kubectl create secret generic redis"),
        ("datastores.md", "helm upgrade tenantry"),
        ("operating.md", "helm upgrade tenantry"),
    ],
)
def test_settings_of_an_upgrade_are_ones_that_the_chart_has(guide: str, beginning: str) -> None:
    (text,) = [each for each in blocks(guide) if each.startswith(beginning)]
    command = text[text.index("helm upgrade") :].replace("\\\n", " ").replace("…", "v2")
    assert " --reuse-values " in command
    argv = [
        "--kube-version",
        "1.35.0",
        *(part for each in re.findall(r"--set (\S+)", command) for part in ("--set", each)),
    ]
    assert "--set" in argv
    done = subprocess.run(
        [str(tools.helm()), "template", "tenantry", str(ROOT / "charts/tenantry"), *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
