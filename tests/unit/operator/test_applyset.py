"""The set's bookkeeping and what may become a member of it."""

import pytest
from msgspec import convert, to_builtins
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import FINALIZER, ObjectMeta
from tenantry_operator.apply.applyset import members, preparation
from tenantry_operator.apply.kinds import GROUP_KINDS, MANAGED, STAGES, WATCHED, Stage
from tenantry_operator.kube.resources import DEPLOYMENTS, NAMESPACES, NETWORK_POLICIES, RESOURCE_QUOTAS, SECRETS
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.facts import Failure

from tests.unit.operator.tenants import PLATFORM, SPACE, UID

META = ObjectMeta(name="acme", uid=UID, resource_version="7", finalizers=("other/one",), labels={"team": "a"})


def rendered(kind: str = "ConfigMap", version: str = "v1", name: str = "a", **metadata: object) -> dict[str, object]:
    """An object as the chart renders it."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}}


def patched(meta: ObjectMeta) -> dict[str, object]:
    """What the preparation writes, by path."""
    return {str(step["path"]): step["value"] for step in preparation(meta) if step["op"] == "add"}


def test_the_id_is_that_of_the_specification() -> None:
    # printf 'acme..Tenant.tenantry.dev' | sha256sum | xxd -r -p | base64 | tr '+/' '-_' | tr -d =
    assert names.set_id("acme") == "applyset-wQiLncjOmqDHVj3XQ4L2oiRg9PwzjjTZxKWBS0GfJHg-v1"


def test_preparing_keeps_what_others_put_on_the_tenant_and_refuses_if_that_has_changed() -> None:
    tests = [step for step in preparation(META) if step["op"] == "test"]
    assert {step["path"]: step["value"] for step in tests} == {
        "/metadata/resourceVersion": "7",
        "/metadata/uid": UID,
    }
    assert patched(META)["/metadata/finalizers"] == ["other/one", FINALIZER]
    assert patched(META)["/metadata/labels"] == {"team": "a", names.SET_ID: names.set_id("acme")}


def test_preparing_never_narrows_the_kinds() -> None:
    meta = replace(META, annotations={names.SET_GROUP_KINDS: "Widget.example"})
    listed = patched(meta)["/metadata/annotations"]
    assert isinstance(listed, dict)
    assert set(listed[names.SET_GROUP_KINDS].split(",")) == GROUP_KINDS | {"Widget.example"}


def test_preparing_twice_changes_nothing() -> None:
    first = patched(META)
    written = {path.rpartition("/")[2]: value for path, value in first.items()}
    meta = convert({**to_builtins(META), **written}, ObjectMeta)
    assert patched(meta) == first


def test_a_member_is_labelled_and_put_into_the_tenants_namespace() -> None:
    (member,) = members("acme", [rendered(labels={"app.kubernetes.io/managed-by": "Helm", "own": "x"})])
    metadata = member.body["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["namespace"] == SPACE
    assert metadata["labels"] == {"own": "x", **names.labels("acme")}


@pytest.mark.parametrize(
    ("objects_", "reason", "word"),
    [
        ([rendered("Job", "batch/v1")], Reason.RENDER_FAILED, "Job a"),
        ([rendered(namespace="kube-system")], Reason.RENDER_FAILED, "outside"),
        ([rendered("Namespace", name="kube-system")], Reason.RENDER_FAILED, "outside"),
        ([rendered(labels={names.PART_OF: "applyset-other-v1"})], Reason.OBJECT_CONFLICT, "another set"),
        ([rendered(), rendered()], Reason.RENDER_FAILED, "twice"),
    ],
)
def test_what_must_not_be_a_member_is_refused_before_anything_is_written(
    objects_: list[dict[str, object]], reason: Reason, word: str
) -> None:
    with pytest.raises(Failure, match=word) as caught:
        members("acme", objects_)
    assert caught.value.reason is reason


def test_fences_stand_before_the_first_pod() -> None:
    assert STAGES[NAMESPACES] < STAGES[SECRETS] < STAGES[RESOURCE_QUOTAS]
    assert STAGES[NAMESPACES] < STAGES[NETWORK_POLICIES]
    assert STAGES[NETWORK_POLICIES] == STAGES[RESOURCE_QUOTAS] == Stage.FENCES < STAGES[DEPLOYMENTS]


def test_everything_but_secrets_is_watched() -> None:
    assert set(MANAGED) - set(WATCHED) == {SECRETS}


@pytest.mark.parametrize("retain", [True, False])
def test_a_retained_namespace_is_not_tied_to_its_tenant(retain: bool) -> None:
    metadata = objects.namespace("acme", UID, retain=retain)["metadata"]
    assert isinstance(metadata, dict)
    assert ("ownerReferences" in metadata) is not retain
    assert metadata["annotations"][names.TENANT_UID] == UID


def test_the_operators_rights_end_at_the_tenants_namespace() -> None:
    binding = objects.operator_binding("acme", PLATFORM)
    assert binding["kind"] == "RoleBinding"
    metadata = binding["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["namespace"] == SPACE
