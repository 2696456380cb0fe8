"""The API server for these tests: the one of `--kubeconfig`, or a bare control plane made for the session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster.controlplane import ControlPlane

from tests.cluster.kubectl import Kubectl, kubectl_for

#: Nodes that KWOK plays, 110 pods each.
NODES = 20


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this session's own, with nodes and an audit log of what administrators ask."""
    directory = tmp_path_factory.mktemp("control-plane")
    with ControlPlane(directory, nodes=NODES, audit_log=directory / "audit.log") as running:
        yield running


@pytest.fixture(scope="session")
def control_plane_kubeconfig(request: pytest.FixtureRequest) -> Path:
    """The kubeconfig of an administrator: of the cluster given by `--kubeconfig`, else of `control_plane`."""
    given = request.config.getoption("--kubeconfig", default=None)
    if given:
        return Path(given).resolve()
    running: ControlPlane = request.getfixturevalue("control_plane")
    return running.kubeconfig


@pytest.fixture(scope="session")
def kubectl(control_plane_kubeconfig: Path) -> Kubectl:
    """Run kubectl against the control plane; the caller looks at the result."""
    return kubectl_for(control_plane_kubeconfig)
