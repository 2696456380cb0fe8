"""Tenant over tier over defaults: who wins, and what does not go together."""

from collections.abc import Mapping

import pytest
from tenantry_operator.api.allowance import BudgetWindow, OnExceeded
from tenantry_operator.api.decode import FieldError, decode_tenant, decode_tier
from tenantry_operator.api.resolve import ResolvedKeeping, ResolvedSpec, resolve
from tenantry_operator.api.settings import Capacity, DeletionPolicy
from tenantry_service import policy as contract

UPSTREAM = {"name": "openai", "baseURL": "https://api.openai.com/v1"}


def resolved(tenant: Mapping[str, object] = {}, tier: Mapping[str, object] = {}) -> ResolvedSpec:
    return resolve(
        decode_tenant({"metadata": {"name": "acme"}, "spec": {"tier": "trial", **tenant}}),
        decode_tier({"metadata": {"name": "trial"}, "spec": {"upstreams": [UPSTREAM], **tier}}),
    )


def test_what_neither_says_has_the_documented_default() -> None:
    spec = resolved()
    assert [key.name for key in spec.keys] == ["default"]
    assert spec.keys[0].grace_period_seconds == 86_400
    assert spec.budget is None
    assert spec.limits.requests_per_minute is None
    assert (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas) == (1, 1)
    assert spec.autoscaling.idle_after_seconds == 900
    assert spec.capacity is Capacity.SPOT_PREFERRED
    assert spec.deletion_policy is DeletionPolicy.DELETE
    assert spec.models.allow == ("*",)
    assert not spec.deletion_protection


def test_objects_merge_field_by_field() -> None:
    spec = resolved({"limits": {"requestsPerMinute": 7}}, {"limits": {"requestsPerMinute": 1, "concurrentRequests": 2}})
    assert (spec.limits.requests_per_minute, spec.limits.concurrent_requests) == (7, 2)


def test_lists_and_maps_are_taken_whole() -> None:
    spec = resolved(
        {"models": {"allow": ["b"], "aliases": {"x": "y"}}}, {"models": {"allow": ["a", "c"], "aliases": {"z": "y"}}}
    )
    assert spec.models.allow == ("b",)
    assert spec.models.aliases == {"x": "y"}


def test_an_empty_list_of_the_tenant_wins_over_the_tier() -> None:
    assert resolved({"owners": []}, {"owners": [{"kind": "User", "name": "ann"}]}).owners == ()


def test_false_of_the_tenant_wins_over_true_of_the_tier() -> None:
    assert not resolved({"deletionProtection": False}, {"deletionProtection": True}).deletion_protection
    assert resolved({}, {"deletionProtection": True}).deletion_protection


def test_a_budget_needs_only_an_amount() -> None:
    budget = resolved({"budget": {"amount": "12.50"}}).budget
    assert budget is not None
    assert (budget.amount_nano_usd, budget.window, budget.on_exceeded) == (
        12_500_000_000,
        BudgetWindow.MONTH,
        OnExceeded.REFUSE,
    )


def test_a_tiers_host_names_carry_the_tenants_name() -> None:
    spec = resolved({}, {"exposure": {"hostnames": ["{tenant}.api.example.com"]}})
    assert spec.hostnames == ("acme.api.example.com",)


def test_quantities_are_spelled_as_the_api_server_stores_them() -> None:
    spec = resolved(
        {"resources": {"requests": {"cpu": 1, "memory": "1024Mi"}, "limits": {"cpu": "2000m", "memory": "1Gi"}}}
    )
    assert (spec.resources.cpu_request, spec.resources.memory_request, spec.resources.cpu_limit) == ("1", "1Gi", "2")


def test_replicas_of_tenant_and_tier_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(FieldError, match=r"spec\.autoscaling\.minReplicas: is 3 and maxReplicas 2"):
        resolved({"autoscaling": {"minReplicas": 3}}, {"autoscaling": {"maxReplicas": 2}})


@pytest.mark.parametrize(
    ("tenant", "tier", "field", "problem"),
    [
        ({"requests": {"memory": "512Mi"}}, {}, "requests.memory", "is 512Mi and limits.memory 256Mi"),
        ({"requests": {"cpu": 2}}, {"limits": {"cpu": "1500m"}}, "requests.cpu", "is 2 and limits.cpu 1500m"),
        ({"requests": {"cpu": 10**13}}, {}, "requests.cpu", "from 1m to 1000"),
        ({}, {"limits": {"cpu": "0"}}, "limits.cpu", "from 1m to 1000"),
        ({}, {"limits": {"memory": "2Ti"}}, "limits.memory", "from 16Mi to 1Ti"),
        ({"requests": {"memory": "1Mi"}}, {}, "requests.memory", "from 16Mi to 1Ti"),
    ],
)
def test_resources_that_no_pod_can_have_are_refused_by_field(
    tenant: dict[str, object], tier: dict[str, object], field: str, problem: str
) -> None:
    with pytest.raises(FieldError) as caught:
        resolved({"resources": tenant}, {"resources": tier})
    assert caught.value.field == f"spec.resources.{field}"
    assert problem in caught.value.problem


def test_a_request_may_equal_its_limit() -> None:
    spec = resolved({"resources": {"requests": {"memory": "1Gi"}}}, {"resources": {"limits": {"memory": "1024Mi"}}})
    assert spec.resources.memory_request == spec.resources.memory_limit == "1Gi"


@pytest.mark.parametrize(
    ("tenant", "tier"),
    [
        ({"default": "gpt-4o"}, {}),
        ({"default": "gpt-4o"}, {"allow": ["gpt-*"]}),
        ({"default": "fast", "allow": ["gpt-*"]}, {"aliases": {"fast": "gpt-4o"}}),
    ],
)
def test_a_default_model_is_one_that_may_be_called(tenant: dict[str, object], tier: dict[str, object]) -> None:
    assert resolved({"models": tenant}, {"models": tier}).models.default == tenant["default"]


def test_a_default_model_that_may_not_be_called_is_refused_by_field() -> None:
    with pytest.raises(FieldError, match=r"spec\.models\.default: is 'o3', which models\.allow does not let through"):
        resolved({"models": {"allow": ["gpt-*"]}}, {"models": {"default": "o3"}})


def test_answers_are_kept_only_where_that_is_said_and_a_tenant_may_say_no() -> None:
    assert (resolved().cache, resolved().idempotency) == (None, None)
    tier = {"cache": {"ttl": "10m"}, "idempotency": {}}
    spec = resolved({"cache": {"maxSize": "1Mi"}}, tier)
    assert spec.cache == ResolvedKeeping(ttl_seconds=600, max_bytes=2**20)
    assert spec.idempotency == ResolvedKeeping(ttl_seconds=3600, max_bytes=16 * 2**20)
    assert resolved({"cache": {"enabled": False}}, tier).cache is None


def test_sizes_are_integers_of_bytes_within_their_bounds() -> None:
    limits = resolved({"limits": {"maxBodySize": "1Mi"}}, {"limits": {"maxUploadSize": 4096}}).limits
    assert (limits.max_body_bytes, limits.max_upload_bytes) == (2**20, 4096)
    assert resolved().limits.max_body_bytes == contract.DEFAULT_MAX_BODY_BYTES
    assert resolved().limits.max_upload_bytes == contract.DEFAULT_MAX_UPLOAD_BYTES
    with pytest.raises(FieldError, match=r"spec\.limits\.maxBodySize: is 1Gi and must be from 1Ki to 128Mi"):
        resolved({"limits": {"maxBodySize": "1Gi"}})


def test_a_tenant_without_any_upstream_is_refused() -> None:
    with pytest.raises(FieldError, match=r"spec\.upstreams: .*tier 'trial' names no upstream"):
        resolved({"upstreams": []})
