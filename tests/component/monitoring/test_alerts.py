"""Each alert fires when it should, says what it should, and stays quiet when it should: by Prometheus' own promtool."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster import promtool
from localcluster.paths import Checkout

from tests.component.monitoring.alerts import CASES, Case, Series

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts/tenantry/monitoring/rules.yaml"
RUNBOOK = ROOT / "docs/runbook.md"


@pytest.fixture(scope="module")
def program() -> Path:
    return promtool.ensure(Checkout.here())


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert of the rules file."""
    return {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def trial(name: str, case: Case, series: Series, expected: list[dict[str, object]]) -> dict[str, object]:
    """One of promtool's tests."""
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{case.minutes}m", "alertname": name, "exp_alerts": expected}],
    }


def test_every_alert_fires_when_it_should_and_stays_quiet_when_not(program: Path, tmp_path: Path) -> None:
    trials = []
    for name, case in CASES.items():
        annotations = {"summary": case.summary, "runbook_url": f"RUNBOOK#{name.lower()}"}
        firing: dict[str, object] = {"exp_labels": case.labels, "exp_annotations": annotations}
        trials += [trial(name, case, case.firing, [firing]), trial(name, case, case.quiet, [])]
    written = tmp_path / "trials.yaml"
    written.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": trials}))
    done = subprocess.run([program, "test", "rules", written], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    assert set(CASES) == set(alerts())


def test_every_alert_has_a_severity_a_sentence_and_a_section_in_the_runbook() -> None:
    sections = {line[3:].strip() for line in RUNBOOK.read_text().splitlines() if line.startswith("## Tenantry")}
    assert sections == set(alerts())
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert alert["annotations"]["summary"].endswith("."), name
        assert alert["annotations"]["runbook_url"] == f"RUNBOOK#{name.lower()}", name
