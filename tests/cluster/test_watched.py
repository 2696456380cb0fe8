"""What a running operator shows of itself and its tenants: metrics as the reference says, and the status page."""

import urllib.request
from collections.abc import Iterator

import pytest
from generator import metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.cluster import Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operator, Operators


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator with a tenant that is Ready and one that cannot be."""
    cluster.tier(budget={"amount": "50"})
    operators = Operators(installation.operator, tmp_path_factory.mktemp("watched"))
    try:
        running = operators.start().says("synced")
        cluster.tenant("shown")
        cluster.tenant("stuck", tier="nowhere")
        cluster.wait_for("shown", "Ready", "True")
        cluster.wait_for("stuck", "Ready", "False", "TierNotFound")
        yield running
        cluster.empty()
    finally:
        operators.end()


def page(running: Operator) -> str:
    """The status page, as a forwarded port gives it."""
    (ports,) = [line for line in running.lines() if line["message"] == "standing by"]
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['page_port']}/", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_a_running_operator_exposes_what_the_reference_says(operator: Operator) -> None:
    families = list(text_string_to_metric_families(operator.get("/metrics")[1]))
    known = [family for family in families if not family.name.endswith("_created")]  # when each series began
    shown = {family.name for family in known if not family.name.startswith(metrics.STANDARD)}
    assert shown == {known.name for known in metrics.operator()}
    labels = {known.name: set(known.labels) for known in metrics.operator()}
    for family in known:
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= labels.get(family.name, set(sample.labels)), family.name


def test_metrics_of_tenants_follow_them(operator: Operator, cluster: Cluster) -> None:
    ready = 'tenantry_tenant_ready{tenant="shown",tier="standard"}'
    eventually("it follows", lambda: operator.metric(ready) == 1)
    assert operator.metric('tenantry_tenant_ready{tenant="stuck",tier="nowhere"}') == 0
    assert operator.metric('tenantry_tenants{reason="TierNotFound",tier="nowhere"}') == 1
    assert operator.metric('tenantry_budget_limit_usd{tenant="shown",window="Month"}') == 50


def test_the_status_page_is_about_the_tenants_of_the_cluster(operator: Operator, cluster: Cluster) -> None:
    text = page(operator)
    assert text.index('<th scope="row">stuck</th>') < text.index('<th scope="row">shown</th>')
    assert "TierNotFound" in text
    cluster.tenant("stuck", tier="standard")
    cluster.wait_for("stuck", "Ready", "True")
    eventually("the page follows", lambda: "TierNotFound" not in page(operator).partition("Last events")[0])
