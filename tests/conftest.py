"""Options of the whole suite."""

import pytest
from hypothesis import settings

# No test fails for a machine that is slow at the moment; what must not hang has pytest's own time limit.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


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
