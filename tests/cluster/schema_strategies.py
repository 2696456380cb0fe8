"""Hypothesis strategies from a CRD's schema: values that it allows, and values that it does not.

Understood is what our CRDs consist of: objects, lists (also as sets and maps), strings with bounds and a pattern (as a
rule ``self.matches``), integers, booleans, quantities and times. Rules over more than one field are not: who needs
them kept filters by them (``allowed``).
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Values = st.SearchStrategy[Any]

#: Replaces the strategy of a field by its path, such as ``exposure.nodePort`` or ``upstreams[].name``; None drops it.
Overrides = Mapping[str, Values | None]

_MATCHES = re.compile(r'self\)?\.matches\(("(?:[^"\\]|\\.)*")\)')
_QUANTITIES = st.sampled_from(["20Mi", "64Mi", "128Mi", "256Mi", "0.5Gi", "100m", "250m", "1500m", "1", 2])
_CPU, _MEMORY = st.sampled_from(["50m", "250m", "1500m", 1, "2"]), st.sampled_from(["20Mi", "128Mi", "0.5Gi", "1G"])
_SIZES = st.sampled_from(["64Ki", "70k", "1.5Mi", "100Mi", 65_536])
_TIMES = st.sampled_from(["2030-01-01T00:00:00Z", "2031-06-30T12:00:00Z"])
_TEXT = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)


def allowed(
    schema: Schema, overrides: Overrides | None = None, path: str = "", check: Callable[[str, Any], bool] | None = None
) -> Values:
    """Values that the schema allows, few and short rather than many and long.

    ``check(path, value)`` says whether a value of that field also keeps the rules that the schema cannot say.
    """
    values = _allowed(schema, overrides or {}, path, check)
    return values if check is None or not path else values.filter(lambda value: check(path, value))


def _allowed(schema: Schema, overrides: Overrides, path: str, check: Callable[[str, Any], bool] | None) -> Values:
    if (given := overrides.get(path)) is not None:
        return given
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        name = path.rpartition(".")[2]
        return {"cpu": _CPU, "memory": _MEMORY, "maxBodySize": _SIZES, "maxUploadSize": _SIZES, "maxSize": _SIZES}.get(
            name, _QUANTITIES
        )
    match schema["type"]:
        case "object" if "properties" in schema:
            fields = {
                name: allowed(field, overrides, f"{path}.{name}" if path else name, check)
                for name, field in schema["properties"].items()
                if overrides.get(f"{path}.{name}" if path else name, ...) is not None
            }
            needed = [name for name in schema.get("required", []) if name in fields]
            optional = {name: each for name, each in fields.items() if name not in needed}
            return st.fixed_dictionaries({name: fields[name] for name in needed}, optional=optional)
        case "object":
            return st.dictionaries(_TEXT, allowed(schema["additionalProperties"], overrides, f"{path}.*"), max_size=2)
        case "array":
            items = allowed(schema["items"], overrides, f"{path}[]", check)
            keys = schema.get("x-kubernetes-list-map-keys")
            is_set = keys or schema.get("x-kubernetes-list-type") == "set"
            unique = (
                (lambda item: json.dumps([item.get(key, "") for key in keys] if keys else item)) if is_set else None
            )
            return st.lists(
                items, min_size=schema.get("minItems", 0), max_size=min(3, schema["maxItems"]), unique_by=unique
            )
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "boolean":
            return st.booleans()
        case _:
            return _strings(schema)


def _strings(schema: Schema) -> Values:
    if schema.get("format") == "date-time":
        return _TIMES
    patterns = [json.loads(found[1]) for rule in _rules(schema) if (found := _MATCHES.search(rule["rule"]))]
    least, most = schema.get("minLength", 0), schema["maxLength"]
    if not patterns:
        return st.text(alphabet="abcxyz-_.:/019", min_size=max(least, 1), max_size=min(most, 20))
    ascii_only = st.characters(codec="ascii", exclude_categories=["Cc"])
    return (
        st.from_regex(re.compile(patterns[0], re.ASCII), fullmatch=True, alphabet=ascii_only)
        .filter(lambda text: least <= len(text) <= min(most, 60) and "\n" not in text)
        .filter(lambda text: all(re.fullmatch(pattern.strip("^$"), text) for pattern in patterns[1:]))
    )


def _rules(schema: Schema) -> list[dict[str, str]]:
    return list(schema.get("x-kubernetes-validations", []))


def forbidden(schema: Schema, path: str = "") -> list[tuple[str, Any]]:
    """Paths of all fields, each with values that the schema forbids there: of another type, or beyond a bound."""
    if "properties" in schema:
        below = [
            each
            for name, field in schema["properties"].items()
            for each in forbidden(field, f"{path}.{name}".strip("."))
        ]
        return [*below, *([(path, "text"), (path, [])] if path else [])]
    wrong: list[Any] = []
    if schema.get("x-kubernetes-int-or-string"):
        wrong = ["much", "-1", -1, "1e3", True, [], "1" * (schema["maxLength"] + 1)]
    elif "enum" in schema:
        wrong = ["Unheard-of", 1, ""]
    elif schema["type"] == "integer":
        wrong = [schema["minimum"] - 1, schema["maximum"] + 1, "1", 1.5, True]
    elif schema["type"] == "boolean":
        wrong = ["true", 1]
    elif schema["type"] == "array":
        wrong = ["one", {}, 1]
    elif schema["type"] == "object":
        wrong = ["one", [], 1]
    else:
        wrong = [1, True, [], "x" * (schema["maxLength"] + 1)]
        if schema.get("minLength"):
            wrong.append("")
        if any(_MATCHES.search(rule["rule"]) for rule in _rules(schema)):
            wrong += ["no such thing!", "a\n"]
    found = [(path, value) for value in wrong]
    if "properties" in (values := schema.get("additionalProperties", {})):
        found += [(f"{path}.*.{below}", value) for below, value in forbidden(values, "") if below]
    if schema.get("type") == "array" and "properties" in schema["items"]:
        found += [(f"{path}[].{below}", value) for below, value in forbidden(schema["items"], "") if below]
    return found
