"""What the platform's accounts did during all tests of this folder, against what the chart lets them do.

These come last. Operators run as the chart's own ServiceAccount in all tests, so a right that is missing fails more
than these; a right that nothing uses fails here.
"""

from collections.abc import Sequence

import pytest
from localcluster.controlplane import ControlPlane

from tests.cluster.installation import Installation
from tests.cluster.kubectl import rendered
from tests.cluster.rights import Right, Use, granted, missing, unused, used

IN_TENANTS = 'ClusterRole "tenantry-operator-tenant"'

#: Rights that no audit event is an account of, each with the test that fails without it. `bind` is asked for inside of
#: the API server, when somebody who lacks the rights of a role makes a binding to it.
SEEN_OTHERWISE = {
    Right('ClusterRole "tenantry-operator"', "rbac.authorization.k8s.io", "clusterroles", "bind"): (
        "test_operator_fence.py::test_the_operator_makes_keeps_and_ends_a_tenants_namespace"
    ),
    Right(IN_TENANTS, "rbac.authorization.k8s.io", "clusterroles", "bind"): (
        "test_operator.py::test_a_tenant_becomes_everything_it_needs_and_is_ready"
    ),
    Right(IN_TENANTS, "rbac.authorization.k8s.io", "roles", "bind"): (
        "test_operator.py::test_a_tenant_becomes_everything_it_needs_and_is_ready"
    ),
}


@pytest.fixture(scope="module")
def uses(control_plane: ControlPlane, installation: Installation) -> Sequence[Use]:
    """All requests of our accounts until now."""
    assert control_plane.audit_log is not None
    log = control_plane.audit_log  # and what the API server has put beside it, so that it does not become too large
    parts = sorted(log.parent.glob(f"{log.stem}*{log.suffix}"))
    found = list(used(line for part in parts for line in part.read_text().splitlines()))
    assert found, "nothing was asked: is the audit log on?"
    return found


@pytest.fixture(scope="module")
def grants() -> set[Right]:
    """All rights in the chart."""
    return granted(rendered("tenantry"))


def test_no_right_is_missing(uses: Sequence[Use], grants: set[Right]) -> None:
    refused = missing(grants, uses, in_tenants=IN_TENANTS)
    assert not refused, "refused: " + "; ".join(sorted(f"{right} in {space or 'all'}" for right, space in refused))


@pytest.mark.whole_folder
def test_no_right_is_unused(uses: Sequence[Use], grants: set[Right]) -> None:
    left = unused(grants, uses)
    known = set(SEEN_OTHERWISE)
    assert left == known, "never used: " + "; ".join(sorted(map(str, left - known)))


def test_no_right_on_secrets_or_commands_in_pods_holds_in_the_whole_cluster(grants: set[Right]) -> None:
    cluster_wide = {right for right in grants if right.role in ('ClusterRole "tenantry-operator"', "apply-crds")}
    assert cluster_wide
    assert not {right for right in cluster_wide if right.resource in ("secrets", "pods/exec", "*")}
    assert not {right for right in grants if right.resource.startswith("pods/") or "*" in (right.verb, right.group)}
