"""Objects for the Prometheus operator and Grafana: there where they are wanted and can be, and nowhere else."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.charts.conftest import CHARTS, KUBERNETES, Object, RenderPlatform, RenderTenant
from tests.unit.charts.objects import at, find, kinds, pod_specs

KINDS = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
RULES = CHARTS / "tenantry/monitoring/rules.yaml"


def rendered(helm: Path, *settings: str) -> list[Object]:
    """The platform on a cluster that has the kinds of the Prometheus operator."""
    argv = [str(helm), "template", "tenantry", str(CHARTS / "tenantry"), "--namespace", "tenantry-system"]
    argv += ["--kube-version", KUBERNETES]
    argv += [part for kind in KINDS for part in ("--api-versions", f"monitoring.coreos.com/v1/{kind}")]
    argv += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def test_nothing_of_it_where_the_cluster_lacks_the_kinds(platform: RenderPlatform) -> None:
    assert not KINDS & kinds(platform())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_has_a_switch_of_its_own(helm: Path, kind: str) -> None:
    assert kinds(rendered(helm)) >= KINDS
    switch = kind[0].lower() + kind[1:]
    assert KINDS - kinds(rendered(helm, f"monitoring.{switch}.enabled=false")) == {kind}


def test_the_rules_are_those_that_are_tested_with_links_to_the_runbook(helm: Path) -> None:
    made = find(
        rendered(helm, "monitoring.runbookUrl=https://wiki/runbook", "monitoring.labels.release=kps"), "PrometheusRule"
    )
    expected = yaml.safe_load(RULES.read_text().replace("RUNBOOK", "https://wiki/runbook"))
    assert made["spec"] == expected
    assert at(made, "metadata.labels")["release"] == "kps"


def test_monitors_find_what_they_scrape(helm: Path, platform: RenderPlatform) -> None:
    objects = rendered(helm)
    wanted = at(find(objects, "ServiceMonitor"), "spec.selector.matchLabels").items()
    service = find(objects, "Service", "tenantry-operator")
    assert at(service, "metadata.labels").items() >= wanted
    assert [port["name"] for port in at(service, "spec.ports")] == ["metrics"]
    monitors = [each for each in objects if each["kind"] == "PodMonitor"]
    assert {at(each, "metadata.name") for each in monitors} == {"tenantry-tenants", "tenantry-activator"}
    assert all(at(each, "spec.podMetricsEndpoints.0.port") == "http" for each in monitors)
    activator = find(objects, "Deployment", "tenantry-activator")
    wanted = at(find(objects, "PodMonitor", "tenantry-activator"), "spec.selector.matchLabels").items()
    assert at(activator, "spec.template.metadata.labels").items() >= wanted
    assert "http" in [port["name"] for port in at(activator, "spec.template.spec.containers.0.ports")]


def test_dashboards_are_for_those_who_ask_for_them(platform: RenderPlatform) -> None:
    assert not [each for each in platform() if "dashboard" in str(at(each, "metadata.name"))]
    made = [each for each in platform("monitoring.dashboards.enabled=true") if each["kind"] == "ConfigMap"]
    boards = [each for each in made if at(each, "metadata.labels").get("grafana_dashboard") == "1"]
    assert len(boards) == len(list((CHARTS / "tenantry/dashboards").glob("*.json"))) == 3
    for board in boards:
        ((name, text),) = at(board, "data").items()
        assert json.loads(text)["uid"] == name.removesuffix(".json")


async def test_prometheus_is_let_in_where_its_namespace_is_named(
    platform: RenderPlatform, tenant: RenderTenant
) -> None:
    (_, pod), *_ = [each for each in pod_specs(platform("monitoring.namespace=prom")) if each[0] == "tenantry-operator"]
    assert "--monitoring-namespace=prom" in pod["containers"][0]["args"]
    policy = find(
        await tenant(network={"ingressNamespaces": ["prom", "tenantry-system"]}), "NetworkPolicy", "allow-ingress"
    )
    assert "prom" in json.dumps(at(policy, "spec.ingress"))
