"""The CustomResourceDefinitions of the API group, made from the models.

``python -m tenantry_operator.api.crd`` writes them to ``crds/`` and into the platform chart; with ``--check`` it
writes nothing and fails when a file differs from what the models say.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml
from msgspec import Struct

from tenantry_operator.api.meta import GROUP, NAME_MAX_LENGTH, VERSION
from tenantry_operator.api.rollout import TierStatus
from tenantry_operator.api.rules import DNS_LABEL, DNS_LABEL_REMEDY, Rule
from tenantry_operator.api.schema import Schema, rules_of, schema_of
from tenantry_operator.api.tenant import PENDING, TenantSpec, TenantStatus
from tenantry_operator.api.tier import TierSpec

#: Where the files are kept, from the top of the repository. Helm installs what is in a chart's ``crds/`` before
#: everything else; a link instead of a copy would make it print a warning each time.
DIRECTORIES = ("crds", "charts/tenantry/crds")

Parts = dict[str, tuple[type[Struct], str]]

_READY = '.status.conditions[?(@.type=="Ready")]'


def crds() -> tuple[Schema, ...]:
    """Both definitions, ready to apply."""
    return tenant_crd(), tier_crd()


def tenant_crd() -> Schema:
    """The definition of Tenant."""
    columns = [
        _column("Tier", ".spec.tier", "The tier that gives the defaults."),
        _column("Ready", f"{_READY}.status", "Whether the endpoint answers as declared."),
        _column("Reason", f"{_READY}.reason", "Why it is ready or not."),
        _column("Endpoint", ".status.endpoint", "Base URL for the OpenAI SDK."),
        _column("Spend", ".status.usage.spend", "US dollars spent in the budget's current window."),
        _column("Age", ".metadata.creationTimestamp", "", kind="date"),
        _column("Namespace", ".status.namespace", "Where the tenant lives.", wide=True),
        _column("Revision", ".status.applied.tierRevision", "The revision of the tier that is in force.", wide=True),
        _column("Message", f"{_READY}.message", "The reason in full.", wide=True),
    ]
    description = "One customer: a namespace, limits, a bill and an OpenAI-compatible endpoint of its own."
    parts: Parts = {
        "spec": (TenantSpec, "What the customer gets."),
        "status": (TenantStatus, "What the operator saw and did."),
    }
    crd = _definition(
        "Tenant", "tenants", "ten", description, parts, columns, subresources={"status": {}}, unwritten=PENDING
    )
    # Tenants are parents of apply sets; the label is what kubectl looks for (KEP-3659).
    labels = {"app.kubernetes.io/part-of": "tenantry", "applyset.kubernetes.io/is-parent-type": "true"}
    return crd | {"metadata": {"name": f"tenants.{GROUP}", "labels": labels}}


def tier_crd() -> Schema:
    """The definition of TenantTier."""
    columns = [
        _column("Tenants", ".status.tenants", "Tenants that take part in roll-outs.", kind="integer"),
        _column("Updated", ".status.updated", "Those on the newest revision.", kind="integer"),
        _column("Ready", ".status.ready", "Those that are Ready.", kind="integer"),
        _column("Wave", ".status.wave", "The wave that has begun.", kind="integer"),
        _column("Rollout", f"{_READY}.reason", "Whether the newest revision is everywhere, or why not."),
        _column("Age", ".metadata.creationTimestamp", "", kind="date"),
        _column("Summary", ".spec.summary", "What the tier is for.", wide=True),
        _column("Max", ".spec.autoscaling.maxReplicas", "Most pods of one tenant.", kind="integer", wide=True),
        _column("Capacity", ".spec.placement.capacity", "Kind of nodes.", wide=True),
        _column("Budget", ".spec.budget.amount", "US dollars per window.", wide=True),
        _column("Revision", ".status.updateRevision", "The newest revision.", wide=True),
        _column("Message", f"{_READY}.message", "The reason in full.", wide=True),
    ]
    description = "A named set of defaults for the Tenants that refer to it."
    parts: Parts = {
        "spec": (TierSpec, "The defaults."),
        "status": (TierStatus, "How far they have come. Written by the operator only."),
    }
    return _definition("TenantTier", "tenanttiers", "tier", description, parts, columns, subresources={"status": {}})


def _definition(
    kind: str,
    plural: str,
    short: str,
    description: str,
    parts: Parts,
    columns: list[Schema],
    subresources: Schema | None = None,
    unwritten: Struct | None = None,
) -> Schema:
    """``unwritten`` is the status that an object shows until somebody has written one."""
    properties: Schema = {
        "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
        "kind": {"type": "string", "description": kind},
        "metadata": {"type": "object", "properties": {"name": _name()}},
    }
    for name, (model, meaning) in parts.items():
        default = {"default": msgspec.to_builtins(unwritten)} if name == "status" and unwritten is not None else {}
        properties[name] = schema_of(model) | {"description": meaning} | default
    schema = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": properties,
    }
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    if subresources is not None:
        version["subresources"] = subresources
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "tenantry"}},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["tenantry"],
            },
            "versions": [version],
        },
    }


def _name() -> Schema:
    """The schema of ``metadata.name``; of all metadata, a definition may say something only about this."""
    rules = (
        Rule(
            f"self.size() <= {NAME_MAX_LENGTH}",
            f"must have at most {NAME_MAX_LENGTH} characters, since longer names are made from it",
        ),
        Rule(f"self.matches('^{DNS_LABEL}$')", DNS_LABEL_REMEDY),
    )
    return {"type": "string", "maxLength": 253, "x-kubernetes-validations": rules_of(rules)}


def _column(name: str, path: str, description: str, *, kind: str = "string", wide: bool = False) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if wide:
        column["priority"] = 1
    return column


class _Dumper(yaml.SafeDumper):
    """Block style, and lists indented as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def files() -> dict[str, str]:
    """File name to content."""
    header = "# Made by `python -m tenantry_operator.api.crd` from the models in operator/tenantry_operator/api.\n"
    return {
        f"{crd['spec']['names']['plural']}.yaml": header  # type: ignore[index]
        + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for crd in crds()
    }


def main(arguments: Sequence[str]) -> int:
    """Write or check the files; exit status 1 when a check finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m tenantry_operator.api.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is not up to date")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="top of the repository (default: here)")
    options = parser.parse_args(arguments)
    stale = []
    for directory in DIRECTORIES:
        for name, content in files().items():
            path = options.root / directory / name
            if path.exists() and path.read_text() == content:
                continue
            if options.check:
                stale.append(f"{directory}/{name}")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
                sys.stdout.write(f"wrote {directory}/{name}\n")
    if stale:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run `python -m tenantry_operator.api.crd`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
