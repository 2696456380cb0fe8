"""The CRDs: what is committed is what the models say, and everything has a description and a bound."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from msgspec import Struct
from tenantry_operator.api import crd
from tenantry_operator.api.rules import about
from tenantry_operator.api.schema import SchemaError, schema_of

ROOT = Path(__file__).resolve().parents[4]
Schema = dict[str, object]


def nodes(schema: object, place: str) -> Iterator[tuple[str, Schema]]:
    """Every schema inside this one, with its path."""
    assert isinstance(schema, dict)
    yield place, schema
    properties = schema.get("properties", {})
    assert isinstance(properties, dict)
    for name, inner in properties.items():
        yield from nodes(inner, f"{place}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield from nodes(schema[key], place + suffix)


def all_nodes() -> list[tuple[str, Schema]]:
    found: list[tuple[str, Schema]] = []
    for definition in (yaml.safe_load(text) for text in crd.files().values()):
        version = definition["spec"]["versions"][0]
        for part in ("spec", "status"):
            schema = version["schema"]["openAPIV3Schema"]["properties"].get(part)
            if schema:
                found += nodes(schema, f"{definition['spec']['names']['kind']}.{part}")
    return found


@pytest.mark.parametrize("directory", crd.DIRECTORIES)
def test_committed_definitions_match_the_models(directory: str) -> None:
    committed = {path.name: path.read_text() for path in (ROOT / directory).glob("*.yaml")}
    assert committed == crd.files(), "run `python -m tenantry_operator.api.crd`"


def test_check_fails_on_a_difference_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--root", str(tmp_path)]) == 0
    assert crd.main(["--root", str(tmp_path), "--check"]) == 0
    edited = tmp_path / "crds" / "tenants.yaml"
    edited.write_text("edited")
    assert crd.main(["--root", str(tmp_path), "--check"]) == 1
    assert edited.read_text() == "edited"
    assert "crds/tenants.yaml" in capsys.readouterr().err


def test_every_field_has_a_description() -> None:
    inside = [(place, node) for place, node in all_nodes() if not place.endswith(("[]", ".*"))]
    assert len(inside) > 80
    assert [place for place, node in inside if not node.get("description")] == []


def test_every_list_map_string_and_number_is_bounded() -> None:
    unbounded = []
    for place, node in all_nodes():
        match node.get("type"):
            case "array":
                bounded = "maxItems" in node
            case "string":
                bounded = "maxLength" in node or "enum" in node
            case "integer":
                bounded = {"minimum", "maximum"} <= node.keys()
            case "object":
                bounded = "properties" in node or "maxProperties" in node
            case "boolean":
                bounded = True
            case _:
                bounded = "x-kubernetes-int-or-string" in node and "maxLength" in node
        if not bounded:
            unbounded.append(place)
    assert unbounded == []


def test_every_rule_has_a_message() -> None:
    rules = [rule for _, node in all_nodes() for rule in list_of(node.get("x-kubernetes-validations"))]
    assert len(rules) > 20
    assert [rule for rule in rules if not rule["message"]] == []


def list_of(value: object) -> list[Schema]:
    return value if isinstance(value, list) else []


def test_lists_that_are_maps_have_keys_that_are_required_or_have_a_default() -> None:
    keyed = [(place, node) for place, node in all_nodes() if node.get("x-kubernetes-list-type") == "map"]
    assert {place for place, _ in keyed} >= {"Tenant.spec.keys", "Tenant.spec.upstreams", "Tenant.spec.owners"}
    for place, node in keyed:
        items, keys = node["items"], node["x-kubernetes-list-map-keys"]
        assert isinstance(items, dict)
        assert isinstance(keys, list)
        for key in keys:
            assert key in items["required"] or "default" in items["properties"][key], place


def test_a_field_without_a_bound_is_refused_by_name() -> None:
    class Loose(Struct):
        words: Annotated[str, about("Some.")]

    with pytest.raises(SchemaError, match=r"Loose\.words needs a max_length"):
        schema_of(Loose)


def test_a_field_without_a_description_is_refused_by_name() -> None:
    class Silent(Struct):
        yes: bool

    with pytest.raises(SchemaError, match=r"Silent\.yes has no description"):
        schema_of(Silent)
