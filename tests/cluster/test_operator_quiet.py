"""Quiet: once tenants have converged, nothing is written any more, whatever controllers go on doing to the objects."""

import time
from pathlib import Path

import pytest

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operators

#: Seconds to listen. The HPA's controller looks every 15 s, KWOK's nodes report every 10 s.
LISTEN = 60.0


@pytest.mark.timeout(400)
def test_after_convergence_nothing_is_written(installation: Installation, cluster: Cluster, tmp_path: Path) -> None:
    cluster.tier("quiet", limits={"requestsPerMinute": 60})
    shapes: dict[str, dict[str, object]] = {
        "quiet-one": {"owners": [{"kind": "User", "name": "ada"}]},
        "quiet-scaled": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}},
        "quiet-paused": {"suspend": {"traffic": True}},
        "quiet-stalled": {"tier": "missing"},
    }
    operators = Operators(installation.operator, tmp_path)
    operator = operators.start().says("synced")
    try:
        for name, spec in shapes.items():
            cluster.tenant(name, **{"tier": "quiet", **spec})
        cluster.wait_for("quiet-one", "Ready", "True")
        cluster.wait_for("quiet-scaled", "Ready", "True")
        scaled = f"{TENANTS}/quiet-scaled"
        eventually("the HPA has scaled up", lambda: cluster.call("GET", scaled)["status"].get("readyReplicas") == 2)
        cluster.wait_for("quiet-paused", "Suspended", "True")
        cluster.wait_for("quiet-stalled", "Stalled", "True")
        settled = operator.settles().written()
        events = operator.metric("tenantry_watch_events_total")
        time.sleep(LISTEN)
        assert operator.written() == settled
        assert operator.metric("tenantry_watch_events_total") > events  # it was not deaf: its Lease at least goes on
    finally:
        for name in shapes:
            cluster.delete(f"{TENANTS}/{name}")
        for name in shapes:
            cluster.gone(name)
        operators.end()
