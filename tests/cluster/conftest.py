"""The API server for these tests: the one of `--kubeconfig`, or a bare control plane made for the session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster.controlplane import ControlPlane

from tests.cluster.cluster import Cluster
from tests.cluster.installation import Installation, install
from tests.cluster.kubectl import Kubectl, kubectl_for
from tests.cluster.leaving import under_way
from tests.cluster.operator_process import Operators, renderer
from tests.cluster.pod_proxy import PodProxy

HERE = Path(__file__).parent

#: Nodes that KWOK plays, 110 pods each.
NODES = 20


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what all others did come last, and those that need all of them only if all of them run."""
    ours = [item for item in items if item.path.parent == HERE]
    last = [item for item in ours if item.path.name == "test_least_privilege.py"]
    complete = {item.path for item in ours} == set(HERE.glob("test_*.py")) and not config.getoption("keyword")
    unasked = [item for item in last if item.get_closest_marker("whole_folder") and not complete]
    if config.getoption("--kubeconfig", default=None):  # somebody else's cluster has no audit log of ours
        unasked = last
    if ours:
        others = [item for item in items if item not in last]
        at = others.index([item for item in ours if item not in last][-1]) + 1 if len(ours) > len(last) else 0
        items[:] = [*others[:at], *(item for item in last if item not in unasked), *others[at:]]
    if unasked:
        config.hook.pytest_deselected(items=unasked)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this session's own, with nodes and an audit log of what the platform asks."""
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


@pytest.fixture(scope="session")
def installation(control_plane_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The platform's rights, policies and CRDs on the cluster, and its accounts."""
    renderer()  # what operators start is built by then: no test's time goes into that
    return install(Cluster(control_plane_kubeconfig), tmp_path_factory.mktemp("accounts"))


@pytest.fixture(scope="session")
def cluster(installation: Installation) -> Cluster:
    """The cluster as its administrator sees it, with the platform installed."""
    return installation.cluster


@pytest.fixture
def streams() -> Iterator[PodProxy]:
    """What pods say of themselves; at first that a stream is open."""
    with PodProxy(under_way(1)) as proxy:
        yield proxy


@pytest.fixture
def operators(installation: Installation, streams: PodProxy, tmp_path: Path) -> Iterator[Operators]:
    """Operators of a test that reach pods through `streams`."""
    running = Operators(installation.operator, tmp_path, always=("--pod-proxy", streams.url))
    yield running
    running.end()
