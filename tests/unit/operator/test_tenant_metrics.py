"""Each Tenant's figures, as Prometheus reads them."""

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from tenantry_operator.api.decode import FieldError, decode_tier
from tenantry_operator.live import TenantRecord
from tenantry_operator.tenant_metrics import FAMILIES, TenantMetrics

from tests.unit.operator.picture import live, record

Series = tuple[str, tuple[tuple[str, str], ...]]


def read(text: str) -> dict[Series, float]:
    """By Prometheus' own parser."""
    families = list(text_string_to_metric_families(text))
    assert {each.type for each in families} <= {"gauge"}
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for one in families for each in one.samples}


def series(name: str, **labels: str) -> Series:
    return name, tuple(sorted(labels.items()))


def test_metrics_of_tenants_are_those_of_the_moment() -> None:
    picture = live(record("acme", spend="45"), record("globex", ready=False, budget={"amount": "9", "window": "Day"}))
    made = TenantMetrics(picture)
    found = read(made.text())
    assert found == {
        series("tenantry_tenant_ready", tenant="acme", tier="standard"): 1,
        series("tenantry_tenant_ready", tenant="globex", tier="standard"): 0,
        series("tenantry_tenants", reason="Ready", tier="standard"): 1,
        series("tenantry_tenants", reason="QuotaBlocked", tier="standard"): 1,
        series("tenantry_tenant_replicas", tenant="acme"): 2,
        series("tenantry_tenant_replicas", tenant="globex"): 2,
        series("tenantry_tenant_replicas_max", tenant="acme"): 7,
        series("tenantry_tenant_replicas_max", tenant="globex"): 7,
        series("tenantry_budget_spent_usd", tenant="acme"): 45,
        series("tenantry_budget_limit_usd", tenant="acme", window="Month"): 50,
        series("tenantry_budget_limit_usd", tenant="globex", window="Day"): 9,
    }
    assert read(made.text()) == found, "what is kept says the same"
    picture.tenants["acme"] = record("acme", spend="46")
    assert read(made.text())[series("tenantry_budget_spent_usd", tenant="acme")] == 46
    picture.tiers["standard"] = decode_tier({"metadata": {"name": "standard"}, "spec": {"budget": {"amount": "60"}}})
    changed = read(made.text())
    assert changed[series("tenantry_budget_limit_usd", tenant="acme", window="Month")] == 60
    assert series("tenantry_tenant_replicas_max", tenant="acme") not in changed, "nobody says so any more"
    del picture.tenants["acme"]
    assert "acme" not in made.text()
    del picture.tenants["globex"]
    assert read(made.text()) == {}


def test_some_can_be_asked_for_by_name() -> None:
    made = TenantMetrics(live(record("acme")))
    assert {name for name, _ in read(made.text(["tenantry_tenant_ready", "up"]))} == {"tenantry_tenant_ready"}
    assert made.text(["up"]) == ""
    assert [line.split()[2] for line in made.text().splitlines() if "TYPE" in line] == [each.name for each in FAMILIES]


def test_labels_stand_in_the_order_of_the_client_library() -> None:
    assert [sorted(each.labels) for each in FAMILIES] == [list(each.labels) for each in FAMILIES]
    assert 'tenantry_tenants{reason="Ready",tier="standard"} 1.0\n' in TenantMetrics(live(record("acme"))).text()


def test_a_tenant_that_cannot_be_read_and_a_reason_with_quotes_are_told_all_the_same() -> None:
    known = record("acme", ready=False)
    said = known.status.conditions[0]
    odd = 'a "b" \\ c'
    made = record("odd")
    status = replace(made.status, conditions=(replace(said, reason=odd),))
    wrong = TenantRecord(known.meta, known.status, FieldError("spec.tier", "is a number"))
    found = read(TenantMetrics(live(wrong, TenantRecord(made.meta, status, made.tenant))).text())
    assert found[series("tenantry_tenants", reason=odd, tier="standard")] == 1
    assert found[series("tenantry_tenant_ready", tenant="acme", tier="")] == 0
