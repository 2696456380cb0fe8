"""What the guide to operating names is there: reasons, alerts, policies, other guides."""

import re
from pathlib import Path

import yaml
from tenantry_operator.api.conditions import Reason

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/operating.md").read_text()
NEW_GUIDES = ("operating.md", "architecture.md", "gateway.md")


def test_every_reason_in_the_failure_matrix_is_one_that_a_condition_can_give() -> None:
    named = set(re.findall(r"`(?:Degraded|Stalled|Ready|Reconciling): (\w+)`", GUIDE))
    assert len(named) >= 4
    assert named <= {reason.value for reason in Reason}


def test_every_alert_is_one_that_the_chart_has() -> None:
    rules = yaml.safe_load((ROOT / "charts/tenantry/monitoring/rules.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    named = set(re.findall(r"`(Tenantry[A-Z]\w+)`", GUIDE))
    assert len(named) >= 4
    assert named <= alerts


def test_every_link_leads_somewhere() -> None:
    for guide in NEW_GUIDES:
        text = (ROOT / "docs" / guide).read_text()
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (ROOT / "docs" / target).exists(), f"{guide}: {target}"


def test_every_file_and_policy_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for path in re.findall(r"`((?:operator|service|charts|tests)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path
    templates = "".join(path.read_text() for path in (ROOT / "charts/tenantry/templates").glob("*.yaml"))
    for policy in re.findall(r"`(tenantry-[\w-]+)`", text):
        assert f"name: {policy}\n" in templates, policy
