"""The cluster of these tests: one of kind's, made for the session, or any by --kubeconfig."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from localcluster import cluster, images
from localcluster.paths import Checkout
from localcluster.release import Target
from localcluster.stand import Stand
from localcluster.steps import run_steps

from tests.e2e.world import COUNTS_ALONE, Access, World, answers, until

CLUSTER = "test"
#: Seconds for a test that says nothing else: some of what it waits for may come late on a busy machine.
TIMEOUT = 900


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests their time, and kill no nodes of somebody else's cluster."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))
    if config.getoption("--kubeconfig", default=None):
        killing = [item for item in items if item.path == Path(__file__).with_name("test_spot.py")]
        items[:] = [item for item in items if item not in killing]
        config.hook.pytest_deselected(items=killing)


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The platform, installed, with development datastores and the upstream simulator."""
    checkout = Checkout.here()
    given: str | None = request.config.getoption("--kubeconfig")
    if given:
        ports: list[int] = request.config.getoption("--node-port") or []
        if not ports:
            pytest.exit("--kubeconfig needs --node-port: which node ports may these tests use?", returncode=4)
        yield World(Target(checkout, Path(given).resolve()), ports)
        return
    stand = Stand(
        checkout, CLUSTER, images.ALL, {"dev.datastores.enabled": "true", "metrics.scaleDownWindowSeconds": "15"}
    )
    with visible(request):
        print()
        run_steps(stand.steps(), checkout.log_dir)
    yield World(stand.target, stand.cluster.node_ports[1:], stand.cluster)  # the first is the gateway's
    if not request.config.getoption("--keep-cluster"):
        with visible(request):
            cluster.down(checkout, CLUSTER)


@pytest.fixture(scope="session")
def acme(world: World) -> Iterator[Access]:
    """Endpoint and key of a tenant that several tests use and none changes."""
    with world.tenant("acme", limits=COUNTS_ALONE):
        world.wait_ready("acme")
        access = world.access("acme")
        until(lambda: answers(access), "acme answers", pause=0.05)
        yield access


def visible(request: pytest.FixtureRequest) -> AbstractContextManager[None]:
    """Let what is printed be seen as it comes: bringing a cluster up takes minutes when nothing is built yet."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    shown: AbstractContextManager[None] = capture.global_and_fixture_disabled() if capture else nullcontext()
    return shown
