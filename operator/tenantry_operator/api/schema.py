"""From the models to structural OpenAPI v3 schemas, as a CustomResourceDefinition wants them.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
Everything that a field says of itself (bounds, description, rules) is in its annotation; only form is added here.
"""

import enum
import json
from collections.abc import Sequence

import msgspec.inspect as inspect
from msgspec import Struct

from tenantry_operator.api.rules import Rule

Schema = dict[str, object]


class SchemaError(TypeError):
    """A model that has no structural schema, or a field without description or bound."""


def schema_of(model: type[Struct]) -> Schema:
    """The schema of one model. Raises :class:`SchemaError` naming the field that lacks something."""
    kind = inspect.type_info(model)
    assert isinstance(kind, inspect.StructType)
    return _struct(kind, model.__name__)


def rules_of(rules: Sequence[Rule]) -> list[Schema]:
    """Rules in the form of ``x-kubernetes-validations``."""
    published: list[Schema] = []
    for rule in rules:
        published.append({"rule": rule.expression, "message": rule.message})
        if rule.field_path is not None:
            published[-1]["fieldPath"] = rule.field_path
    return published


def _struct(kind: inspect.StructType, place: str) -> Schema:
    properties: dict[str, object] = {}
    for field in kind.fields:
        schema = _schema(field.type, f"{place}.{field.encode_name}")
        if not schema.get("description"):
            raise SchemaError(f"{place}.{field.encode_name} has no description")
        properties[field.encode_name] = schema
    schema = {"type": "object", "properties": properties}
    required = [field.encode_name for field in kind.fields if field.required]
    if required:
        schema["required"] = required
    rules: Sequence[Rule] = getattr(kind.cls, "rules", ())
    if rules:
        schema["x-kubernetes-validations"] = rules_of(rules)
    return schema


def _schema(kind: inspect.Type, place: str) -> Schema:
    """The schema of a field's type."""
    match kind:
        case inspect.Metadata():
            schema = (kind.extra_json_schema or {}) | _schema(kind.type, place)
            if isinstance(kind.type, inspect.VarTupleType):
                schema = _keyed(schema, kind.type.item_type)
            remedy = (kind.extra or {}).get("remedy")
            return _worded(schema, str(remedy)) if remedy else schema
        case inspect.UnionType():
            return _union(kind, place)
        case inspect.StructType():
            return _struct(kind, place)
        case inspect.EnumType():
            assert issubclass(kind.cls, enum.Enum)
            return {"type": "string", "enum": [member.value for member in kind.cls]}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time", "maxLength": 64}
        case inspect.IntType():
            if kind.ge is None or kind.le is None:
                raise SchemaError(f"{place} needs both bounds")
            return {"type": "integer", "format": "int64", "minimum": kind.ge, "maximum": kind.le}
        case inspect.StrType():
            return _text(kind, place)
        case inspect.VarTupleType():
            return _list(kind, place)
        case inspect.DictType():
            if kind.max_length is None:
                raise SchemaError(f"{place} needs a max_length")
            values = _schema(kind.value_type, f"{place}.*")
            return {"type": "object", "maxProperties": kind.max_length, "additionalProperties": values}
        case _:
            raise SchemaError(f"{place}: no structural schema for {kind}")


def _text(kind: inspect.StrType, place: str) -> Schema:
    if kind.max_length is None:
        raise SchemaError(f"{place} needs a max_length")
    schema: Schema = {"type": "string", "maxLength": kind.max_length}
    if kind.min_length:
        schema["minLength"] = kind.min_length
    if kind.pattern is not None:
        schema["pattern"] = kind.pattern
    return schema


def _worded(schema: Schema, remedy: str) -> Schema:
    """The pattern as a rule that says what to do, in place of one that shows a regular expression."""
    pattern = schema.pop("pattern")
    rule = Rule(f"self.matches({json.dumps(pattern)})", remedy)
    return schema | {"x-kubernetes-validations": rules_of([rule])}


def _list(kind: inspect.VarTupleType, place: str) -> Schema:
    if kind.max_length is None:
        raise SchemaError(f"{place} needs a max_length")
    schema: Schema = {"type": "array", "maxItems": kind.max_length, "items": _schema(kind.item_type, f"{place}[]")}
    if kind.min_length:
        schema["minItems"] = kind.min_length
    return schema


def _keyed(schema: Schema, items: inspect.Type) -> Schema:
    """A list that is a map by some fields of its items: those that may be left out need a default in the schema."""
    keys, shape = schema.get("x-kubernetes-list-map-keys"), schema.get("items")
    if not isinstance(keys, list) or not isinstance(shape, dict) or not isinstance(items, inspect.StructType):
        return schema
    defaults = {field.encode_name: field.default for field in items.fields if not field.required}
    properties = {
        name: value | ({"default": defaults[name]} if name in keys and name in defaults else {})
        for name, value in shape["properties"].items()
    }
    return schema | {"items": shape | {"properties": properties}}


def _union(kind: inspect.UnionType, place: str) -> Schema:
    """``X | None`` is an optional X, and ``str | int`` a quantity: structural schemas know no other union."""
    kinds = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
    if len(kinds) == 1:
        return _schema(kinds[0], place)
    texts = [each for each in kinds if not isinstance(each, inspect.IntType)]
    if len(kinds) != 2 or len(texts) != 1:
        raise SchemaError(f"{place}: no structural schema for {kind}")
    text = _schema(texts[0], place)
    rules = text["x-kubernetes-validations"]
    assert isinstance(rules, list)
    for rule in rules:
        rule["rule"] = f"type(self) == int ? self >= 0 : {rule['rule'].replace('self.', 'string(self).')}"
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": text["maxLength"],
        "x-kubernetes-validations": rules,
    }
