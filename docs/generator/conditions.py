"""Conditions and their reasons, from the enum."""

from __future__ import annotations

from tenantry_operator.api.conditions import ConditionType, Reason

from generator.markdown import page, table


def text() -> str:
    """The page."""
    kinds = ", ".join(f"`{kind}`" for kind in ConditionType)
    rows = [(f"`{reason}`", reason.meaning) for reason in Reason]
    return page(
        "Conditions and reasons",
        "operator/tenantry_operator/api/conditions.py",
        f"Conditions of a Tenant: {kinds}. Each gives one of these reasons, which Events, metrics and logs use, too.",
        table(("Reason", "Meaning"), rows),
    )
