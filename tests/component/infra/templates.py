"""Reading CloudFormation templates: YAML with AWS's short forms."""

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[3]
INFRA = ROOT / "infra"
CLUSTER = INFRA / "eks" / "cluster.yaml"
SERVICES = sorted(INFRA.glob("*/service.yaml"))
TEMPLATES = [CLUSTER, *SERVICES]


class _Loader(yaml.SafeLoader):
    pass


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> object:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _short_form)


def resources(template: Path) -> "dict[str, Mapping[str, object]]":
    """Name -> resource."""
    read = yaml.load(template.read_text(), _Loader)  # a SafeLoader
    found: dict[str, Mapping[str, object]] = read["Resources"]
    return found


def at(value: object, path: str) -> object:
    """What is at a dotted path; numbers are indexes."""
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
    return value
