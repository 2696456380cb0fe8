"""Fields of Tenant and TenantTier, from the CRDs' schemas."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry_operator.api.crd import tenant_crd, tier_crd
from tenantry_operator.api.schema import Schema

from generator.markdown import page, table

ORIGIN = "operator/tenantry_operator/api"


def tenant() -> str:
    """The page about Tenant."""
    return _page("Tenant", tenant_crd())


def tier() -> str:
    """The page about TenantTier."""
    return _page("TenantTier", tier_crd())


def _page(kind: str, crd: Schema) -> str:
    root = _at(crd, "spec", "versions", 0, "schema", "openAPIV3Schema")
    parts = []
    for part in ("spec", "status"):
        schema = _at(root, "properties", part)
        required = set(schema.get("required") or ())  # type: ignore[call-overload]
        rows = list(_fields(schema, "", required))
        parts.append(f"## {part}\n\n{table(('Field', 'Type', 'What'), rows)}")
    meaning = str(root["description"])
    known = f"`{kind}` of `tenantry.dev/v1alpha1`, cluster-scoped. {meaning} Rules that compare fields are in the CRD."
    return page(kind, ORIGIN, known, *parts)


def _fields(schema: Schema, path: str, required: set[str]) -> Iterator[tuple[str, str, str]]:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    for name, field in properties.items():
        place = f"{path}.{name}" if path else name
        items = field.get("items")
        inner = items if isinstance(items, dict) and "properties" in items else field
        mark = " (required)" if name in required else ""
        yield f"`{place}`{mark}", _kind(field), str(field.get("description", ""))
        deeper = f"{place}[]" if inner is items else place
        yield from _fields(inner, deeper, set(inner.get("required") or ()))


def _kind(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in field:
        values = field["enum"]
        assert isinstance(values, list)
        return " \\| ".join(map(str, values)).replace("\\|", "or")
    kind = str(field.get("type", ""))
    if kind == "integer" and "minimum" in field:
        return f"integer, {field['minimum']:,} to {field['maximum']:,}"
    if kind == "array":
        items = field["items"]
        assert isinstance(items, dict)
        return f"list of {_kind(items)}, at most {field['maxItems']}"
    if kind == "object" and "additionalProperties" in field:
        return f"map, at most {field.get('maxProperties', '?')}"
    return "date and time" if field.get("format") == "date-time" else kind


def _at(value: object, *path: str | int) -> Schema:
    for step in path:
        value = value[step]  # type: ignore[index]
    assert isinstance(value, dict)
    return value
