"""From API JSON to models: errors name the field, and a status never stands in the way."""

from datetime import UTC, datetime

import pytest
from tenantry_operator.api.decode import FieldError, decode_meta, decode_status, decode_tenant, decode_tier
from tenantry_operator.api.tenant import TenantStatus


def test_a_tenant_is_read_with_what_is_not_ours_left_out() -> None:
    tenant = decode_tenant(
        {
            "apiVersion": "tenantry.dev/v1alpha1",
            "metadata": {"name": "acme", "uid": "u", "generation": 3, "creationTimestamp": "2026-05-01T08:00:00Z"},
            "spec": {"tier": "trial", "limits": {"requestsPerMinute": 5}, "unheardOf": 1},
        }
    )
    assert tenant.metadata.creation_timestamp == datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert tenant.spec.tier == "trial"
    assert tenant.spec.limits is not None
    assert tenant.spec.limits.requests_per_minute == 5
    assert tenant.spec.budget is None


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tier": "Not A Tier"}, "spec.tier"),
        ({}, "spec"),
        ({"tier": "t", "limits": {"requestsPerMinute": 0}}, "spec.limits.requestsPerMinute"),
        ({"tier": "t", "upstreams": [{"name": "a", "baseURL": "https://a/v1"}, {"name": "b"}]}, "spec.upstreams[1]"),
        *(
            ({"tier": "t", "upstreams": [{"name": "a", "baseURL": url}]}, "spec.upstreams[0].baseURL")
            for url in ("https://x:99999/v1", "https://x:65536", "https://x:0", "http://x..svc/v1", "https://a@b/v1")
        ),
        ({"tier": "t", "budget": {"amount": "-1"}}, "spec.budget.amount"),
        ({"tier": "t", "keys": [{"name": "a", "expiresAt": "tomorrow"}]}, "spec.keys[0].expiresAt"),
    ],
)
def test_a_wrong_spec_names_its_field(spec: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        decode_tenant({"metadata": {"name": "acme"}, "spec": spec})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_what_a_deletion_needs_can_be_read_of_a_tenant_with_a_wrong_spec() -> None:
    raw = {"metadata": {"name": "acme", "deletionTimestamp": "2026-05-01T08:00:00Z", "finalizers": ["x"]}, "spec": 5}
    assert decode_meta(raw).deletion_timestamp is not None


@pytest.mark.parametrize("status", [{"conditions": [{"type": "Ready"}]}, {"replicas": "many"}, 5])
def test_an_unreadable_status_counts_as_none(status: object) -> None:
    assert decode_status({"status": status}) == TenantStatus()


def test_a_reason_of_another_version_can_be_read() -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "NotInventedYet",
        "lastTransitionTime": "2026-05-01T08:00:00Z",
    }
    assert decode_status({"status": {"conditions": [condition]}}).conditions[0].reason == "NotInventedYet"


def test_a_wrong_tier_names_its_field() -> None:
    with pytest.raises(FieldError, match=r"spec\.autoscaling\.maxReplicas"):
        decode_tier({"metadata": {"name": "t"}, "spec": {"autoscaling": {"maxReplicas": 0}}})
