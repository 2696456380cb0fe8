"""The API server's flow control: the chart's level is in force, and the operator's requests are served there."""

import json
import time

import pytest

from tests.cluster.kubectl import PATIENCE, Kubectl

pytestmark = pytest.mark.usefixtures("installation")

ACCOUNT = "tenantry-operator"
LEVEL = "tenantry-operator"
#: Says which level and which schema served a request: uids, in this order (KEP-1040).
PRIORITY, FLOW = "X-Kubernetes-Pf-Prioritylevel-Uid", "X-Kubernetes-Pf-Flowschema-Uid"


def uid(kubectl: Kubectl, kind: str) -> str:
    """The uid of the chart's object of this kind; empty when there is none."""
    done = kubectl("get", kind, LEVEL, "--output", "jsonpath={.metadata.uid}")
    return done.stdout.strip()


def served_by(kubectl: Kubectl, *options: str) -> str:
    """Everything that the API server says about how it has served one request."""
    done = kubectl("get", "--raw", "/api/v1/namespaces?limit=1", "-v=8", *options)
    return done.stderr


def test_the_schema_refers_to_a_level_that_exists(kubectl: Kubectl) -> None:
    def dangling() -> str:
        found = json.loads(kubectl("get", "flowschema", LEVEL, "--output", "json").stdout)
        conditions = {each["type"]: each["status"] for each in found.get("status", {}).get("conditions", [])}
        return str(conditions.get("Dangling", ""))

    deadline = time.monotonic() + PATIENCE
    while dangling() != "False":
        assert time.monotonic() < deadline, "the API server never took the schema up"
        time.sleep(0.2)


def test_requests_of_the_operators_account_are_served_on_its_level_and_those_of_others_are_not(
    kubectl: Kubectl,
) -> None:
    level, schema = uid(kubectl, "prioritylevelconfiguration"), uid(kubectl, "flowschema")
    assert level
    assert schema
    operator = f"--as=system:serviceaccount:tenantry-system:{ACCOUNT}"
    groups = [f"--as-group=system:{group}" for group in ("serviceaccounts", "authenticated")]
    other = "--as=system:serviceaccount:tenantry-system:default"
    deadline = time.monotonic() + PATIENCE
    while level not in served_by(kubectl, operator, *groups):
        assert time.monotonic() < deadline, served_by(kubectl, operator, *groups)
        time.sleep(0.2)
    assert schema in served_by(kubectl, operator, *groups)
    assert level not in served_by(kubectl, other, *groups)
