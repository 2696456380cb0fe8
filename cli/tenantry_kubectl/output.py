"""JSON and YAML of objects, as the API server has them."""

import sys
from enum import StrEnum

import msgspec
import yaml


class Form(StrEnum):
    """``-o``; TEXT is what is printed without it."""

    TEXT = ""
    WIDE = "wide"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"


def emit(value: object, form: Form) -> None:
    """Print a value as JSON or YAML; keys stay in the API server's order."""
    plain = msgspec.to_builtins(value)
    if form is Form.YAML:
        sys.stdout.write(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(plain), indent=4).decode() + "\n")
