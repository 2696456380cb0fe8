"""Every query of alerts and dashboards parses, and asks only for what the processes really expose."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml
from generator import dashboards, metrics
from localcluster import promtool
from localcluster.paths import Checkout
from prometheus_client.parser import text_string_to_metric_families
from tenantry_service import policy as policies

from tests.component.service.harness import policy, service_program

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts/tenantry/monitoring/rules.yaml"

#: What stands where a label may, not a metric.
_LABELS = re.compile(r"\{[^{}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_NAME = re.compile(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()")

#: Words of PromQL.
WORDS = {"and", "or", "unless", "by", "on", "le", "bool", "offset"}


def expressions() -> Iterator[str]:
    """All queries."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    yield from dashboards.queries()


def asked(expression: str) -> set[str]:
    """The metrics that a query names."""
    return {name for name in _NAME.findall(_LABELS.sub(" ", expression)) if name not in WORDS}


def test_the_names_of_a_query_are_told_from_its_labels() -> None:
    query = 'sum by (le, tenant) (rate(a_bucket{pod=~"x.*"}[5m])) / on (tenant) group_left (window) b_usd > 0.5 and c'
    assert asked(query) == {"a_bucket", "b_usd", "c"}


def test_every_query_parses(tmp_path: Path) -> None:
    rules = [{"record": f"query:{at}", "expr": expression} for at, expression in enumerate(expressions())]
    written = tmp_path / "queries.yaml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    program = promtool.ensure(Checkout.here())
    done = subprocess.run([program, "check", "rules", written], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_asks_for_what_is_exposed() -> None:
    known = {name for _, found in metrics.processes() for each in found for name in metrics.exposed(each)}
    known |= {"process_resident_memory_bytes"}
    missing = {expression: asked(expression) - known for expression in expressions() if asked(expression) - known}
    assert not missing


def test_a_running_service_exposes_what_the_reference_says(tmp_path: Path) -> None:
    document = tmp_path / "policy.json"
    document.write_bytes(policies.encode(policy(9)))  # discard: nobody is asked
    with service_program(tmp_path, "--policy", str(document), "--state-dir", str(tmp_path / "state")) as running:
        text = running.get("/metrics")[1]
    exposed = {family.name for family in text_string_to_metric_families(text)}
    assert {known.name for known in metrics.service()} == {
        name for name in exposed if not name.startswith(metrics.STANDARD)
    }
