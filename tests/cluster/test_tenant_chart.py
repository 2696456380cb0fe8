"""What charts/tenant renders, as the API server and its controllers take it."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.cluster.kubectl import Kubectl, eventually, rendered

NAMESPACE = "chart-under-test"

Install = Callable[..., None]


@pytest.fixture
def install(kubectl: Kubectl) -> Iterator[Install]:
    """Apply these objects of the chart in the operator's way, in a namespace that goes with the test."""
    assert kubectl("create", "namespace", NAMESPACE).returncode == 0

    def run(*show_only: str, values: Mapping[str, object] | None = None) -> None:
        base = {"tenant": {"name": "acme"}, "image": {"tag": "v1"}, "policy": {"apiVersion": "x", "tenant": "acme"}}
        for document in rendered("tenant", *show_only, namespace=NAMESPACE, values=base | dict(values or {})):
            options = ("--server-side", "--force-conflicts", "--field-manager=tenantry-operator")
            done = kubectl("apply", *options, "--filename", "-", manifest=document)
            assert done.returncode == 0, done.stderr

    yield run
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    gone = ("get", "namespace", NAMESPACE)
    eventually("the next test may make it", lambda: "NotFound" in kubectl(*gone).stderr, patience=180)


def get(kubectl: Kubectl, *what: str) -> dict[str, Any]:
    done = kubectl("get", *what, "--namespace", NAMESPACE, "--output=json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_an_allow_all_added_to_the_default_deny_is_seen_and_put_back(kubectl: Kubectl, install: Install) -> None:
    def owned() -> dict[str, Any]:
        policy = get(kubectl, "networkpolicy", "default-deny", "--show-managed-fields")
        (ours,) = [e for e in policy["metadata"]["managedFields"] if e["manager"] == "tenantry-operator"]
        spec = ours["fieldsV1"]["f:spec"]
        assert isinstance(spec, dict)
        return spec

    install("networkpolicies")
    before = get(kubectl, "networkpolicy", "default-deny")["spec"]
    assert {"f:ingress", "f:egress"} <= owned().keys()
    edit = json.dumps({"spec": {"ingress": [{}], "egress": [{}]}})
    patch = ("--namespace", NAMESPACE, "--type=merge", "--patch", edit)
    assert kubectl("patch", "networkpolicy", "default-deny", *patch).returncode == 0
    assert not {"f:ingress", "f:egress"} & owned().keys()
    install("networkpolicies")
    assert get(kubectl, "networkpolicy", "default-deny")["spec"] == before


def replicas(kubectl: Kubectl) -> int:
    return int(get(kubectl, "deployment", "api")["spec"]["replicas"])


def test_a_fixed_number_of_pods_is_held_without_metrics_and_not_lost_when_it_becomes_a_range(
    kubectl: Kubectl, install: Install
) -> None:
    chart = ("deployment", "hpa")
    install(*chart, values={"autoscaling": {"minReplicas": 4, "maxReplicas": 4}})
    eventually("four pods are asked for", lambda: replicas(kubectl) == 4)
    generation = get(kubectl, "deployment", "api")["metadata"]["generation"]
    install(*chart, values={"autoscaling": {"minReplicas": 4, "maxReplicas": 8}})
    deployment = get(kubectl, "deployment", "api")
    assert (deployment["spec"]["replicas"], deployment["metadata"]["generation"]) == (4, generation)


def test_traffic_that_is_resumed_gets_its_pods_back(kubectl: Kubectl, install: Install) -> None:
    scaled = {"autoscaling": {"minReplicas": 2, "maxReplicas": 8}}
    install("deployment", "hpa", values=scaled)
    eventually("two pods are asked for", lambda: replicas(kubectl) == 2)
    install("deployment", values=scaled | {"suspend": {"traffic": True}})
    assert kubectl("delete", "hpa", "api", "--namespace", NAMESPACE).returncode == 0
    assert replicas(kubectl) == 0
    install("deployment", values=scaled)
    assert replicas(kubectl) == 1
    install("hpa", values=scaled)
    eventually("two pods are asked for again", lambda: replicas(kubectl) == 2)
