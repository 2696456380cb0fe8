"""What the operator's own account cannot do, whatever the operator asks for: rights and fence of the platform chart."""

import time
from collections.abc import Iterator

import pytest

from tests.cluster.installation import Installation
from tests.cluster.kubectl import PATIENCE, Kubectl

ACCOUNT = "system:serviceaccount:tenantry-system:tenantry-operator"
AS_OPERATOR = f"--as={ACCOUNT}"

OURS = {"kind": "ServiceAccount", "name": "tenantry-operator", "namespace": "tenantry-system"}
SOMEBODY = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}


def namespace(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def binding(namespace: str, subject: dict[str, str], name: str = "tenantry-operator") -> dict[str, object]:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "tenantry-operator-tenant"}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": role,
        "subjects": [subject],
    }


def make(kubectl: Kubectl, manifest: object, *options: str) -> str:
    """Apply the manifest; what the API server has against it, if anything."""
    done = kubectl("apply", "--server-side", "--filename", "-", *options, manifest=manifest)
    return "" if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module", autouse=True)
def victims(installation: Installation, kubectl: Kubectl) -> Iterator[None]:
    """Two namespaces beside the platform's: one that is none of the operator's business, one of a tenant."""
    for name in ("victim", "tenant-fenced"):
        assert not make(kubectl, namespace(name))
    yield
    for name in ("victim", "tenant-fenced"):
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("verb", ["label", "delete"])
def test_the_operator_cannot_touch_a_namespace_of_somebody_else(kubectl: Kubectl, verb: str) -> None:
    change = ["probed=yes"] if verb == "label" else []
    done = kubectl(verb, "namespace", "victim", *change, AS_OPERATOR)
    assert done.returncode != 0
    assert "tenants (tenant-*) only, not victim" in done.stderr


def test_the_operator_cannot_make_a_namespace_that_is_no_tenants(kubectl: Kubectl) -> None:
    assert "tenants (tenant-*) only, not stray" in make(kubectl, namespace("stray"), AS_OPERATOR)


@pytest.mark.parametrize("place", ["victim", "kube-system", "tenantry-system"])
def test_the_operator_cannot_give_itself_rights_outside_of_tenants(kubectl: Kubectl, place: str) -> None:
    refusal = make(kubectl, binding(place, OURS, name="way-in"), AS_OPERATOR)
    assert f"tenants (tenant-*) only, not {place}" in refusal
    for question in (("get", "secrets"), ("patch", "pods")):
        if (place, question) != ("tenantry-system", ("get", "secrets")):  # it reads credentials there
            assert kubectl("auth", "can-i", *question, "--namespace", place, AS_OPERATOR).stdout.strip() == "no"


def test_the_operator_cannot_give_its_rights_to_somebody_else(kubectl: Kubectl) -> None:
    assert "to nobody but itself" in make(kubectl, binding("tenant-fenced", SOMEBODY), AS_OPERATOR)


def test_the_operator_makes_keeps_and_ends_a_tenants_namespace(kubectl: Kubectl) -> None:
    assert make(kubectl, namespace("tenant-made"), AS_OPERATOR) == ""
    assert make(kubectl, binding("tenant-made", OURS), AS_OPERATOR) == ""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key-default", "namespace": "tenant-made"}}
    deadline = time.monotonic() + PATIENCE
    while refusal := make(kubectl, secret, AS_OPERATOR):  # until the authorizer has seen the binding
        assert time.monotonic() < deadline, refusal
        time.sleep(0.1)
    assert kubectl("delete", "rolebinding", "tenantry-operator", "--namespace=tenant-made", AS_OPERATOR).returncode == 0
    assert kubectl("delete", "namespace", "tenant-made", "--wait=false", AS_OPERATOR).returncode == 0


def test_nobody_else_is_fenced(kubectl: Kubectl) -> None:
    assert make(kubectl, namespace("stray"), "--dry-run=server") == ""
    assert make(kubectl, binding("victim", SOMEBODY), "--dry-run=server") == ""


def test_a_tenants_secrets_are_edited_by_the_operator_alone(kubectl: Kubectl) -> None:
    marks = {"tenantry.dev/tenant": "kept"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-kept", "labels": marks}}
    assert not make(kubectl, space)
    for name, labels in (("key-default", marks), ("notes", {})):
        metadata = {"name": name, "namespace": "tenant-kept", "labels": labels}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"api-key": "a"}}
        assert not make(kubectl, secret)

    def edit(name: str, patch: str, *options: str) -> str:
        done = kubectl("patch", "secret", name, "-n", "tenant-kept", "--type=merge", "-p", patch, *options)
        return "" if done.returncode == 0 else done.stderr

    stolen, unmarked = '{"data": {"api-key": "Yg=="}}', '{"metadata": {"labels": {"tenantry.dev/tenant": null}}}'
    forged = '{"metadata": {"annotations": {"tenantry.dev/key": "{}"}}}'
    for patch in (stolen, unmarked, forged, '{"data": null}'):
        assert "kept by the operator" in edit("key-default", patch), patch
    assert not edit("key-default", '{"metadata": {"annotations": {"note": "of an owner"}}}')
    assert not edit("notes", stolen)
    assert kubectl("delete", "secret", "key-default", "-n", "tenant-kept").returncode == 0
    kubectl("delete", "namespace", "tenant-kept", "--wait=false")
