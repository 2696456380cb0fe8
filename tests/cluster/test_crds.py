"""The API server itself refuses bad Tenants, naming the field, and keeps those that are protected from deletion."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping

import pytest
from tenantry_operator.api.settings import Settings

from tests.cluster.kubectl import Kubectl, eventually

Apply = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("installation")


@pytest.fixture
def apply(kubectl: Kubectl) -> Iterator[Apply]:
    """Apply a Tenant, or with ``kind`` a TenantTier; what was created goes with the test."""
    made: list[tuple[str, str]] = []

    def run(spec: Mapping[str, object], name: str = "acme", kind: str = "Tenant") -> subprocess.CompletedProcess[str]:
        manifest = {"apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        done = kubectl("apply", "--filename", "-", manifest=manifest)
        if done.returncode == 0:
            made.append((kind, name))
        return done

    yield run
    for kind, name in made:
        kubectl("delete", kind, name, "--ignore-not-found")


UPSTREAM = {"name": "openai", "baseURL": "https://api.openai.com/v1"}
FULL: dict[str, object] = {
    "tier": "trial",
    "owners": [
        {"kind": "User", "name": "ann@example.com"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "build"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "test"},
    ],
    "keys": [
        {
            "name": "default",
            "rotation": 1,
            "gracePeriod": "1h30m",
            "expiresAt": "2030-01-01T00:00:00Z",
            "limits": {"requestsPerMinute": 1, "tokensPerMinute": 10, "concurrentRequests": 1},
            "budget": {"amount": "1", "window": "Day", "onExceeded": "Refuse"},
        }
    ],
    "limits": {
        "requestsPerMinute": 1,
        "tokensPerMinute": 1,
        "concurrentRequests": 1,
        "whenUnavailable": "LocalShare",
        "requireDeclaredMaxTokens": True,
        "maxBodySize": "1Mi",
        "maxUploadSize": "10Gi",
    },
    "budget": {"amount": "12.50", "window": "Day", "onExceeded": "Warn"},
    "models": {
        "allow": ["gpt-4o*", "org/model:free"],
        "aliases": {"fast": "gpt-4o-mini"},
        "default": "fast",
        "maxOutputTokens": 4096,
    },
    "routes": {"allow": ["*", "/v1/chat/*", "/v1/models/gpt-4o?"], "unknown": "Refuse"},
    "pricing": {
        "rates": {
            "org/model:free": {"input": "0", "output": "0"},
            "own": {
                "input": "2.5",
                "output": "10",
                "cachedInput": "1.25",
                "cacheWrite": "3",
                "audioInput": "40",
                "audioOutput": "8999999.999999999",
                "imageInput": "10",
                "imageOutput": "40",
                "longContext": {"above": 200_000, "input": "5", "output": "15"},
                "tiers": {
                    "flex": {"input": "1", "output": "5", "longContext": {"above": 1, "input": "2", "output": "6"}}
                },
            },
        },
        "unknownModel": "Refuse",
    },
    "cache": {"enabled": True, "ttl": "168h", "maxSize": "64Ki"},
    "idempotency": {"ttl": "1s", "maxSize": "1Gi"},
    "upstreams": [
        {
            **UPSTREAM,
            "credentialsSecret": "openai",
            "priority": 1,
            "models": ["gpt-*"],
            "credentialHeader": "api-key",
        }
    ],
    "resources": {"requests": {"cpu": 1, "memory": "128Mi"}, "limits": {"cpu": "1500m", "memory": "0.5Gi"}},
    "autoscaling": {"minReplicas": 0, "maxReplicas": 3, "targetInFlight": 10, "idleAfter": "15m"},
    "placement": {"capacity": "Spot", "architectures": ["arm64"]},
    "exposure": {"hostnames": ["acme.example.com", "{tenant}.api.example.com"], "nodePort": 30080},
    "suspend": {"reconcile": True, "traffic": False},
    "deletionPolicy": "Retain",
    "deletionProtection": False,
}


def test_a_tenant_with_every_field_is_accepted(apply: Apply) -> None:
    assert FULL.keys() == {*Settings.__struct_encode_fields__, "tier"}
    done = apply(FULL)
    assert done.returncode == 0, done.stderr


def test_the_ends_of_every_range_are_accepted(apply: Apply) -> None:
    least = {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"cpu": "1m", "memory": 16 * 2**20}}
    most = {"requests": {"cpu": 1000, "memory": "1Ti"}, "limits": {"cpu": "1000000m", "memory": "1024Gi"}}
    for port, resources in (("1", least), ("65535", most)):
        upstream = {"name": "a", "baseURL": f"http://a.b.svc.cluster.local:{port}/v1"}
        done = apply({"tier": "trial", "upstreams": [upstream], "resources": resources})
        assert done.returncode == 0, done.stderr


def test_a_name_of_forty_characters_is_accepted(apply: Apply) -> None:
    assert apply({"tier": "trial"}, name="a" * 40).returncode == 0


@pytest.mark.parametrize(
    ("spec", "field", "remedy"),
    [
        ({"tier": "Not A Tier"}, "spec.tier", "must be lower-case letters"),
        ({}, "spec.tier", "Required"),
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "spec.autoscaling.minReplicas", "lower the one"),
        ({"autoscaling": {"minReplicas": -1}}, "spec.autoscaling.minReplicas", "greater than or equal to 0"),
        ({"budget": {"amount": "-5"}}, "spec.budget.amount", "without a sign"),
        ({"budget": {"amount": "5e3"}}, "spec.budget.amount", "plain decimal"),
        ({"budget": {"amount": "9000000"}}, "spec.budget.amount", "below 9000000"),
        ({"budget": {"amount": 5}}, "spec.budget.amount", "must be of type string"),
        ({"keys": [{"name": "a"}, {"name": "a"}]}, "spec.keys[1]", "Duplicate value"),
        ({"upstreams": [UPSTREAM, UPSTREAM]}, "spec.upstreams[1]", "Duplicate value"),
        ({"owners": [{"kind": "User", "name": "a"}] * 2}, "spec.owners[1]", "Duplicate value"),
        ({"owners": [{"kind": "ServiceAccount", "name": "a"}]}, "spec.owners[0].namespace", "is required when"),
        (
            {"owners": [{"kind": "User", "name": "a", "namespace": "n"}]},
            "spec.owners[0].namespace",
            "left out for User",
        ),
        ({"limits": {"requestPerMinute": 1}}, 'unknown field "spec.limits.requestPerMinute"', "strict decoding error"),
        ({"unheardOf": 1}, 'unknown field "spec.unheardOf"', "strict decoding error"),
        ({"limits": {"requestsPerMinute": 0}}, "spec.limits.requestsPerMinute", "greater than or equal to 1"),
        ({"keys": [{"name": "a", "gracePeriod": "1d"}]}, "spec.keys[0].gracePeriod", "must be a duration"),
        ({"keys": [{"name": "a", "expiresAt": "tomorrow"}]}, "spec.keys[0].expiresAt", "must be of type date-time"),
        (
            {"keys": [{"name": "a", "expiresAt": "2030-01-01T00:00:00"}]},
            "spec.keys[0].expiresAt",
            "must be of type date-time",
        ),
        ({"upstreams": [{"name": "a", "baseURL": "ftp://x"}]}, "spec.upstreams[0].baseURL", "http or https URL"),
        ({"resources": {"requests": {"cpu": -1}}}, "spec.resources.requests.cpu", "Kubernetes quantity"),
        ({"upstreams": [{"name": "a", "baseURL": "https://x:65536/v1"}]}, "spec.upstreams[0].baseURL", "1 to 65535"),
        ({"upstreams": [{"name": "a", "baseURL": "https://x:0/v1"}]}, "spec.upstreams[0].baseURL", "1 to 65535"),
        ({"upstreams": [{"name": "a", "baseURL": "http://x..svc"}]}, "spec.upstreams[0].baseURL", "http or https URL"),
        ({"resources": {"limits": {"memory": "5X"}}}, "spec.resources.limits.memory", "Kubernetes quantity"),
        ({"resources": {"limits": {"memory": "2Ti"}}}, "spec.resources.limits.memory", "from 16Mi to 1Ti"),
        ({"resources": {"limits": {"memory": "1500m"}}}, "spec.resources.limits.memory", "from 16Mi to 1Ti"),
        ({"resources": {"requests": {"cpu": 10**13}}}, "spec.resources.requests.cpu", "from 1m to 1000"),
        ({"resources": {"requests": {"cpu": "1001"}}}, "spec.resources.requests.cpu", "from 1m to 1000"),
        (
            {"resources": {"requests": {"cpu": 2, "memory": "64Mi"}, "limits": {"cpu": "1500m", "memory": "64Mi"}}},
            "spec.resources.requests.cpu",
            "must not be greater than limits.cpu",
        ),
        (
            {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1000Mi"}}},
            "spec.resources.requests.memory",
            "must not be greater than limits.memory",
        ),
        (
            {"owners": [{"kind": "ServiceAccount", "name": "Not One", "namespace": "n"}]},
            "spec.owners[0].name",
            "name of a ServiceAccount",
        ),
        (
            {"owners": [{"kind": "ServiceAccount", "name": "ci", "namespace": "Not One"}]},
            "spec.owners[0].namespace",
            "name of a namespace",
        ),
        ({"exposure": {"hostnames": ["Not a host"]}}, "spec.exposure.hostnames[0]", "must be a host name"),
        ({"exposure": {"nodePort": 80}}, "spec.exposure.nodePort", "greater than or equal to 30000"),
        ({"models": {"aliases": {"": "x"}}}, "spec.models.aliases", "each name must have 1 to 128"),
        ({"models": {"maxOutputTokens": 0}}, "spec.models.maxOutputTokens", "greater than or equal to 1"),
        ({"models": {"default": ""}}, "spec.models.default", "at least 1 chars"),
        ({"routes": {"allow": ["chat/*"]}}, "spec.routes.allow[0]", "begin with /v1/"),
        ({"routes": {"allow": ["/v1/[a]"]}}, "spec.routes.allow[0]", '"/v1/chat/*"'),
        ({"routes": {"unknown": "Deny"}}, "spec.routes.unknown", "Refuse"),
        ({"pricing": {"rates": {"m": {"input": "1"}}}}, "spec.pricing.rates.m.output", "Required"),
        (
            {"pricing": {"rates": {"m": {"input": "-1", "output": "1"}}}},
            "spec.pricing.rates[m].input",
            "US dollars per million tokens, below",
        ),
        (
            {"pricing": {"rates": {"m": {"input": "9000000", "output": "1"}}}},
            "spec.pricing.rates[m].input",
            "US dollars per million tokens, below",
        ),
        ({"pricing": {"rates": {"": {"input": "1", "output": "1"}}}}, "spec.pricing.rates", "1 to 128 characters"),
        (
            {"pricing": {"rates": {"m": {"input": "1", "output": "1", "longContext": {"input": "1", "output": "1"}}}}},
            "spec.pricing.rates.m.longContext.above",
            "Required",
        ),
        (
            {
                "pricing": {
                    "rates": {"m": {"input": "1", "output": "1", "tiers": {"A b": {"input": "1", "output": "1"}}}}
                }
            },
            "spec.pricing.rates[m].tiers",
            "lower-case letters",
        ),
        (
            {"keys": [{"name": "a", "limits": {"requestsPerMinute": 0}}]},
            "spec.keys[0].limits.requestsPerMinute",
            "greater than or equal to 1",
        ),
        ({"keys": [{"name": "a", "limits": {"whenUnavailable": "Refuse"}}]}, "whenUnavailable", "unknown field"),
        ({"keys": [{"name": "a", "budget": {"amount": "-5"}}]}, "spec.keys[0].budget.amount", "without a sign"),
        ({"cache": {"ttl": "169h"}}, "spec.cache.ttl", "from 1s to 168h"),
        ({"idempotency": {"ttl": "0s"}}, "spec.idempotency.ttl", "from 1s to 168h"),
        ({"idempotency": {"maxSize": "1Ki"}}, "spec.idempotency.maxSize", "from 64Ki to 1Gi"),
        ({"limits": {"maxBodySize": "1Gi"}}, "spec.limits.maxBodySize", "from 1Ki to 128Mi"),
        ({"limits": {"maxUploadSize": "2Ti"}}, "spec.limits.maxUploadSize", "from 1Ki to 1Ti"),
        (
            {"upstreams": [{**UPSTREAM, "credentialHeader": "x-api-key"}]},
            "spec.upstreams[0].credentialHeader",
            "api-key",
        ),
        ({"placement": {"capacity": "Cheap"}}, "spec.placement.capacity", "SpotPreferred"),
        ({"keys": [{"name": f"k{n}"} for n in range(33)]}, "spec.keys", "at most 32 items"),
    ],
)
def test_a_bad_tenant_is_refused_by_field(apply: Apply, spec: dict[str, object], field: str, remedy: str) -> None:
    done = apply(spec if not spec or "tier" in spec else {"tier": "trial", **spec})
    assert done.returncode != 0
    assert field in done.stderr
    assert remedy in done.stderr


@pytest.mark.parametrize("name", ["a" * 41, "a.b"])
@pytest.mark.parametrize("kind", ["Tenant", "TenantTier"])
def test_a_bad_name_is_refused_under_metadata_name(apply: Apply, kind: str, name: str) -> None:
    done = apply({"tier": "trial"} if kind == "Tenant" else {}, name=name, kind=kind)
    assert done.returncode != 0
    assert "metadata.name: Invalid value" in done.stderr
    assert "must " in done.stderr


def test_a_tier_cannot_give_a_node_port_to_all_its_tenants(apply: Apply) -> None:
    done = apply({"exposure": {"nodePort": 30080}}, name="trial", kind="TenantTier")
    assert "spec.exposure" in done.stderr
    assert "belongs to one Tenant" in done.stderr


def test_a_tier_takes_every_default(apply: Apply) -> None:
    spec = {name: value for name, value in FULL.items() if name not in ("tier", "exposure")}
    done = apply({**spec, "summary": "All of it."}, name="full", kind="TenantTier")
    assert done.returncode == 0, done.stderr


def test_columns_show_what_an_operator_of_the_platform_asks_first(apply: Apply, kubectl: Kubectl) -> None:
    apply({"tier": "trial"})
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "All is well",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "conditions": [condition],
        "endpoint": "http://api/v1",
        "namespace": "tenant-acme",
        "usage": {"spend": "1.25"},
    }
    patch = (
        "patch",
        "tenant",
        "acme",
        "--subresource=status",
        "--type=merge",
        "--patch",
        json.dumps({"status": status}),
    )
    assert kubectl(*patch).returncode == 0
    header, row = kubectl("get", "ten", "acme").stdout.splitlines()
    assert header.split() == ["NAME", "TIER", "READY", "REASON", "ENDPOINT", "SPEND", "AGE"]
    assert row.split()[:-1] == ["acme", "trial", "True", "Ready", "http://api/v1", "1.25"]
    wide = kubectl("get", "tenantry", "--output=wide").stdout
    assert "tenant-acme" in wide
    assert "All is well" in wide
    waited = kubectl("wait", "--for=condition=Ready", "tenant/acme", "--timeout=45s")
    assert waited.returncode == 0, waited.stderr


def test_status_is_a_subresource_that_applying_a_tenant_does_not_touch(apply: Apply, kubectl: Kubectl) -> None:
    apply({"tier": "trial"})
    patch = ("patch", "tenant", "acme", "--type=merge", "--patch", '{"status": {"namespace": "stolen"}}')
    kubectl(*patch)
    assert "stolen" not in kubectl("get", "tenant", "acme", "--output=json").stdout


@pytest.fixture
def protected(apply: Apply, kubectl: Kubectl) -> Iterator[None]:
    """The chart's admission policy, in force: the API server takes a moment to read a new one."""
    apply({"tier": "trial", "deletionProtection": True}, name="probe")
    probe = ("delete", "tenant", "probe", "--dry-run=server")
    eventually("the policy is in force", lambda: kubectl(*probe).returncode != 0)
    yield
    kubectl("patch", "tenant", "probe", "--type=merge", "--patch", '{"spec": {"deletionProtection": false}}')


@pytest.mark.usefixtures("protected")
@pytest.mark.parametrize(
    ("said", "inherited", "refused"),
    [(True, False, True), (None, True, True), (False, True, False), (None, False, False)],
)
def test_deletion_is_refused_while_tenant_or_tier_says_so(
    apply: Apply, kubectl: Kubectl, said: bool | None, inherited: bool, refused: bool
) -> None:
    apply({"tier": "trial"} | ({} if said is None else {"deletionProtection": said}))
    status = json.dumps({"status": {"deletionProtection": inherited}})
    kubectl("patch", "tenant", "acme", "--subresource=status", "--type=merge", "--patch", status)
    done = kubectl("delete", "tenant", "acme")
    assert (done.returncode != 0) is refused, done.stderr
    if refused:
        assert "set spec.deletionProtection to false first" in done.stderr
        kubectl("patch", "tenant", "acme", "--type=merge", "--patch", '{"spec": {"deletionProtection": false}}')
