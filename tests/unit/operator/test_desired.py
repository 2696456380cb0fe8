"""Chart values, the policy document and digests."""

import json
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from msgspec import convert
from msgspec.structs import replace
from tenantry_operator.api.resolve import ResolvedSpec, resolve
from tenantry_operator.plan import names
from tenantry_operator.plan.desired import digest, pod_annotations, policy, split_image, values
from tenantry_operator.plan.keys import FormerKey
from tenantry_operator.plan.objects import namespace
from tenantry_operator.plan.store import address, store
from tenantry_service import policy as contract

from tests.unit.operator.tenants import KEY, NOW, PLATFORM, UID, tenant, tier

SCHEMA = json.loads(Path("charts/tenant/values.schema.json").read_text())
FULL: dict[str, object] = {
    "owners": [
        {"kind": "User", "name": "ada@example.com"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "tools"},
    ],
    "limits": {
        "requestsPerMinute": 60,
        "tokensPerMinute": 1000,
        "concurrentRequests": 3,
        "whenUnavailable": "LocalShare",
    },
    "budget": {"amount": "12.50", "window": "Day", "onExceeded": "Warn"},
    "models": {"allow": ["gpt-4o*"], "aliases": {"fast": "gpt-4o-mini"}},
    "upstreams": [
        {"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "openai", "priority": 1},
        {"name": "own", "baseURL": "http://vllm.models.svc.cluster.local:8000/v1", "models": ["llama*"]},
        {"name": "odd", "baseURL": "http://llm.example.com:8443/v1"},
    ],
    "resources": {"requests": {"cpu": 1, "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "256Mi"}},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    "placement": {"capacity": "Spot", "architectures": ["arm64"]},
    "exposure": {"nodePort": 30123},
    "suspend": {"traffic": True},
}


def resolved(**spec: object) -> ResolvedSpec:
    """What holds for acme with this spec."""
    return resolve(tenant(**spec), tier())


def document(**spec: object) -> contract.Policy:
    """The policy of acme with this spec and one key."""
    return policy("acme", 3, resolved(**spec), [KEY])


@pytest.mark.parametrize("spec", [{}, FULL])
def test_values_are_what_the_charts_schema_allows(spec: dict[str, object]) -> None:
    made = values("acme", resolved(**spec), document(**spec), PLATFORM)
    jsonschema.validate(made, SCHEMA)


def test_values_say_what_the_tenant_says() -> None:
    made = values("acme", resolved(**FULL), document(**FULL), PLATFORM)
    assert made["autoscaling"] == {
        "enabled": True,
        "minReplicas": 2,
        "maxReplicas": 4,
        "targetInFlight": 100,
        "inFlightMetric": "tenantry_in_flight_requests",
        "cpuMetric": False,
        "scaleDownWindowSeconds": 300,
    }
    assert made["upstreamSecrets"] == ["openai"]
    assert made["resources"] == {
        "requests": {"cpu": "1", "memory": "128Mi"},
        "limits": {"cpu": "2", "memory": "256Mi"},
    }
    assert made["service"] == {"nodePort": 30123}
    assert made["network"] == {
        "ingressNamespaces": ["tenantry-system"],
        "egress": {"ports": [443, 8443], "namespaces": ["models"]},
        "redis": {},
    }


@pytest.mark.parametrize(
    ("url", "cidrs", "egress"),
    [
        ("redis://:p@redis.stores.svc.cluster.local", (), {"port": 6379, "namespace": "stores"}),
        ("rediss://a:p@10.1.2.3:7000/2", (), {"port": 7000, "cidrs": ["10.1.2.3/32"]}),
        ("redis://:p@redis.example.com", ("10.2.0.0/16",), {"port": 6379, "cidrs": ["10.2.0.0/16"]}),
    ],
)
def test_pods_reach_the_shared_counters_and_nothing_beside_them(
    url: str, cidrs: tuple[str, ...], egress: dict[str, object]
) -> None:
    platform = replace(PLATFORM, store=store(address(url), b"s" * 32, cidrs))
    made = values("acme", resolved(), document(), platform)
    network = made["network"]
    assert isinstance(network, dict)
    assert network["redis"] == egress
    assert made["redis"] == {"enabled": True}
    jsonschema.validate(made, SCHEMA)


def test_the_policy_is_one_that_the_service_reads() -> None:
    made = document(**FULL)
    assert contract.decode(contract.encode(made)) == made
    assert made.budget is not None
    assert made.budget.amount_nano_usd == 12_500_000_000
    assert made.upstreams[0].credentials_file == "/etc/tenantry/upstreams/openai/api-key"
    assert made.upstreams[1].credentials_file is None
    assert made.upstreams[2].models == ("*",)
    assert [key.id for key in made.keys] == [KEY.id]


def test_the_policy_says_what_the_tenant_says() -> None:
    made = document(
        limits={"maxBodySize": "1Mi", "maxUploadSize": 4096},
        models={"default": "fast", "aliases": {"fast": "gpt-4o"}, "maxOutputTokens": 1000},
        routes={"allow": ["/v1/chat/*"], "unknown": "Refuse"},
        pricing={"rates": {"own": {"input": "2.5", "output": "10", "cachedInput": "0"}}, "unknownModel": "Refuse"},
        upstreams=[{"name": "a", "baseURL": "https://a.example.com/v1", "credentialHeader": "api-key"}],
    )
    assert (made.max_body_bytes, made.max_upload_bytes) == (1_048_576, 4096)
    assert (made.models.default, made.models.max_output_tokens) == ("fast", 1000)
    assert made.routes == contract.Routes(allow=("/v1/chat/*",), unknown=contract.UnknownRoute.REFUSE)
    assert made.prices == {"own": contract.Rates(input=2_500_000_000, output=10_000_000_000, cached_input=0)}
    assert made.unknown_model is contract.UnknownModel.REFUSE
    assert made.upstreams[0].credential_header is contract.CredentialHeader.API_KEY


def test_a_tenant_s_own_rates_say_all_that_the_service_can_charge_by() -> None:
    names = [name for name in contract.Rates.__struct_encode_fields__ if name not in ("tiers", "longContext")]
    names.remove("longContextAbove")
    every = {name: str(number) for number, name in enumerate(names, 1)}
    longer = {**every, "input": "90", "above": 200_000}
    of_tier = {**every, "longContext": longer}
    (made,) = document(pricing={"rates": {"own": {**of_tier, "tiers": {"flex": of_tier}}}}).prices.values()
    amounts = {name: number * 10**9 for number, name in enumerate(names, 1)}
    said = {**amounts, "longContext": {**amounts, "input": 90 * 10**9}, "longContextAbove": 200_000}
    assert made == convert({**said, "tiers": {"flex": said}}, contract.Rates)


def test_a_keys_own_limits_hold_for_it_and_for_those_that_it_has_replaced() -> None:
    key = {"name": "default", "limits": {"requestsPerMinute": 6}, "budget": {"amount": "2"}, "gracePeriod": "2h"}
    former = FormerKey(id="formerformer", sha256="1" * 64, replaced=NOW, until=NOW + timedelta(hours=1))
    made = policy("acme", 3, resolved(keys=[key]), [replace(KEY, former=(former,))]).keys
    assert [each.id for each in made] == [KEY.id, "formerformer"]
    assert {each.limits for each in made} == {contract.KeyLimits(requests_per_minute=6)}
    assert [each.budget and each.budget.amount_nano_usd for each in made] == [2_000_000_000] * 2
    assert (document().keys[0].limits, document().keys[0].budget) == (None, None)


def test_a_tenant_that_says_nothing_has_the_services_own_defaults() -> None:
    bare, made = contract.Policy(tenant="acme", generation=3, upstreams=document().upstreams), document()
    assert contract.sealed(replace(made, keys=())) == contract.sealed(bare)


def test_a_key_that_the_spec_does_not_name_any_more_is_not_in_the_policy() -> None:
    assert document(keys=[{"name": "other"}]).keys == ()


def test_a_change_that_means_nothing_to_the_service_is_no_new_revision() -> None:
    assert document().revision == policy("acme", 99, resolved(), [KEY]).revision
    assert document().revision != document(limits={"requestsPerMinute": 1}).revision


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("tenantry:1.0", ("tenantry", "1.0")),
        ("registry.example:5000/team/tenantry:dev-1a", ("registry.example:5000/team/tenantry", "dev-1a")),
        ("tenantry@sha256:abc", ("tenantry", "sha256:abc")),
        ("registry.example:5000/tenantry:1.0@sha256:abc", ("registry.example:5000/tenantry", "sha256:abc")),
    ],
)
def test_images_are_split_into_repository_and_tag_or_digest(reference: str, parts: tuple[str, str]) -> None:
    assert split_image(reference) == parts


@pytest.mark.parametrize("reference", ["tenantry", "registry.example:5000/tenantry"])
def test_an_image_without_tag_is_refused_with_an_example(reference: str) -> None:
    with pytest.raises(ValueError, match="needs a tag"):
        split_image(reference)


def test_the_digest_covers_everything_that_is_added_to_the_chart() -> None:
    own = [namespace("acme", UID, retain=False)]
    base = digest("chart", own, {"openai": "hash"})
    assert base == digest("chart", own, {"openai": "hash"})
    others = [
        digest("other", own, {"openai": "hash"}),
        digest("chart", own, {"openai": "other"}),
        digest("chart", own, {}),
        digest("chart", [namespace("acme", UID, retain=True)], {"openai": "hash"}),
        digest("chart", [namespace("acme", "other", retain=False)], {"openai": "hash"}),
    ]
    assert len({base, *others}) == 6


def test_pods_are_touched_for_a_new_policy_and_for_new_credentials() -> None:
    base = pod_annotations(document(), {})
    assert base[names.POLICY_REVISION] == document().revision
    assert pod_annotations(document(limits={"requestsPerMinute": 1}), {}) != base
    assert pod_annotations(document(), {"openai": "hash"}) != base
