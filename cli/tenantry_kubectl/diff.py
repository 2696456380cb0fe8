"""``diff``: what a file would change, or where a Tenant's objects are not what it declares.

Two comparisons that need no rendering of the chart. Of a file: the API server's dry run, and what comes out of it with
the tier's defaults. Of a Tenant: what its tier and spec say now against the policy and the workload that are in force,
which differ while a wave has not come, reconciling is suspended or something is wrong; and the fields that others have
made theirs, by the API server's own books (managedFields).
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import yaml
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.meta import API_VERSION
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.api.units import canonical_quantity
from tenantry_operator.kube import errors
from tenantry_operator.plan import desired, drift, names

from tenantry_kubectl.api import APPLY_PATCH
from tenantry_kubectl.seen import ConfigMap, Deployment, ManagedList, Scaler
from tenantry_kubectl.session import TENANTS, Problem, Session, decoded, in_namespace

#: As `kubectl diff` and `diff` have it.
SAME, DIFFERENT = 0, 1

#: What of the policy is no setting: it differs with every reading, or is a key.
NO_SETTING = ("generation", "revision", "keys")

#: Managers that fill in what is theirs to fill in.
CONTROLLERS = frozenset({names.FIELD_MANAGER, "kube-controller-manager", "kubelet"})

#: Kinds of a tenant's objects: group and version, plural, kind.
KINDS = (
    ("", "configmaps", "ConfigMap"),
    ("", "limitranges", "LimitRange"),
    ("", "resourcequotas", "ResourceQuota"),
    ("", "serviceaccounts", "ServiceAccount"),
    ("", "services", "Service"),
    ("apps/v1", "deployments", "Deployment"),
    ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "roles", "Role"),
    ("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding"),
)


def diff(session: Session, options: argparse.Namespace) -> int:
    """Print what differs; 0 when nothing does, 1 when something does."""
    if options.filename:
        shown = [text for document in _documents(options.filename) for text in _of_file(session, document, options)]
    elif options.name:
        shown = [*_of_tenant(session, options.name)]
    else:
        raise Problem("name a Tenant, or a file with --filename")
    shown = [text for text in shown if text]
    if shown:
        print("\n".join(shown))
    return DIFFERENT if shown else SAME


def _documents(filename: str) -> list[dict[str, object]]:
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        found = [each for each in yaml.safe_load_all(text) if each]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Problem(f"--filename: {filename}: {error}") from error
    for each in found:
        if not isinstance(each, dict) or each.get("apiVersion") != API_VERSION or each.get("kind") != "Tenant":
            raise Problem(f"--filename: {filename}: holds something else than Tenants; `kubectl diff` compares that")
    if not found:
        raise Problem(f"--filename: {filename}: holds no Tenant")
    return found


def _of_file(session: Session, document: dict[str, object], options: argparse.Namespace) -> Iterator[str]:
    meta = document.get("metadata")
    name = str(meta.get("name", "")) if isinstance(meta, dict) else ""
    if not name:
        raise Problem(f"--filename: {options.filename}: a Tenant in it has no metadata.name")
    live = session.api.find(f"{TENANTS}/{name}", dict[str, object])
    query = {"dryRun": "All", "force": "true", "fieldManager": options.field_manager}
    try:
        after = session.api.patch(f"{TENANTS}/{name}", document, dict[str, object], content=APPLY_PATCH, **query)
    except errors.Invalid as error:
        raise Problem(f"the API server refuses Tenant {name!r}: {error.message}") from error
    before = {} if live is None else {"spec": live.get("spec")}
    yield unified(before, {"spec": after.get("spec")}, f"tenant/{name} live", f"tenant/{name} with {options.filename}")
    old = {} if live is None else _plain(session.resolved(decoded(live)))
    yield unified(old, _plain(session.resolved(decoded(after))), "in force with its tier", "in force with the change")


def _of_tenant(session: Session, name: str) -> Iterator[str]:
    tenant = session.tenant(name)
    yield unified(
        in_force(session, tenant), declared(session, tenant), f"tenant/{name} in force", f"tenant/{name} declared"
    )
    yield from foreign(session, name)


def declared(session: Session, tenant: Tenant) -> dict[str, object]:
    """The settings that the Tenant and the newest spec of its tier make. Raises Problem."""
    spec = session.resolved(tenant)
    try:
        document = desired.policy(tenant.metadata.name, 0, spec, ())
    except FieldError as error:
        raise Problem(str(error)) from error
    resources = spec.resources
    return {
        "policy": _settings(msgspec.to_builtins(document)),
        "pods": _pods(spec),
        "resources": {
            "cpu": resources.cpu_request,
            "memory": resources.memory_request,
            "memoryLimit": resources.memory_limit,
            **({"cpuLimit": resources.cpu_limit} if resources.cpu_limit else {}),
        },
    }


def _pods(spec: ResolvedSpec) -> dict[str, object]:
    if spec.suspend_traffic:
        return {"least": 0, "most": 0}
    scaling = spec.autoscaling
    return {"least": max(1, scaling.min_replicas), "most": max(1, scaling.max_replicas)}


def in_force(session: Session, tenant: Tenant) -> dict[str, object]:
    """The same settings as the objects in the namespace have them; what is not there is left out."""
    name = tenant.metadata.name
    found: dict[str, object] = {}
    config = session.api.find(in_namespace(name, "configmaps", "tenantry-policy"), ConfigMap)
    if config is not None:
        found["policy"] = _settings(msgspec.json.decode(config.data.get("policy.json", "{}"), type=dict[str, object]))
    deployment = session.api.find(in_namespace(name, "deployments", names.WORKLOAD, "apps/v1"), Deployment)
    if deployment is None:
        return found
    scaler = session.api.find(in_namespace(name, "horizontalpodautoscalers", names.WORKLOAD, "autoscaling/v2"), Scaler)
    replicas = deployment.spec.replicas
    found["pods"] = (
        {"least": replicas, "most": replicas}
        if scaler is None
        else {"least": scaler.spec.min_replicas, "most": scaler.spec.max_replicas}
    )
    resources = deployment.spec.template.spec.containers[0].resources
    wanted = {
        "cpu": resources.requests.get("cpu"),
        "memory": resources.requests.get("memory"),
        "cpuLimit": resources.limits.get("cpu"),
        "memoryLimit": resources.limits.get("memory"),
    }
    found["resources"] = {what: canonical_quantity(amount) for what, amount in wanted.items() if amount is not None}
    return found


def foreign(session: Session, name: str) -> Iterator[str]:
    """Objects with fields that somebody else has made theirs: one line for each object and manager."""
    for group, plural, kind in KINDS:
        query = {"labelSelector": f"{names.TENANT_LABEL}={name}"}
        try:
            listed = session.api.get(in_namespace(name, plural, group=group), ManagedList, **query).items
        except errors.Forbidden:
            yield f"? {kind}: you may not list them, so they are not compared"
            continue
        for each in listed:
            for entry in each.metadata.managed_fields:
                if entry.manager in CONTROLLERS or entry.subresource:
                    continue
                fields = drift.put_back({}, msgspec.json.decode(entry.fields_v1, type=dict[str, object]))
                yield f"! {kind} {each.metadata.name}: {entry.manager} has set {', '.join(fields)}"


def unified(before: Mapping[str, object], after: Mapping[str, object], left: str, right: str) -> str:
    """A unified diff of two documents as YAML; empty when they are the same."""
    old, new = _lines(before), _lines(after)
    return "\n".join(difflib.unified_diff(old, new, fromfile=left, tofile=right, lineterm=""))


def _lines(side: Mapping[str, object]) -> Sequence[str]:
    return yaml.safe_dump(dict(side), sort_keys=True, allow_unicode=True).splitlines() if side else []


def _settings(policy: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in policy.items() if name not in NO_SETTING}


def _plain(spec: ResolvedSpec) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(spec)
    return plain
