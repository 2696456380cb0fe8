"""Options of the whole suite, and the day that it counts by."""

import time
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import settings

# No test fails for a machine that is slow at the moment; what must not hang has pytest's own time limit.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


#: What is left of a day at least when a test that counts by the day begins.
REST_OF_DAY = timedelta(minutes=1)


@pytest.fixture
def today() -> date:
    """The day in UTC. It does not end while the test runs: in its last minute the next one is waited for."""
    now = datetime.now(UTC)
    later = now + REST_OF_DAY
    if later.date() != now.date():
        midnight = later.replace(hour=0, minute=0, second=0, microsecond=0)
        time.sleep((midnight - now).total_seconds())
    return datetime.now(UTC).date()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("clusters")
    group.addoption(
        "--kubeconfig",
        metavar="PATH",
        help="use this cluster instead of making one; tests/e2e then expect the platform and the simulator on it",
    )
    group.addoption(
        "--node-port",
        metavar="PORT",
        action="append",
        type=int,
        help="with --kubeconfig: a node port that tests may use, which the platform's publicUrlTemplate makes reachable"
        " from here (may be repeated; tests/e2e use up to 3 at a time)",
    )
    group.addoption("--keep-cluster", action="store_true", help="leave the kind cluster of tests/e2e running")
    proofs = parser.getgroup("proofs")
    proofs.addoption(
        "--exhaustive", action="store_true", help="tests/cluster: every crash point and larger samples, not a small one"
    )
