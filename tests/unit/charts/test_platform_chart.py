"""charts/tenantry: refuses wrong values, grants no more than needed, and speaks the operator's language."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from localcluster import demo
from tenantry_meter import main as showback
from tenantry_operator.api.decode import decode_tenant, decode_tier
from tenantry_operator.api.resolve import resolve
from tenantry_operator.options import parser
from tenantry_operator.plan.desired import IN_FLIGHT_METRIC
from tenantry_service.activator.main import parser as activator_parser
from tenantry_service.writer import main as ledger

from tests.unit.charts.conftest import CHARTS, Object, RenderPlatform, RenderTenant
from tests.unit.charts.objects import at, find, kinds, pod_specs, violations_of_restricted

EVERYTHING = (
    "showback.enabled=true",
    "dev.datastores.enabled=true",
    "redis.create=true",
    "operator.replicas=2",
    "image.tag=dev",
)


@pytest.mark.parametrize("chart", ["tenantry", "tenant"])
def test_lint_has_nothing_to_say(helm: Path, tmp_path: Path, chart: str) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "" if chart == "tenantry" else "{tenant: {name: a}, image: {tag: x}, policy: {apiVersion: a, tenant: a}}"
    )
    argv = [str(helm), "lint", str(CHARTS / chart), "--strict", "--values", str(values)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("operator.replicas=3", "operator/replicas"),
        ("operator.replica=1", "operator"),
        ("operator.logLevel=loud", "operator/logLevel"),
        ("image.tag=no tag", "image/tag"),
        ("dev.datastores.redis.image=", "dev/datastores/redis/image"),
        ("tiers.specs.Trial.summary=x", "Trial"),
        ("operator.publicUrlTemplate=ftp://x", "operator/publicUrlTemplate"),
    ],
)
def test_a_wrong_value_is_refused_by_name(platform: RenderPlatform, setting: str, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        platform(setting)


def test_every_pod_is_restricted(platform: RenderPlatform) -> None:
    specs = pod_specs(platform(*EVERYTHING))
    assert len(specs) == 9
    assert {name: found for name, spec in specs if (found := violations_of_restricted(spec))} == {}


@pytest.mark.parametrize("workload", ["tenantry-operator", "tenantry-apply-crds", "tenantry-release-tenants"])
def test_the_operators_command_line_is_one_that_it_understands(platform: RenderPlatform, workload: str) -> None:
    specs = dict(pod_specs(platform("image.tag=v1", "tenantDefaults.image.pullPolicy=Always")))
    command, *arguments = at(specs[workload], "containers.0.args")
    options = parser().parse_args(arguments)
    assert command == "operator"
    if workload == "tenantry-operator":
        assert (options.tenant_image, options.tenant_image_pull_policy) == ("tenantry:v1", "Always")
        assert (options.namespace, options.tenant_role) == ("tenantry-system", "tenantry-operator-tenant")
    else:
        assert options.release_all or options.apply_crds


def test_the_activator_is_given_what_it_understands_and_no_right_and_no_key(platform: RenderPlatform) -> None:
    objects = platform()
    spec = dict(pod_specs(objects))["tenantry-activator"]
    command, *arguments = at(spec, "containers.0.args")
    options = activator_parser().parse_args(arguments)
    assert (command, str(options.trust)) == ("activator", "/etc/tenantry/internal")
    assert spec["automountServiceAccountToken"] is False
    (internal,) = [each["secret"] for each in spec["volumes"] if each["name"] == "internal"]
    assert {each["key"] for each in internal["items"]} == {"tls.crt", "activator-token"}
    bound = [
        at(each, "metadata.name")
        for each in objects
        if str(each["kind"]).endswith("RoleBinding") and "tenantry-activator" in str(each["subjects"])
    ]
    assert bound == []


def test_before_an_eviction_the_api_server_asks_whoever_leads_and_goes_on_without_an_answer(
    platform: RenderPlatform,
) -> None:
    (webhook,) = at(find(platform(), "ValidatingWebhookConfiguration"), "webhooks")
    assert webhook["clientConfig"] == {
        "service": {"name": "tenantry-leader", "namespace": "tenantry-system", "port": 8443}
    }, "the operator's to fill in"
    assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Ignore", 3)
    assert [each["resources"] for each in webhook["rules"]] == [["pods/eviction"]]
    assert webhook["namespaceSelector"] == {"matchExpressions": [{"key": "tenantry.dev/tenant", "operator": "Exists"}]}
    without = platform("operator.evictions.webhook=false")
    assert not [each for each in without if each["kind"] == "ValidatingWebhookConfiguration"]
    assert "admissionregistration.k8s.io" not in str(find(without, "ClusterRole", "tenantry-operator"))


def test_the_metrics_api_is_served_by_whoever_leads_and_only_if_it_is_ours(platform: RenderPlatform) -> None:
    service = at(find(platform(), "APIService"), "spec.service")
    assert service == {"name": "tenantry-leader", "namespace": "tenantry-system", "port": 8443}
    assert "selector" not in at(find(platform(), "Service", "tenantry-leader"), "spec")
    adapter = platform("metrics.source=prometheus-adapter")
    assert not [each for each in adapter if each["kind"] == "APIService"]
    assert "apiservices" not in str(find(adapter, "ClusterRole", "tenantry-operator"))


#: A rule of prometheus-adapter v0.12.0, which refuses what it does not know (its pkg/config/config.go).
ADAPTER_RULE = {
    "seriesQuery": str,
    "resources": {"overrides": {"namespace": {"resource": str}, "pod": {"resource": str}}},
    "name": {"matches": str, "as": str},
    "metricsQuery": str,
}


def test_prometheus_adapter_is_given_the_rule_that_makes_the_metric_of_the_same_name(platform: RenderPlatform) -> None:
    made = find(platform("metrics.source=prometheus-adapter"), "ConfigMap", "tenantry-adapter-rules")
    assert at(made, "metadata.namespace") == "tenantry-system"
    (rule,) = yaml.safe_load(at(made, "data")["config.yaml"])["rules"]
    assert shape(rule) == ADAPTER_RULE
    assert rule["name"]["as"] == IN_FLIGHT_METRIC
    assert re.match(rule["name"]["matches"], rule["seriesQuery"].partition("{")[0])
    assert {"<<.Series>>", "<<.LabelMatchers>>", "<<.GroupBy>>"} <= set(re.findall("<<.*?>>", rule["metricsQuery"]))
    elsewhere = platform("metrics.source=prometheus-adapter", "metrics.adapterNamespace=monitoring")
    assert at(find(elsewhere, "ConfigMap", "tenantry-adapter-rules"), "metadata.namespace") == "monitoring"
    for other in ("builtin", "keda", "none"):
        assert "tenantry-adapter-rules" not in str(platform(f"metrics.source={other}"))


def shape(document: object) -> object:
    """The fields, with types for values."""
    return {key: shape(each) for key, each in document.items()} if isinstance(document, dict) else type(document)


@pytest.mark.parametrize("tier", ["trial", "standard", "dedicated"])
def test_each_tier_resolves_for_a_tenant_that_names_an_upstream(platform: RenderPlatform, tier: str) -> None:
    upstream = {"name": "openai", "baseURL": "https://api.openai.com/v1"}
    tenant = decode_tenant({"metadata": {"name": "acme"}, "spec": {"tier": tier, "upstreams": [upstream]}})
    spec = resolve(tenant, decode_tier(find(platform(), "TenantTier", tier)))
    assert spec.limits.requests_per_minute is not None
    assert spec.deletion_protection is (tier == "dedicated")


DEMO = CHARTS.parent / "kind" / "demo" / "values.yaml"


@pytest.mark.parametrize(
    ("values", "settings", "upstream", "credentials"),
    [
        (None, {}, "openai", "openai"),
        (DEMO, {}, "simulator", None),
        (DEMO, demo.OPENAI, "openai", "openai"),
    ],
)
def test_a_tenant_that_names_its_tier_only_is_served(
    platform: RenderPlatform, values: Path | None, settings: Mapping[str, str], upstream: str, credentials: str | None
) -> None:
    objects = platform(*(f"{name}={value}" for name, value in settings.items()), values=values)
    for tier in ("trial", "standard", "dedicated"):
        tenant = decode_tenant({"metadata": {"name": "acme"}, "spec": {"tier": tier}})
        (served,) = resolve(tenant, decode_tier(find(objects, "TenantTier", tier))).upstreams
        assert (served.name, served.credentials_secret) == (upstream, credentials)


@pytest.mark.parametrize("tier", ["trial", "standard"])
def test_limits_and_budget_of_a_small_tier_are_exact(platform: RenderPlatform, tier: str) -> None:
    tenant = decode_tenant({"metadata": {"name": "acme"}, "spec": {"tier": tier}})
    spec = resolve(tenant, decode_tier(find(platform(), "TenantTier", tier)))
    assert spec.budget is not None
    assert spec.autoscaling.max_replicas == 1, "each pod counts for itself"


def test_upstreams_of_the_platform_are_those_of_every_tier_without_its_own(platform: RenderPlatform) -> None:
    objects = platform(
        "tiers.upstreams[0].name=openai",
        "tiers.upstreams[0].baseURL=https://api.openai.com/v1",
        "tiers.specs.trial.upstreams[0].name=sim",
        "tiers.specs.trial.upstreams[0].baseURL=http://sim.sim.svc/v1",
    )
    names = {
        at(each, "metadata.name"): at(each, "spec.upstreams.0.name") for each in objects if each["kind"] == "TenantTier"
    }
    assert names == {"trial": "sim", "standard": "openai", "dedicated": "openai"}


def test_tiers_can_be_left_to_somebody_else(platform: RenderPlatform) -> None:
    assert "TenantTier" not in kinds(platform("tiers.create=false"))
    assert len([each for each in platform("tiers.specs.trial=null") if each["kind"] == "TenantTier"]) == 2


def test_show_back_is_for_those_who_ask_for_it_and_keeps_its_hours(platform: RenderPlatform) -> None:
    assert not [each for each in platform() if at(each, "metadata.name") == "tenantry-showback"]
    objects = platform("showback.enabled=true")
    command, *arguments = at(dict(pod_specs(objects))["tenantry-showback"], "containers.0.args")
    options = showback.parser().parse_args(arguments)
    assert (command, options.region, options.keep_days) == ("showback", "us-east-1", 400)
    (mount,) = [
        mount["mountPath"]
        for mount in at(dict(pod_specs(objects))["tenantry-showback"], "containers.0.volumeMounts")
        if mount["name"] == "hours"
    ]
    assert options.data.parent == Path(mount)
    assert find(objects, "PersistentVolumeClaim", "tenantry-showback")
    assert not {"PersistentVolumeClaim"} & kinds(platform("showback.enabled=true", "showback.volume.size="))


def test_hooks_can_be_left_out(platform: RenderPlatform) -> None:
    assert "Job" not in kinds(platform("hooks.applyCRDs=false", "hooks.releaseTenants=false"))


def rules(role: Mapping[str, object]) -> list[dict[str, list[str]]]:
    return list(at(role, "rules"))


def grants(role: Mapping[str, object], resource: str) -> set[str]:
    """The verbs that the role grants on all objects of a resource."""
    matching = [rule for rule in rules(role) if resource in rule["resources"] and not rule.get("resourceNames")]
    return {verb for rule in matching for verb in rule["verbs"]}


def test_the_operator_reads_no_secret_and_touches_no_pod_of_the_whole_cluster(platform: RenderPlatform) -> None:
    for each in platform(*EVERYTHING):
        if each["kind"] == "ClusterRole" and at(each, "metadata.name") != "tenantry-operator-tenant":
            assert not grants(each, "secrets"), at(each, "metadata.name")
            # It follows them to see which serve, and cannot touch one outside of tenants' namespaces.
            assert grants(each, "pods") <= {"list", "watch"}, at(each, "metadata.name")


def test_no_role_has_wildcards_and_only_known_roles_can_be_bound(platform: RenderPlatform) -> None:
    for each in platform(*EVERYTHING):
        if each["kind"] not in ("ClusterRole", "Role"):
            continue
        for rule in rules(each):
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert "escalate" not in rule["verbs"]
            if "bind" in rule["verbs"]:
                assert set(rule["resourceNames"]) <= {"tenantry-operator-tenant", "view", "key-reader"}


async def test_the_operator_may_apply_prune_and_watch_every_kind_of_the_tenant_chart(
    platform: RenderPlatform, tenant: RenderTenant
) -> None:
    roles = platform()
    inside, cluster = (find(roles, "ClusterRole", name) for name in ("tenantry-operator-tenant", "tenantry-operator"))
    rendered = await tenant(owners=[{"kind": "User", "name": "ann"}], keys=["k"], autoscaling={"maxReplicas": 3})
    assert len(kinds(rendered)) == 11
    for each in rendered:
        resource = f"{str(each['kind']).lower()}s".replace("policys", "policies")
        group = str(each["apiVersion"]).rpartition("/")[0]
        assert any(resource in rule["resources"] and group in rule["apiGroups"] for rule in rules(inside)), resource
        changing = (grants(inside, resource) | grants(cluster, resource)) - {"list", "watch"}
        assert changing == {"get", "create", "patch", "delete"}, resource
        assert {"list", "watch"} <= grants(cluster, resource), resource


async def test_owners_are_given_only_what_the_operator_may_give(platform: RenderPlatform, tenant: RenderTenant) -> None:
    inside = find(platform(), "ClusterRole", "tenantry-operator-tenant")
    rendered = await tenant(owners=[{"kind": "User", "name": "ann"}], keys=["k"])
    bindable = {name for rule in rules(inside) if "bind" in rule["verbs"] for name in rule["resourceNames"]}
    bound = {at(each, "roleRef.name") for each in rendered if each["kind"] == "RoleBinding"}
    assert bound == bindable == {"view", "key-reader"}
    for rule in rules(find(rendered, "Role")):
        for resource in rule["resources"]:
            assert set(rule["verbs"]) <= grants(inside, resource)


def test_hooks_leave_nothing_behind_and_the_release_does_not_own_the_definitions(platform: RenderPlatform) -> None:
    objects = platform(*EVERYTHING)
    hooks = [each for each in objects if "helm.sh/hook" in (at(each, "metadata.annotations") or {})]
    assert {at(each, "metadata.name") for each in hooks} == {"tenantry-apply-crds", "tenantry-release-tenants"}
    for each in hooks:
        policy = at(each, "metadata.annotations")["helm.sh/hook-delete-policy"]
        assert policy == "before-hook-creation,hook-succeeded"
    assert "CustomResourceDefinition" not in kinds(objects)


def test_the_api_server_serves_the_operator_on_a_level_of_its_own_unless_that_is_left_out(
    platform: RenderPlatform,
) -> None:
    objects = platform()
    (rule,) = at(find(objects, "FlowSchema"), "spec.rules")
    (subject,) = rule["subjects"]
    account = at(find(objects, "ServiceAccount", "tenantry-operator"), "metadata")
    assert subject["serviceAccount"] == {"name": account["name"], "namespace": account["namespace"]}
    level = at(find(objects, "FlowSchema"), "spec.priorityLevelConfiguration.name")
    assert at(find(objects, "PriorityLevelConfiguration"), "metadata.name") == level
    without = kinds(platform("operator.flowControl.enabled=false"))
    assert not without & {"FlowSchema", "PriorityLevelConfiguration"}


def test_a_budget_for_the_operator_only_where_it_can_move(platform: RenderPlatform) -> None:
    assert "PodDisruptionBudget" not in kinds(platform())
    assert at(find(platform("operator.replicas=2"), "PodDisruptionBudget"), "spec.maxUnavailable") == 1


@pytest.mark.parametrize(
    ("settings", "redis", "database"),
    [
        ((), None, None),
        (("redis.secret=own",), "own", None),
        (("redis.secret=own", "database.secret=pg"), "own", "pg"),
        (("redis.create=true", "database.secret=pg"), "tenantry-redis", "pg"),
        (("dev.datastores.enabled=true",), "dev-redis", "dev-postgres"),
        (("dev.datastores.enabled=true", "redis.create=true"), "tenantry-redis", "dev-postgres"),
        (("dev.datastores.enabled=true", "redis.secret=own"), "own", "dev-postgres"),
    ],
)
def test_each_process_gets_the_datastores_that_it_needs_and_no_other(
    platform: RenderPlatform, settings: tuple[str, ...], redis: str | None, database: str | None
) -> None:
    specs = dict(pod_specs(platform(*settings)))
    assert mounted(specs["tenantry-operator"]) == ({"redis": redis} if redis else {})
    arguments = parser().parse_args(at(specs["tenantry-operator"], "containers.0.args")[1:])
    assert str(arguments.redis_file) == ("/etc/tenantry/redis/url" if redis else "None")
    if database is None:
        assert "tenantry-ledger" not in specs
        return
    assert mounted(specs["tenantry-ledger"]) == {"redis": redis, "database": database}
    command, *options = at(specs["tenantry-ledger"], "containers.0.args")
    assert command == "ledger"
    given = ledger.parser().parse_args(options)
    assert (str(given.redis_file), str(given.database_file)) == (
        "/etc/tenantry/redis/url",
        "/etc/tenantry/database/url",
    )


def mounted(spec: Mapping[str, object]) -> dict[str, str]:
    """Secrets by the names of their volumes."""
    return {each["name"]: each["secret"]["secretName"] for each in at(spec, "volumes") if "secret" in each}


def test_a_ledger_without_the_way_to_it_is_refused(platform: RenderPlatform) -> None:
    with pytest.raises(ValueError, match=r"database\.secret is set and redis\.secret is not"):
        platform("database.secret=pg")


def test_two_redises_are_one_too_many(platform: RenderPlatform) -> None:
    with pytest.raises(ValueError, match=r"redis\.create and redis\.secret are both set"):
        platform("redis.create=true", "redis.secret=own")


def test_the_redis_of_the_chart_keeps_its_data_and_says_its_password_to_nobody(platform: RenderPlatform) -> None:
    objects = platform("redis.create=true", "redis.volume.storageClassName=gp3", "redis.maxMemory=1gb")
    secret = at(find(objects, "Secret", "tenantry-redis"), "stringData")
    password = secret["redis-password"]
    assert secret["url"] == f"redis://:{password}@tenantry-redis.tenantry-system.svc.cluster.local:6379/0"
    wanted = {"appendonly yes", "appendfsync always", "maxmemory 1gb", "maxmemory-policy noeviction"}
    assert wanted | {f"requirepass {password}"} <= set(secret["redis.conf"].splitlines())
    claim = find(objects, "PersistentVolumeClaim", "tenantry-redis")
    assert at(claim, "spec.storageClassName") == "gp3"
    assert at(claim, "metadata.annotations")["helm.sh/resource-policy"] == "keep"
    spec = dict(pod_specs(objects))["tenantry-redis"]
    assert {"claimName": "tenantry-redis"} in [each.get("persistentVolumeClaim") for each in at(spec, "volumes")]
    assert password not in str(spec)


def test_ranges_that_redis_is_in_reach_the_operator(platform: RenderPlatform) -> None:
    specs = dict(pod_specs(platform("redis.secret=own", "redis.cidrs={10.0.0.0/16,10.1.0.0/16}")))
    arguments = parser().parse_args(at(specs["tenantry-operator"], "containers.0.args")[1:])
    assert arguments.redis_cidr == ["10.0.0.0/16", "10.1.0.0/16"]


def test_datastores_are_off_unless_asked_for_and_their_passwords_are_on_no_command_line(
    platform: RenderPlatform,
) -> None:
    assert len(pod_specs(platform())) == 4
    objects = platform("dev.datastores.enabled=true")
    passwords = set(password_fields(find(objects, "Secret", "dev-datastores")).values())
    assert {len(password) for password in passwords} == {32}
    for _, spec in pod_specs(objects):
        for password in passwords:
            assert password not in str(spec)


def password_fields(secret: Object | Mapping[str, object]) -> dict[str, str]:
    return {name: value for name, value in at(secret, "stringData").items() if name.endswith("-password")}
