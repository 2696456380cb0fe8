"""Each field of a Tenant changes what is applied, or its description says that it is not in force yet."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import pytest
from msgspec.structs import replace
from tenantry_operator.api import crd
from tenantry_operator.api.resolve import ResolvedKey, resolve
from tenantry_operator.plan.desired import policy, values
from tenantry_operator.plan.exposure import Exposure, Gateway, Reach, Way
from tenantry_operator.plan.keys import IssuedKey, kept, rotated, rotation_due

from tests.unit.charts.conftest import Object, RenderPlatform, RenderTenant
from tests.unit.charts.objects import at, find
from tests.unit.operator.tenants import KEY, NOW, PLATFORM, tier
from tests.unit.operator.tenants import tenant as acme

Spec = Mapping[str, object]

UPSTREAM = {"name": "openai", "baseURL": "https://api.openai.com/v1"}
RATES = {"input": "1", "output": "2"}
RATE_FIELDS = (
    *("input", "output", "cachedInput", "cacheWrite"),
    *("audioInput", "audioOutput", "imageInput", "imageOutput"),
)


def priced(
    usual: Mapping[str, object],
    longer: Mapping[str, object],
    tier: Mapping[str, object],
    tier_longer: Mapping[str, object],
) -> dict[str, object]:
    """Rates of every kind, changed in these four places."""
    above = RATES | {"above": 10}
    in_tier = {**RATES, "longContext": {**above, **tier_longer}, **tier}
    return {
        "pricing": {
            "rates": {"own": {**RATES, "longContext": {**above, **longer}, "tiers": {"flex": in_tier}, **usual}}
        }
    }


OWNER = {"kind": "ServiceAccount", "name": "ci", "namespace": "build"}

#: Field -> a Tenant's spec, and the same with that field changed.
CHANGES: dict[str, tuple[Spec, Spec]] = {
    "owners[].kind": ({"owners": [{"kind": "User", "name": "a"}]}, {"owners": [{"kind": "Group", "name": "a"}]}),
    "owners[].name": ({"owners": [OWNER]}, {"owners": [OWNER | {"name": "cd"}]}),
    "owners[].namespace": ({"owners": [OWNER]}, {"owners": [OWNER | {"namespace": "test"}]}),
    "keys[].name": ({}, {"keys": [{"name": "other"}]}),
    "keys[].rotation": ({}, {"keys": [{"name": "default", "rotation": 2}]}),
    "keys[].gracePeriod": ({}, {"keys": [{"name": "default", "gracePeriod": "1h"}]}),
    "keys[].expiresAt": ({}, {"keys": [{"name": "default", "expiresAt": "2030-01-01T00:00:00Z"}]}),
    **{
        f"keys[].limits.{limit}": ({}, {"keys": [{"name": "default", "limits": {limit: 1}}]})
        for limit in ("requestsPerMinute", "tokensPerMinute", "concurrentRequests")
    },
    "keys[].budget.amount": ({}, {"keys": [{"name": "default", "budget": {"amount": "1"}}]}),
    **{
        f"keys[].budget.{field}": (
            {"keys": [{"name": "default", "budget": {"amount": "1"}}]},
            {"keys": [{"name": "default", "budget": {"amount": "1", field: value}}]},
        )
        for field, value in (("window", "Day"), ("onExceeded", "Warn"))
    },
    "limits.requireDeclaredMaxTokens": ({}, {"limits": {"requireDeclaredMaxTokens": True}}),
    "limits.requestsPerMinute": ({}, {"limits": {"requestsPerMinute": 1}}),
    "limits.tokensPerMinute": ({}, {"limits": {"tokensPerMinute": 1}}),
    "limits.concurrentRequests": ({}, {"limits": {"concurrentRequests": 1}}),
    "limits.whenUnavailable": ({}, {"limits": {"whenUnavailable": "LocalShare"}}),
    "limits.maxBodySize": ({}, {"limits": {"maxBodySize": "1Mi"}}),
    "limits.maxUploadSize": ({}, {"limits": {"maxUploadSize": "1Gi"}}),
    "budget.amount": ({}, {"budget": {"amount": "1"}}),
    "budget.window": ({"budget": {"amount": "1"}}, {"budget": {"amount": "1", "window": "Day"}}),
    "budget.onExceeded": ({"budget": {"amount": "1"}}, {"budget": {"amount": "1", "onExceeded": "Warn"}}),
    "models.allow": ({}, {"models": {"allow": ["gpt-*"]}}),
    "models.aliases": ({}, {"models": {"aliases": {"fast": "gpt-4o-mini"}}}),
    "models.default": ({}, {"models": {"default": "gpt-4o-mini"}}),
    "models.maxOutputTokens": ({}, {"models": {"maxOutputTokens": 1000}}),
    "routes.allow": ({}, {"routes": {"allow": ["/v1/chat/*"]}}),
    "routes.unknown": ({}, {"routes": {"unknown": "Refuse"}}),
    **{
        f"{kind}.{field}": ({kind: {"ttl": "2h"}}, {kind: {"ttl": "2h", field: value}})
        for kind in ("cache", "idempotency")
        for field, value in (("enabled", False), ("ttl", "3h"), ("maxSize", "1Mi"))
    },
    "pricing.unknownModel": ({}, {"pricing": {"unknownModel": "Refuse"}}),
    **{
        f"pricing.rates.*.{place}{field}": (priced({}, {}, {}, {}), priced(*changes))
        for number, place in enumerate(("", "longContext.", "tiers.*.", "tiers.*.longContext."))
        for field in RATE_FIELDS + (("above",) if place.endswith("longContext.") else ())
        for changes in [[{field: 9 if field == "above" else "0.125"} if i == number else {} for i in range(4)]]
    },
    "upstreams[].name": ({}, {"upstreams": [UPSTREAM | {"name": "other"}]}),
    "upstreams[].baseURL": ({}, {"upstreams": [UPSTREAM | {"baseURL": "https://other.example.com/v1"}]}),
    "upstreams[].credentialsSecret": ({}, {"upstreams": [UPSTREAM | {"credentialsSecret": "openai"}]}),
    "upstreams[].priority": ({}, {"upstreams": [UPSTREAM | {"priority": 1}]}),
    "upstreams[].credentialHeader": ({}, {"upstreams": [UPSTREAM | {"credentialHeader": "api-key"}]}),
    "upstreams[].models": ({}, {"upstreams": [UPSTREAM | {"models": ["gpt-*"]}]}),
    "resources.requests.cpu": ({}, {"resources": {"requests": {"cpu": "200m"}}}),
    "resources.requests.memory": ({}, {"resources": {"requests": {"memory": "128Mi"}}}),
    "resources.limits.cpu": ({}, {"resources": {"limits": {"cpu": 1}}}),
    "resources.limits.memory": ({}, {"resources": {"limits": {"memory": "512Mi"}}}),
    "autoscaling.minReplicas": (
        {"autoscaling": {"maxReplicas": 3}},
        {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}},
    ),
    "autoscaling.maxReplicas": ({}, {"autoscaling": {"maxReplicas": 3}}),
    "autoscaling.targetInFlight": (
        {"autoscaling": {"maxReplicas": 3}},
        {"autoscaling": {"maxReplicas": 3, "targetInFlight": 5}},
    ),
    "autoscaling.idleAfter": (
        {"autoscaling": {"minReplicas": 0}},
        {"autoscaling": {"minReplicas": 0, "idleAfter": "1m"}},
    ),
    "placement.capacity": ({}, {"placement": {"capacity": "OnDemand"}}),
    "placement.architectures": ({}, {"placement": {"architectures": ["arm64"]}}),
    "exposure.hostnames": ({}, {"exposure": {"hostnames": ["acme.example.com"]}}),
    "exposure.nodePort": ({}, {"exposure": {"nodePort": 30080}}),
    "suspend.traffic": ({}, {"suspend": {"traffic": True}}),
}

#: In force, but not by what is applied to the namespace's objects.
ELSEWHERE = {"tier", "tierRevision", "suspend.reconcile", "deletionPolicy", "deletionProtection"}


def leaves(schema: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every field that is no object: its path and its description."""
    for name, field in (at(schema, "properties") or {}).items():
        place = f"{path}.{name}" if path else name
        if at(field, "properties"):
            yield from leaves(field, place)
        elif at(field, "items.properties"):
            yield from leaves(at(field, "items"), f"{place}[]")
        elif at(field, "additionalProperties.properties"):
            yield from leaves(at(field, "additionalProperties"), f"{place}.*")
        else:
            yield place, at(field, "description")


def described() -> dict[str, str]:
    schema = at(crd.tenant_crd(), "spec.versions.0.schema.openAPIV3Schema.properties.spec")
    return dict(leaves(schema))


#: A platform with a gateway.
EXPOSED = replace(PLATFORM, exposure=Exposure(way=Way.GATEWAY, gateway=Gateway(name="shared", namespace="edge")))


def is_reserved(field: str) -> bool:
    return described()[field].startswith("Reserved, not in force yet")


def test_every_field_is_looked_at() -> None:
    assert set(described()) == CHANGES.keys() | ELSEWHERE
    assert not [field for field in ELSEWHERE if is_reserved(field)]


@pytest.mark.parametrize("field", CHANGES)
async def test_a_field_changes_what_is_applied_or_says_that_it_does_not(field: str, tenant: RenderTenant) -> None:
    before, after = [await objects(tenant, spec) for spec in CHANGES[field]]
    assert (before != after) is (not is_reserved(field))


@pytest.mark.parametrize("name", ["trial", "standard", "dedicated"])
def test_a_tier_promises_nothing_that_is_not_in_force(platform: RenderPlatform, name: str) -> None:
    spec = at(find(platform(), "TenantTier", name), "spec")
    promised = [field for field in described() if "[]" not in field and at(spec, field) is not None]
    assert len(promised) > 5
    assert [field for field in promised if is_reserved(field)] == []


async def objects(render: RenderTenant, spec: Spec) -> list[Object]:
    resolved = resolve(acme(**{"upstreams": [UPSTREAM], **spec}), tier())
    keys = [after(key) for key in resolved.keys]
    reach = Reach(way=Way.GATEWAY, hostnames=resolved.hostnames)
    return await render(**values("acme", resolved, policy("acme", 1, resolved, keys), EXPOSED, reach))


def after(wanted: ResolvedKey) -> IssuedKey:
    """What becomes of a key that has been replaced once, an hour ago."""
    held = rotated(KEY, replace(wanted, rotation=1, grace_period_seconds=86_400), "beforehand22", "1" * 64, NOW)
    now = NOW + timedelta(hours=1)
    return (
        rotated(held, wanted, "afterwards22", "2" * 64, now) if rotation_due(held, wanted) else kept(held, wanted, now)
    )
