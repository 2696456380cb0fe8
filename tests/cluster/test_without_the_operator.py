"""What docs/without-the-operator.md says works, typed as it stands there, on a cluster whose operator is gone."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster import tools
from localcluster.controlplane import ControlPlane

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import install
from tests.cluster.kubectl import ROOT
from tests.cluster.operator_process import Operators

TEXT = (ROOT / "docs/without-the-operator.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)}

#: Kubernetes' collector looks for new kinds every 30 s, and comes back with growing patience to what it did not know
#: the owner's kind of: seconds.
GARBAGE_COLLECTOR = 180.0

CUSTOMERS = {"acme": {}, "globex": {"deletionProtection": True}, "initech": {}}


def commands(section: str) -> list[str]:
    """The commands of one section."""
    blocks = re.findall(r"^```sh\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_no_command_is_left_out() -> None:
    assert {section for section in SECTIONS if commands(section)} == {
        "Delete a Tenant",
        "Keep the customer, let go of the Tenant",
        "Stop a customer at once",
        "Remove what is left of the platform",
    }


@pytest.fixture
def orphaned(tmp_path: Path) -> Iterator[Cluster]:
    """Customers, and the platform's rights and policies, after the operator was killed.

    On a control plane of its own: the end of it all is that definitions and rights are gone.
    """
    with ControlPlane(tmp_path / "control-plane", nodes=5) as running:
        platform = install(Cluster(running.kubeconfig), tmp_path)
        cluster = platform.cluster
        cluster.tier()
        operators = Operators(platform.operator, tmp_path)
        try:
            operator = operators.start().says("synced")
            for name, spec in CUSTOMERS.items():
                cluster.tenant(name, **spec)
            for name in CUSTOMERS:
                cluster.wait_for(name, "Ready", "True")
            operator.kill()
        finally:
            operators.end()
        yield cluster


@pytest.mark.timeout(900)
def test_its_commands_do_what_it_says(orphaned: Cluster, tmp_path: Path) -> None:
    path = f"{tools.kubectl().parent}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(orphaned.kubeconfig), "PATH": path}

    def typed(section: str) -> None:
        for command in commands(section):
            argv = ["bash", "-euc", command]
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"

    def goes(name: str) -> bool:
        """Whether the namespace is gone or on its way: the pods in it make its controller wait for a minute."""
        found = orphaned.find(f"/api/v1/namespaces/tenant-{name}")
        return found is None or "deletionTimestamp" in found["metadata"]

    def is_gone(tenant: str) -> bool:
        return orphaned.find(f"{TENANTS}/{tenant}") is None

    typed("Delete a Tenant")
    assert is_gone("acme")
    eventually("the namespace goes with it", lambda: goes("acme"), patience=GARBAGE_COLLECTOR)

    typed("Keep the customer, let go of the Tenant")
    assert is_gone("globex")

    typed("Stop a customer at once")
    pods = "/api/v1/namespaces/tenant-initech/pods"
    eventually("no pods are left", lambda: not orphaned.call("GET", pods)["items"])

    typed("Remove what is left of the platform")
    eventually("the last customer goes", lambda: goes("initech"), patience=GARBAGE_COLLECTOR)
    assert not goes("globex")
    for collection in (
        "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        "rbac.authorization.k8s.io/v1/clusterroles",
        "rbac.authorization.k8s.io/v1/clusterrolebindings",
    ):
        found = [each["metadata"]["name"] for each in orphaned.call("GET", f"/apis/{collection}")["items"]]
        assert not [each for each in found if each.startswith("tenantry")], collection
