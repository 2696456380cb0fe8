"""Alerts, from the rules file."""

from __future__ import annotations

from pathlib import Path

import yaml

from generator.markdown import page, table


def text(rules: Path) -> str:
    """The page."""
    parts = []
    for group in yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]:
        rows = [
            (
                f"[{rule['alert']}](../runbook.md#{rule['alert'].lower()})",
                rule["labels"]["severity"],
                str(rule.get("for", "at once")),
                f"`{rule['expr']}`",
            )
            for rule in group["rules"]
        ]
        parts.append(f"## {group['name']}\n\n{table(('Alert', 'Severity', 'After', 'When'), rows)}")
    return page("Alerts", "charts/tenantry/monitoring/rules.yaml", *parts)
