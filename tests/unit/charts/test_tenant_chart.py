"""charts/tenant: what a tenant's namespace holds, and what it must never hold."""

import ipaddress
import json
import re

import pytest
from tenantry_operator.api.units import parse_quantity
from tenantry_operator.plan import names, objects
from tenantry_operator.render import RenderError
from tenantry_service.proxy.engine import TIMEOUTS
from tenantry_service.proxy.messages import Timer
from tenantry_service.serve import parser

from tests.unit.charts.conftest import CHARTS, RenderTenant
from tests.unit.charts.objects import at, find, kinds, pod_specs, violations_of_restricted

SCALED = {"minReplicas": 2, "maxReplicas": 6}


async def test_least_values_give_everything_that_a_tenant_needs(tenant: RenderTenant) -> None:
    assert kinds(await tenant()) == {
        "ResourceQuota",
        "LimitRange",
        "NetworkPolicy",
        "ServiceAccount",
        "ConfigMap",
        "Deployment",
        "Service",
    }


async def test_the_namespace_enforces_restricted_pods(tenant: RenderTenant) -> None:
    namespace = find(await tenant(namespace={"create": True, "name": "tenant-acme"}), "Namespace")
    labels = at(namespace, "metadata.labels")
    assert [labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")] == ["restricted"] * 3


async def test_a_namespace_made_by_hand_is_fenced_as_one_made_by_the_operator(tenant: RenderTenant) -> None:
    by_hand = find(await tenant(namespace={"create": True, "name": "tenant-acme"}), "Namespace")
    by_operator = objects.namespace("acme", "uid", retain=False)
    ours = {key: value for key, value in at(by_operator, "metadata.labels").items() if key not in names.labels("acme")}
    assert ours
    assert ours.items() <= at(by_hand, "metadata.labels").items()
    assert {key for key in at(by_hand, "metadata.labels") if "pod-security" in key} <= set(ours)


async def test_pods_are_restricted_and_hold_no_token(tenant: RenderTenant) -> None:
    objects = await tenant(upstreamSecrets=["openai"])
    for name, spec in pod_specs(objects):
        assert violations_of_restricted(spec) == [], name
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
    assert at(find(objects, "ServiceAccount"), "automountServiceAccountToken") is False


async def test_a_packet_of_dns_that_is_lost_costs_less_than_a_connection_may_take(tenant: RenderTenant) -> None:
    for name, spec in pod_specs(await tenant()):
        options = {option["name"]: int(option["value"]) for option in spec["dnsConfig"]["options"]}
        assert options["timeout"] * (options["attempts"] - 1) < TIMEOUTS[Timer.CONNECT], name


async def test_every_object_is_labelled_and_in_the_tenants_namespace(tenant: RenderTenant) -> None:
    objects = await tenant(
        namespace={"create": True, "name": "tenant-acme"},
        labels={"applyset.kubernetes.io/part-of": "applyset-x-v1"},
        owners=[{"kind": "User", "name": "ann"}],
        keys=["default"],
        autoscaling=SCALED,
    )
    for each in objects:
        assert at(each, "metadata.labels")["tenantry.dev/tenant"] == "acme"
        assert at(each, "metadata.labels")["applyset.kubernetes.io/part-of"] == "applyset-x-v1"
        assert each["kind"] == "Namespace" or at(each, "metadata.namespace") == "tenant-acme"


async def test_labels_of_the_set_do_not_reach_the_pods_where_a_change_would_roll_them(tenant: RenderTenant) -> None:
    deployment = find(await tenant(labels={"extra": "1"}), "Deployment")
    assert "extra" not in at(deployment, "spec.template.metadata.labels")


async def test_a_new_policy_does_not_roll_the_pods(tenant: RenderTenant) -> None:
    first, second = [
        await tenant(tenant={"name": "acme", "generation": n}, policy={"apiVersion": "x", "tenant": "acme", "n": n})
        for n in (1, 2)
    ]
    assert find(first, "Deployment") == find(second, "Deployment")
    assert find(first, "ConfigMap") != find(second, "ConfigMap")


async def test_the_policy_arrives_as_it_was_given(tenant: RenderTenant) -> None:
    policy = {
        "apiVersion": "x",
        "tenant": "acme",
        "revision": "abc",
        "odd": 'quo"te <&> ü \n {{ .Values }}',
        "n": 10**18 - 1,
    }
    config = find(await tenant(policy=policy), "ConfigMap")
    assert json.loads(at(config, "data")["policy.json"]) == policy
    assert at(config, "metadata.annotations") == {"tenantry.dev/policy-revision": "abc"}


async def test_hand_over_labels_are_on_the_right_selectors(tenant: RenderTenant) -> None:
    objects = await tenant(autoscaling=SCALED)
    pod = at(find(objects, "Deployment"), "spec.template.metadata.labels")
    pool = {"app.kubernetes.io/name": "tenantry-api", "tenantry.dev/pool": "active"}
    served = {"app.kubernetes.io/name": "tenantry-api", "tenantry.dev/serve": "yes"}
    assert at(find(objects, "Deployment"), "spec.selector.matchLabels") == pool
    assert at(find(objects, "PodDisruptionBudget"), "spec.selector.matchLabels") == pool
    assert at(find(objects, "Service"), "spec.selector") == served
    assert pool.items() | served.items() <= pod.items()


@pytest.mark.parametrize(
    ("values", "replicas", "scaled"),
    [
        ({"autoscaling": {"minReplicas": 0, "maxReplicas": 1}}, None, False),
        ({"autoscaling": {"minReplicas": 1, "maxReplicas": 1}}, 1, False),
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 3}}, None, True),
        ({"autoscaling": {"minReplicas": 1, "maxReplicas": 3}}, None, True),
        ({"autoscaling": {"minReplicas": 0, "maxReplicas": 3}}, None, True),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 3, "enabled": False}}, None, False),
        ({"autoscaling": {"minReplicas": 1, "maxReplicas": 1, "enabled": False}}, None, False),
        ({"autoscaling": {"minReplicas": 1, "maxReplicas": 3}, "suspend": {"traffic": True}}, 0, False),
    ],
)
async def test_the_chart_writes_no_number_of_pods_from_which_leaving_it_out_would_take_some_away(
    tenant: RenderTenant, values: dict[str, object], replicas: int | None, scaled: bool
) -> None:
    objects = await tenant(**values)
    assert at(find(objects, "Deployment"), "spec.replicas") == replicas
    assert ("HorizontalPodAutoscaler" in kinds(objects)) is scaled
    if scaled:
        assert at(find(objects, "HorizontalPodAutoscaler"), "spec.minReplicas") >= 1


async def test_an_in_flight_metric_takes_the_place_of_cpu(tenant: RenderTenant) -> None:
    objects = await tenant(autoscaling={**SCALED, "targetInFlight": 80, "inFlightMetric": "tenantry_in_flight"})
    (metric,) = at(find(objects, "HorizontalPodAutoscaler"), "spec.metrics")
    assert (at(metric, "pods.metric.name"), at(metric, "pods.target.averageValue")) == ("tenantry_in_flight", "80")


@pytest.mark.parametrize(("most", "budgeted"), [(1, False), (2, True), (20, True)])
async def test_a_disruption_budget_always_leaves_one_eviction(tenant: RenderTenant, most: int, budgeted: bool) -> None:
    objects = await tenant(autoscaling={"minReplicas": 1, "maxReplicas": most})
    assert ("PodDisruptionBudget" in kinds(objects)) is budgeted
    if budgeted:
        spec = at(find(objects, "PodDisruptionBudget"), "spec")
        assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


@pytest.mark.parametrize("most", [1, 2, 7, 500])
@pytest.mark.parametrize(("cpu", "memory"), [("100m", "96Mi"), (1, "1Gi"), ("1.5", "250M"), ("333m", "1000Ki")])
async def test_the_quota_holds_all_pods_with_four_predecessors_each_and_the_surge(
    tenant: RenderTenant, most: int, cpu: str | int, memory: str
) -> None:
    resources = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}
    objects = await tenant(autoscaling={"minReplicas": 1, "maxReplicas": most}, resources=resources)
    hard = at(find(objects, "ResourceQuota"), "spec.hard")
    surge = at(find(objects, "Deployment"), "spec.strategy.rollingUpdate.maxSurge")
    assert int(hard["pods"]) >= 5 * most + surge
    assert parse_quantity(hard["requests.cpu"]) >= int(hard["pods"]) * parse_quantity(cpu)
    assert parse_quantity(hard["requests.memory"]) >= int(hard["pods"]) * parse_quantity(memory)
    assert parse_quantity(hard["limits.memory"]) >= int(hard["pods"]) * parse_quantity(memory)


async def test_a_quota_can_be_raised_but_not_lowered(tenant: RenderTenant) -> None:
    needed, raised, lowered = [
        at(find(await tenant(quota=quota), "ResourceQuota"), "spec.hard")
        for quota in ({}, {"pods": 50, "cpu": "20", "memory": "64Gi"}, {"pods": 1, "cpu": "1m", "memory": "1Mi"})
    ]
    assert (raised["pods"], raised["requests.cpu"], raised["requests.memory"]) == ("50", "20", "64Gi")
    assert lowered == needed


async def test_pods_without_requests_get_some_because_the_quota_would_refuse_them(tenant: RenderTenant) -> None:
    (limit,) = at(find(await tenant(), "LimitRange"), "spec.limits")
    assert limit["type"] == "Container"
    assert {"cpu", "memory"} <= limit["defaultRequest"].keys()
    assert "memory" in limit["default"]


async def test_nothing_comes_in_or_goes_out_by_default(tenant: RenderTenant) -> None:
    spec = at(find(await tenant(), "NetworkPolicy", "default-deny"), "spec")
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.31.255.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "169.254.170.23"),
        *("fd00:ec2::254", "fe80::1", "::1"),
    ],
)
async def test_private_and_metadata_addresses_are_not_public(tenant: RenderTenant, address: str) -> None:
    egress = at(find(await tenant(), "NetworkPolicy", "allow-egress"), "spec.egress")
    assert [reached for rule in egress for peer in rule["to"] if (reached := reaches(peer["ipBlock"], address))] == []


@pytest.mark.parametrize("address", ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1"])
async def test_public_addresses_are_reached_on_443_only(tenant: RenderTenant, address: str) -> None:
    (rule,) = at(find(await tenant(), "NetworkPolicy", "allow-egress"), "spec.egress")
    assert any(reaches(peer["ipBlock"], address) for peer in rule["to"])
    assert rule["ports"] == [{"port": 443, "protocol": "TCP"}]


def reaches(block: dict[str, object], text: str) -> bool:
    address = ipaddress.ip_address(text)
    excepted = block.get("except", [])
    assert isinstance(excepted, list)
    inside = [ipaddress.ip_network(str(cidr)) for cidr in (block["cidr"], *excepted)]
    return address in inside[0] and not any(address in network for network in inside[1:])


async def test_upstreams_in_the_cluster_are_reached_by_namespace(tenant: RenderTenant) -> None:
    policy = find(await tenant(network={"egress": {"namespaces": ["sim"]}}), "NetworkPolicy", "allow-egress")
    assert namespaces_of(at(policy, "spec.egress.1.to")) == ["sim"]
    assert at(policy, "spec.egress.1.ports") is None


async def test_requests_come_from_the_gateways_namespaces_only(tenant: RenderTenant) -> None:
    policy = find(await tenant(network={"ingressNamespaces": ["edge"]}), "NetworkPolicy", "allow-ingress")
    (rule,) = at(policy, "spec.ingress")
    assert namespaces_of(rule["from"]) == ["edge"]
    assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]


async def test_a_node_port_opens_the_service_to_whoever_reaches_a_node(tenant: RenderTenant) -> None:
    objects = await tenant(service={"nodePort": 30080})
    assert at(find(objects, "Service"), "spec.type") == "NodePort"
    assert at(find(objects, "Service"), "spec.ports.0.nodePort") == 30080
    assert at(find(objects, "NetworkPolicy", "allow-ingress"), "spec.ingress") == [
        {"ports": [{"port": 8000, "protocol": "TCP"}]}
    ]


def namespaces_of(peers: list[dict[str, object]]) -> list[str]:
    (peer,) = peers
    (expression,) = at(peer, "namespaceSelector.matchExpressions")
    assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "In")
    names: list[str] = expression["values"]
    return names


async def test_owners_see_their_namespace_and_read_their_keys_and_nothing_else(tenant: RenderTenant) -> None:
    owners = [{"kind": "Group", "name": "team"}, {"kind": "ServiceAccount", "name": "ci", "namespace": "build"}]
    objects = await tenant(owners=owners, keys=["default", "batch"], upstreamSecrets=["openai"])
    (rule,) = at(find(objects, "Role"), "rules")
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["key-batch", "key-default"],
        "verbs": ["get"],
    }
    roles = {at(each, "roleRef.name") for each in objects if each["kind"] == "RoleBinding"}
    assert roles == {"view", "key-reader"}


async def test_without_owners_nobody_gets_any_right(tenant: RenderTenant) -> None:
    assert not kinds(await tenant(keys=["default"])) & {"Role", "RoleBinding"}


async def test_spot_pods_run_on_spot_nodes_of_karpenter_or_managed_groups_only(tenant: RenderTenant) -> None:
    spec = at(find(await tenant(placement={"capacity": "Spot", "architectures": ["arm64"]}), "Deployment"), POD)
    required = at(spec, REQUIRED)
    assert all(term["matchExpressions"][0]["values"] == ["arm64"] for term in required)
    assert [term["matchExpressions"][1]["values"] for term in required] == [["spot"], ["SPOT"]]
    assert {toleration["key"] for toleration in spec["tolerations"]} - NODE_LOSS.keys() == {
        "karpenter.sh/capacity-type",
        "eks.amazonaws.com/capacityType",
    }


async def test_spot_preferred_pods_run_anywhere_if_need_be(tenant: RenderTenant) -> None:
    spec = at(find(await tenant(), "Deployment"), POD)
    assert at(spec, REQUIRED) is None
    assert len(at(spec, "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution")) == 2


async def test_on_demand_pods_never_run_on_spot_and_tolerate_no_spot_taint(tenant: RenderTenant) -> None:
    spec = at(find(await tenant(placement={"capacity": "OnDemand"}), "Deployment"), POD)
    (term,) = at(spec, REQUIRED)
    assert {expression["operator"] for expression in term["matchExpressions"]} == {"NotIn"}
    assert {toleration["key"] for toleration in spec["tolerations"]} == NODE_LOSS.keys()


async def test_a_node_that_dies_without_a_word_does_not_keep_its_pods_for_five_minutes(tenant: RenderTenant) -> None:
    spec = at(find(await tenant(), "Deployment"), POD)
    found = {each["key"]: (each["effect"], each.get("tolerationSeconds")) for each in spec["tolerations"]}
    assert found.items() >= NODE_LOSS.items()


#: How long pods are left on a node that is silent or not ready.
NODE_LOSS = {f"node.kubernetes.io/{state}": ("NoExecute", 30) for state in ("not-ready", "unreachable")}
POD = "spec.template.spec"
REQUIRED = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


async def test_pods_spread_over_zones(tenant: RenderTenant) -> None:
    spec = at(find(await tenant(), "Deployment"), POD)
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"


async def test_a_new_tenant_is_looked_at_every_second(tenant: RenderTenant) -> None:
    container = at(find(await tenant(), "Deployment"), f"{POD}.containers.0")
    assert container["readinessProbe"]["periodSeconds"] == 1
    assert at(container, "lifecycle.preStop.sleep.seconds") > 0


@pytest.mark.parametrize("grace", [5, 30, 120])
async def test_streams_get_an_end_of_their_own_before_the_kubelet_cuts_them(tenant: RenderTenant, grace: int) -> None:
    deployment = find(await tenant(pod={"terminationGracePeriodSeconds": grace}), "Deployment")
    command, *arguments = at(deployment, f"{POD}.containers.0.args")
    options = parser().parse_args(arguments)
    waited = at(deployment, f"{POD}.containers.0.lifecycle.preStop.sleep.seconds")
    assert command == "serve"
    assert waited + options.drain_seconds <= max(waited, grace - 10)
    assert str(options.policy) == "/etc/tenantry/policy/policy.json"


async def test_credentials_of_upstreams_are_mounted_by_name(tenant: RenderTenant) -> None:
    spec = at(find(await tenant(upstreamSecrets=["openai", "azure"]), "Deployment"), POD)
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "upstreams"]
    paths = [at(source, "secret.items.0.path") for source in volume["projected"]["sources"]]
    assert paths == ["azure/api-key", "openai/api-key"]


async def test_pods_are_given_the_shared_counters_and_no_database(tenant: RenderTenant) -> None:
    redis = {"redis": {"enabled": True}, "network": {"redis": {"port": 6380, "namespace": "stores"}}}
    without, rendered = await tenant(), await tenant(**redis)
    assert "NetworkPolicy/allow-redis" not in {f"{each['kind']}/{at(each, 'metadata.name')}" for each in without}
    spec = at(find(rendered, "Deployment"), "spec.template.spec")
    assert "--redis-file=/etc/tenantry/redis/url" in at(spec, "containers.0.args")
    assert {volume["name"] for volume in spec["volumes"] if "secret" in volume} == {"redis"}
    assert "env" not in at(spec, "containers.0")
    (rule,) = at(find(rendered, "NetworkPolicy", "allow-redis"), "spec.egress")
    assert at(rule, "to.0.namespaceSelector.matchExpressions.0.values") == ["stores"]
    assert rule["ports"] == [{"port": 6380, "protocol": "TCP"}], "nothing else that is in that namespace"
    assert "--redis-file" not in str(at(find(without, "Deployment"), "spec.template.spec.containers.0.args"))


async def test_shared_counters_outside_of_the_cluster_are_reached_by_address(tenant: RenderTenant) -> None:
    rendered = await tenant(network={"redis": {"port": 6379, "cidrs": ["10.0.0.0/16", "10.1.0.0/16"]}})
    (rule,) = at(find(rendered, "NetworkPolicy", "allow-redis"), "spec.egress")
    assert rule["to"] == [{"ipBlock": {"cidr": "10.0.0.0/16"}}, {"ipBlock": {"cidr": "10.1.0.0/16"}}]


@pytest.mark.parametrize(
    "where", [{"port": 6379}, {"port": 6379, "cidrs": []}, {"port": 6379, "namespace": "a", "cidrs": ["10.0.0.0/8"]}]
)
async def test_shared_counters_that_are_nowhere_or_twice_are_refused(
    tenant: RenderTenant, where: dict[str, object]
) -> None:
    with pytest.raises(RenderError, match="network"):
        await tenant(network={"redis": where})


async def test_an_image_may_be_named_by_digest(tenant: RenderTenant) -> None:
    digest = "sha256:" + "a" * 64
    objects = await tenant(image={"repository": "registry.example.com/tenantry", "tag": digest})
    assert at(find(objects, "Deployment"), f"{POD}.containers.0.image") == f"registry.example.com/tenantry@{digest}"


PARENT = {"name": "shared", "namespace": "edge", "sectionName": "https"}


async def test_the_tenants_path_leads_to_its_api_on_any_host(tenant: RenderTenant) -> None:
    objects = await tenant(route={"kind": "Gateway", "parentRef": PARENT})
    (route,) = [each for each in objects if each["kind"] == "HTTPRoute"]
    assert at(route, "spec.parentRefs") == [PARENT]
    assert at(route, "spec.hostnames") is None
    (rule,) = at(route, "spec.rules")
    assert at(rule, "matches") == [{"path": {"type": "PathPrefix", "value": "/acme/v1"}}]
    assert at(rule, "filters.0.urlRewrite.path") == {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"}
    assert at(rule, "backendRefs") == [{"name": "api", "port": 80}]


async def test_host_names_of_its_own_lead_to_its_api_alone(tenant: RenderTenant) -> None:
    objects = await tenant(route={"kind": "Gateway", "parentRef": PARENT, "hostnames": ["acme.example.com"]})
    spec = at(find(objects, "HTTPRoute", "api-hosts"), "spec")
    assert spec["hostnames"] == ["acme.example.com"]
    (rule,) = spec["rules"]
    assert at(rule, "matches") == [{"path": {"type": "PathPrefix", "value": "/v1"}}], "no metrics, no control routes"
    assert at(rule, "backendRefs") == [{"name": "api", "port": 80}]


async def test_no_route_ends_a_stream_for_its_length(tenant: RenderTenant) -> None:
    objects = await tenant(route={"kind": "Gateway", "parentRef": PARENT, "hostnames": ["acme.example.com"]})
    rules = [rule for each in objects if each["kind"] == "HTTPRoute" for rule in at(each, "spec.rules")]
    assert [rule["timeouts"] for rule in rules] == [{"request": "0s"}] * 2


async def test_an_ingress_has_the_host_names_their_certificate_and_nothing_without_host_names(
    tenant: RenderTenant,
) -> None:
    options = {"className": "nginx", "annotations": {"example.com/x": "y"}, "tlsSecretName": "api-tls"}
    hosts = ["acme.example.com", "api.acme.example"]
    ingress = find(await tenant(route={"kind": "Ingress", "hostnames": hosts, "ingress": options}), "Ingress")
    assert at(ingress, "metadata.annotations") == {"example.com/x": "y"}
    assert at(ingress, "spec.ingressClassName") == "nginx"
    assert at(ingress, "spec.tls") == [{"hosts": hosts, "secretName": "api-tls"}]
    assert [rule["host"] for rule in at(ingress, "spec.rules")] == hosts
    assert {at(rule, "http.paths.0.path") for rule in at(ingress, "spec.rules")} == {"/v1"}
    without = await tenant(route={"kind": "Ingress", "hostnames": []})
    assert not [each for each in without if each["kind"] in ("Ingress", "HTTPRoute")]


def test_the_chart_is_a_function_of_its_values() -> None:
    forbidden = re.compile(
        r"\b(rand\w+|gen(CA|SelfSigned|Signed|PrivateKey)\w*|uuidv4|now|date\w*|ago|htpasswd|bcrypt|shuffle"
        r"|lookup|tpl|env|expandenv|getHostByName)\b(?=[^}]*}})|\.Capabilities|helm\.sh/hook"
    )
    sources = [*(CHARTS / "tenant" / "templates").iterdir()]
    assert len(sources) > 10
    found = {source.name: forbidden.findall(without_comments(source.read_text())) for source in sources}
    assert {name: uses for name, uses in found.items() if uses} == {}


def without_comments(text: str) -> str:
    return re.sub(r"{{-? */\*.*?\*/ *-?}}", "", text, flags=re.DOTALL)


async def test_the_hpa_goes_by_requests_in_flight_and_by_cpu_only_where_that_can_be_read(tenant: RenderTenant) -> None:
    async def metrics(**scaling: object) -> list[str]:
        found = find(await tenant(autoscaling={"maxReplicas": 3, **scaling}), "HorizontalPodAutoscaler")
        return [
            at(each, "pods.metric.name" if each["type"] == "Pods" else "resource.name")
            for each in at(found, "spec.metrics")
        ]

    assert await metrics(inFlightMetric="in_flight") == ["in_flight"]
    assert await metrics(inFlightMetric="in_flight", cpuMetric=True) == ["in_flight", "cpu"]
    assert await metrics(inFlightMetric="") == ["cpu"]


async def test_pods_come_at_once_and_go_one_by_one(tenant: RenderTenant) -> None:
    found = find(await tenant(autoscaling={"maxReplicas": 3}), "HorizontalPodAutoscaler")
    up, down = at(found, "spec.behavior.scaleUp"), at(found, "spec.behavior.scaleDown")
    assert up["stabilizationWindowSeconds"] == 0
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    assert down["stabilizationWindowSeconds"] == 300
