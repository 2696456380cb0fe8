"""How a model says what the API server has to refuse, and in which words.

Every refusal that a user can run into names the field and the remedy. A plain OpenAPI ``pattern`` cannot: its message
is the regular expression. So a pattern is published as a CEL rule with a message of its own
(https://kubernetes.io/docs/reference/using-api/cel/), while msgspec checks the same pattern on decode.
"""

from typing import Annotated, NamedTuple

from msgspec import Meta

from tenantry_operator.api.units import DURATION_PATTERN, DURATION_REMEDY, QUANTITY_PATTERN, QUANTITY_REMEDY

#: Names as RFC 1123 has them: one label, and labels joined by dots.
DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_LABEL_REMEDY = 'must be lower-case letters, digits and "-", and begin and end with a letter or digit'
DNS_NAME = rf"{DNS_LABEL}(\.{DNS_LABEL})*"


class Rule(NamedTuple):
    """One entry of ``x-kubernetes-validations``: a CEL expression that must hold, and what to say when it does not."""

    expression: str
    message: str
    field_path: str | None = None


def reserved(description: str) -> str:
    """The description of a field that is stored and validated, and that nothing acts upon yet."""
    return f"Reserved, not in force yet: {description}"


def within(field: str, least: str, most: str) -> Rule:
    """A quantity between two others, both included. What is no quantity at all is another rule's business."""
    amount = f"string(self.{field})"
    return Rule(
        f"!has(self.{field}) || !isQuantity({amount}) || (quantity({amount}).compareTo(quantity('{least}')) >= 0"
        f" && quantity({amount}).compareTo(quantity('{most}')) <= 0)",
        f"must be from {least} to {most}",
        f".{field}",
    )


def at_most(lower: str, upper: str, field: str) -> Rule:
    """A quantity of one object that must not exceed the one of the same name in another, where both are given."""
    given = " && ".join(f"has(self.{part}) && has(self.{part}.{field})" for part in (lower, upper))
    low, high = (f"string(self.{part}.{field})" for part in (lower, upper))
    return Rule(
        f"!({given}) || !isQuantity({low}) || !isQuantity({high}) || quantity({low}).compareTo(quantity({high})) <= 0",
        f"must not be greater than {upper}.{field}: lower the one or raise the other",
        f".{lower}.{field}",
    )


def text(
    description: str, *, max_length: int, min_length: int = 0, pattern: str | None = None, remedy: str | None = None
) -> Meta:
    """A string field. ``pattern`` (RE2) must match the whole value; ``remedy`` says what a right one looks like."""
    if (pattern is None) != (remedy is None):
        raise ValueError("a pattern and its remedy come together")
    extra: dict[str, object] = {"remedy": remedy} if remedy is not None else {}
    anchored = f"^(?:{pattern})$" if pattern is not None else None
    return Meta(description=description, min_length=min_length, max_length=max_length, pattern=anchored, extra=extra)


def sequence(
    description: str, *, max_length: int, min_length: int = 0, keys: tuple[str, ...] = (), unique: bool = False
) -> Meta:
    """A list field. ``keys`` makes it a map by these fields of its items (duplicates are refused); ``unique`` a set."""
    extra: dict[str, object] = {}
    if keys:
        extra = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    elif unique:
        extra = {"x-kubernetes-list-type": "set"}
    return Meta(description=description, min_length=min_length, max_length=max_length, extra_json_schema=extra or None)


def mapping(description: str, *, max_length: int) -> Meta:
    """A map field of at most ``max_length`` entries."""
    return Meta(description=description, max_length=max_length)


def number(description: str, *, ge: int, le: int) -> Meta:
    """An integer field with both bounds (inclusive)."""
    return Meta(description=description, ge=ge, le=le)


def about(description: str) -> Meta:
    """Any other field."""
    return Meta(description=description)


def duration(description: str) -> Meta:
    """A string field that holds a duration (``units.parse_duration``)."""
    return text(description, min_length=2, max_length=20, pattern=DURATION_PATTERN, remedy=DURATION_REMEDY)


#: As in a pod's resources: a string, or an integer for whole CPUs or bytes.
Quantity = Annotated[str, text("", min_length=1, max_length=24, pattern=QUANTITY_PATTERN, remedy=QUANTITY_REMEDY)] | int
