"""What is kept of live objects, and what counts as drift."""

from datetime import UTC, datetime

import msgspec
import pytest
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import Child, LiveDeployment, LiveObject, child, fingerprint, version

from tests.unit.operator.tenants import SPACE
from tests.unit.operator.tenants import child as made


def read(raw: dict[str, object], kind: type[LiveObject | LiveDeployment] = LiveObject) -> Child:
    """As it is read from an answer or a watch."""
    return child("ConfigMap", msgspec.json.decode(msgspec.json.encode(raw), type=kind))


def configmap(*entries: dict[str, object], **metadata: object) -> dict[str, object]:
    """A ConfigMap with these managedFields."""
    return {
        "data": {"policy.json": "{}"},
        "metadata": {
            "name": "tenantry-policy",
            "namespace": "tenant-acme",
            "uid": "u",
            "resourceVersion": "12",
            "labels": names.labels("acme"),
            "managedFields": list(entries),
            **metadata,
        },
    }


OURS: dict[str, object] = {
    "manager": names.FIELD_MANAGER,
    "operation": "Apply",
    "apiVersion": "v1",
    "fieldsV1": {"f:data": {"f:policy.json": {}}},
}
OURS_LESS = {**OURS, "fieldsV1": {"f:data": {}}}
THEIRS = {**OURS, "manager": "kubectl-edit", "operation": "Update"}
OUR_STATUS = {**OURS, "subresource": "status"}


def test_the_order_of_fields_does_not_matter() -> None:
    one = {**OURS, "fieldsV1": {"f:a": {}, "f:b": {}}}
    two = {**OURS, "fieldsV1": {"f:b": {}, "f:a": {}}}
    assert read(configmap(one)).fields == read(configmap(two)).fields


def test_losing_a_field_to_somebody_is_seen_and_their_own_fields_are_not() -> None:
    mine = read(configmap(OURS)).fields
    assert read(configmap(OURS, THEIRS)).fields == mine
    assert read(configmap(OUR_STATUS, OURS)).fields == mine
    assert read(configmap(OURS_LESS, THEIRS)).fields != mine
    assert read(configmap(THEIRS)).fields != mine


@pytest.mark.parametrize("version_only", [True, False])
def test_a_new_version_alone_is_no_difference(version_only: bool) -> None:
    before = read(configmap(OURS))
    after = read(configmap(OURS if version_only else OURS_LESS, resourceVersion="13"))
    assert before.same_as(after) is version_only


def test_a_deployment_is_current_only_when_its_controller_has_seen_it() -> None:
    raw: dict[str, object] = {
        "metadata": {"name": "api", "generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2},
    }
    seen = read(raw, LiveDeployment).workload
    assert seen is not None
    assert (seen.current, seen.wanted, seen.updated, seen.available) == (False, 2, 1, 2)
    raw["status"] = {
        "observedGeneration": 2,
        "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
        ],
    }
    seen = read(raw, LiveDeployment).workload
    assert seen is not None
    assert (seen.current, seen.deadline_exceeded, seen.refused) == (True, True, "exceeded quota")


def test_when_pods_were_asked_for_again_is_read_from_the_deployment_and_is_no_drift() -> None:
    asked = {"manager": names.FIELD_MANAGER, "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": {}}}}

    def deployment(text: str | None) -> dict[str, object]:
        metadata = {"name": "api", "managedFields": [OURS, *([asked] if text else [])]}
        return {"metadata": {**metadata, "annotations": {names.ASKED_AGAIN: text} if text else {}}}

    before, after = (read(deployment(text), LiveDeployment) for text in (None, "2026-01-02T03:04:05.000006+00:00"))
    assert before.workload is not None
    assert after.workload is not None
    assert before.workload.asked_again is None
    assert after.workload.asked_again == datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert before.fields == after.fields
    for nonsense in ("soon", "2026-01-02T03:04:05"):
        seen = read(deployment(nonsense), LiveDeployment).workload
        assert seen is not None
        assert seen.asked_again is None


@pytest.mark.parametrize(
    ("hard", "used", "full"),
    [("16", "15", False), ("16", "16", True), ("16", "17", True), ("2k", "1999", False), ("2k", "2k", True)],
)
def test_a_quota_is_full_when_it_has_no_room_for_a_pod(hard: str, used: str, full: bool) -> None:
    status = {"hard": {"pods": hard, "count/secrets": "100"}, "used": {"pods": used, "count/secrets": "100"}}
    assert read({"metadata": {"name": "tenant"}, "status": status}).full is full


@pytest.mark.parametrize("status", [{}, {"hard": {"pods": "1"}}, {"hard": {"pods": "1"}, "used": {"pods": "1e3"}}])
def test_a_quota_that_has_not_counted_yet_or_counts_otherwise_is_not_called_full(status: dict[str, object]) -> None:
    assert not read({"metadata": {"name": "tenant"}, "status": status}).full


def test_the_fingerprint_tells_edits_deletions_and_additions_but_not_order_or_versions() -> None:
    one, two = made("ConfigMap", "a"), made("Service", "b")
    base = fingerprint([one, two])
    assert fingerprint([two, msgspec.structs.replace(one, version=99, uid="new")]) == base
    assert fingerprint([one]) != base
    assert fingerprint([one, two, made("ConfigMap", "c")]) != base
    assert fingerprint([one, msgspec.structs.replace(two, fields="other")]) != base


def test_secrets_which_nobody_watches_are_not_part_of_the_fingerprint() -> None:
    one = made("ConfigMap", "a")
    assert fingerprint([one, made("Secret", "upstream-openai")]) == fingerprint([one])


def test_labels_alone_make_no_member() -> None:
    stolen = read(configmap(OURS, namespace="kube-system"))
    assert stolen.tenant == "acme"
    assert not stolen.at_home
    assert read(configmap(OURS)).at_home
    assert made("Namespace", SPACE).at_home
    assert not made("Namespace", "kube-system").at_home


def test_versions_are_numbers() -> None:
    assert version("10") > version("9")
    assert version("") == 0
