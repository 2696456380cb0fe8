"""``list``, ``describe`` and ``history``."""

import argparse
from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec import Struct
from tenantry_operator.api.conditions import ConditionStatus, ConditionType
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Tenant, TenantStatus
from tenantry_operator.api.units import format_usd, parse_usd
from tenantry_operator.kube import errors

from tenantry_kubectl.api import TABLE
from tenantry_kubectl.output import Form, emit
from tenantry_kubectl.seen import ControllerRevisions, Event, Events, Pods, Quota, Table
from tenantry_kubectl.session import TENANTS, Problem, Session, decoded, in_namespace
from tenantry_kubectl.tables import age, count, fields, human, section, share, table

#: Events that `describe` shows.
EVENTS = 10


class _List(Struct, frozen=True):
    """A list of Tenants as the API server has it."""

    apiVersion: str  # noqa: N815  (printed as it came)
    kind: str
    metadata: dict[str, object]
    items: list[dict[str, object]]


def list_tenants(session: Session, options: argparse.Namespace) -> int:
    """Print the API server's own columns: the ones that `kubectl get tenants` has, filtered and sorted here."""
    query = {"labelSelector": options.selector} if options.selector else {}
    if options.output in (Form.JSON, Form.YAML):
        emit(session.api.get(TENANTS, _List, **query), options.output)
        return 0
    shown = session.api.get(TENANTS, Table, accept=TABLE, includeObject="None", **query)
    names = [column.name for column in shown.column_definitions]
    rows = [["" if cell is None else str(cell) for cell in row.cells] for row in shown.rows or []]
    if options.tier:
        rows = [row for row in rows if row[names.index("Tier")] == options.tier]
    if options.unready:
        rows = [row for row in rows if row[names.index("Ready")] != ConditionStatus.TRUE]
    if options.sort_by:
        rows = sorted_by(rows, names, options.sort_by)
    if options.output is Form.NAME:
        print("\n".join(f"tenant.tenantry.dev/{row[0]}" for row in rows))
        return 0
    if not rows:
        print("No Tenants found." if shown.rows is None or not shown.rows else "No Tenant is like that.")
        return 0
    wide = options.output is Form.WIDE
    kept = [at for at, column in enumerate(shown.column_definitions) if wide or not column.priority]
    print(table([names[at].upper() for at in kept], ([row[at] for at in kept] for row in rows)))
    return 0


def sorted_by(rows: list[list[str]], names: list[str], wanted: str) -> list[list[str]]:
    """Rows by one of their columns: amounts from the greatest down, text from a to z.

    Raises Problem for a column that there is not.
    """
    at = next((at for at, name in enumerate(names) if name.lower() == wanted.lower()), None)
    if at is None:
        raise Problem(f"--sort-by: no column {wanted!r}; there are: {', '.join(name.lower() for name in names)}")
    if wanted.lower() == "spend":
        return sorted(rows, key=lambda row: (-parse_usd(row[at] or "0"), row[0]))
    return sorted(rows, key=lambda row: (row[at], row[0]))


def describe(session: Session, options: argparse.Namespace) -> int:
    """All that is known of a Tenant, on a page."""
    raw = session.raw(options.name)
    if options.output in (Form.JSON, Form.YAML):
        emit(raw, options.output)
        return 0
    tenant = decoded(raw)
    status = tenant.status or TenantStatus()
    try:
        spec: ResolvedSpec | None = session.resolved(tenant)
        unresolved = ""
    except Problem as problem:
        spec, unresolved = None, str(problem)
    parts = [
        fields(_head(tenant, status, session.now)),
        section("Conditions", _conditions(status, session.now)),
        section("In force" if spec else "In force (unknown)", _limits(spec) if spec else unresolved),
        section("Spend", _spend(status, spec)),
        section("Quota", _quota(session, options.name)),
        section("Pods", _pods(session, options.name)),
        section("Events", events(session, options.name)),
    ]
    print("\n".join(part for part in parts if part))
    return 0


def _head(tenant: Tenant, status: TenantStatus, now: datetime) -> Iterable[tuple[str, str]]:
    meta, spec = tenant.metadata, tenant.spec
    yield "Name", meta.name
    yield "Tier", spec.tier + (f" (kept on {spec.tier_revision})" if spec.tier_revision else "")
    if status.rollout:
        yield "Tier revision", status.rollout.revision
    yield "Namespace", status.namespace or namespace_of(meta.name)
    yield "Endpoint", status.endpoint or "<none yet>"
    yield "Replicas", f"{status.ready_replicas} ready of {status.replicas}"
    yield "Age", age(meta.creation_timestamp, now)
    for owner in spec.owners or ():
        yield "Owner", f"{owner.kind.value} {owner.namespace + '/' if owner.namespace else ''}{owner.name}"
    suspended = [
        what
        for what, held in (
            ("reconcile", spec.suspend is not None and spec.suspend.reconcile),
            ("traffic", spec.suspend is not None and spec.suspend.traffic),
        )
        if held
    ]
    if suspended:
        yield "Suspended", f"{', '.join(suspended)}; `kubectl tenant resume {meta.name}` ends it"
    if meta.deletion_timestamp:
        yield "Deleting", f"since {age(meta.deletion_timestamp, now)}"


def _conditions(status: TenantStatus, now: datetime) -> str:
    rows = [
        (each.type, each.status.value, each.reason, age(each.last_transition_time, now), each.message)
        for each in status.conditions
        if each.type in (ConditionType.READY, ConditionType.RECONCILING) or each.status is not ConditionStatus.FALSE
    ]
    return (
        table(("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), rows)
        if rows
        else "None: the operator has not come to this Tenant"
    )


def _limits(spec: ResolvedSpec) -> str:
    limits, scaling = spec.limits, spec.autoscaling
    rows = [
        ("Requests per minute", count(limits.requests_per_minute)),
        ("Tokens per minute", count(limits.tokens_per_minute)),
        ("Concurrent requests", count(limits.concurrent_requests)),
        ("When counters are gone", limits.when_unavailable.value),
        ("Models", ", ".join(spec.models.allow)),
        ("Upstreams", ", ".join(f"{each.name} ({each.base_url})" for each in spec.upstreams)),
        ("Pods", f"{scaling.min_replicas} to {scaling.max_replicas}, each {_resources(spec)}"),
        ("Nodes", f"{spec.capacity.value}, {'/'.join(each.value for each in spec.architectures)}"),
        ("Keys", ", ".join(key.name for key in spec.keys)),
    ]
    return fields(rows)


def _resources(spec: ResolvedSpec) -> str:
    its = spec.resources
    return f"{its.cpu_request} CPU and {its.memory_request} (at most {its.memory_limit})"


def _spend(status: TenantStatus, spec: ResolvedSpec | None) -> str:
    usage, budget = status.usage, spec.budget if spec else None
    rows: list[tuple[str, str]] = []
    if budget:
        amount = f"${format_usd(budget.amount_nano_usd)} a {budget.window.value.lower()}"
        rows.append(("Budget", f"{amount}, then {budget.on_exceeded.value.lower()}"))
    elif spec:
        rows.append(("Budget", "none"))
    if usage is None:
        return fields([*rows, ("Spent", "<not known>")])
    spent = f"${usage.spend}"
    if budget and budget.amount_nano_usd:
        spent += f" ({share(parse_usd(usage.spend), budget.amount_nano_usd)})"
    since = f" since {usage.window_start:%Y-%m-%d}" if usage.window_start else ""
    return fields(
        [*rows, ("Spent", spent + since), ("Requests", count(usage.requests)), ("Tokens", count(usage.tokens))]
    )


def _quota(session: Session, name: str) -> str:
    try:
        found = session.api.find(in_namespace(name, "resourcequotas", "tenant"), Quota)
    except errors.Forbidden:
        return "<you may not read it>"
    if found is None:
        return "<none>"
    rows = [(what, found.status.used.get(what, "0"), hard) for what, hard in sorted(found.status.hard.items())]
    return table(("RESOURCE", "USED", "HARD"), rows)


def _pods(session: Session, name: str) -> str:
    try:
        found = session.api.get(in_namespace(name, "pods"), Pods).items
    except errors.Forbidden:
        return "<you may not list them>"
    if not found:
        return "<none>"
    rows = [
        (
            pod.metadata.name,
            "True" if pod.ready else "False",
            pod.status.phase,
            str(sum(each.restart_count for each in pod.status.container_statuses)),
            age(pod.metadata.creation_timestamp, session.now),
            pod.spec.node_name or "<none>",
        )
        for pod in found
    ]
    return table(("NAME", "READY", "PHASE", "RESTARTS", "AGE", "NODE"), rows)


def events(session: Session, name: str) -> str:
    """The last Events about a Tenant; those of cluster-scoped objects are in the namespace ``default``."""
    chosen = f"involvedObject.kind=Tenant,involvedObject.name={name}"
    try:
        found = session.api.get("/api/v1/namespaces/default/events", Events, fieldSelector=chosen).items
    except errors.Forbidden:
        return "<you may not list them>"

    def when(event: Event) -> float:
        return event.time.timestamp() if event.time else 0.0

    rows = [
        (each.type, each.reason, age(each.time, session.now), each.message)
        for each in sorted(found, key=when)[-EVENTS:]
    ]
    return table(("TYPE", "REASON", "AGE", "MESSAGE"), rows) if rows else "<none>"


def history(session: Session, options: argparse.Namespace) -> int:
    """What was applied for a Tenant, and which revisions of its tier there are to go back to."""
    tenant = session.tenant(options.name)
    status = tenant.status or TenantStatus()
    if options.output in (Form.JSON, Form.YAML):
        emit([msgspec.to_builtins(each) for each in status.history], options.output)
        return 0
    now_on = status.applied.revision if status.applied else None
    rows = [
        (
            f"{each.revision}{' *' if each.revision == now_on else ''}",
            each.tier_revision or "<unknown>",
            each.outcome.value,
            human(int((session.now - each.time).total_seconds())),
            each.chart,
            each.digest.removeprefix("sha256:")[:12],
        )
        for each in status.history
    ]
    wide = options.output is Form.WIDE
    header = ("REVISION", "TIER-REVISION", "OUTCOME", "AGE", "CHART", "DIGEST")
    kept = len(header) if wide else 4
    print(table(header[:kept], (row[:kept] for row in rows)) if rows else "Nothing was applied yet.")
    there = tier_revisions(session, tenant.spec.tier)
    if there is not None:
        used = {each.tier_revision for each in status.history}
        print(f"\nRevisions of tier {tenant.spec.tier}, newest first:")
        body = [(name, "yes" if name in used else "", age(made, session.now)) for name, made in there]
        print(table(("NAME", "USED HERE", "AGE"), body))
    return 0


def tier_revisions(session: Session, tier: str) -> list[tuple[str, datetime | None]] | None:
    """Names and birthdays of a tier's revisions, newest first; None when this user may not list them."""
    path = f"/apis/apps/v1/namespaces/{session.system}/controllerrevisions"
    try:
        found = session.api.get(path, ControllerRevisions, labelSelector=f"tenantry.dev/tier={tier}").items
    except errors.Forbidden:
        return None
    newest_first = sorted(found, key=lambda each: -each.revision)
    return [(each.metadata.name, each.metadata.creation_timestamp) for each in newest_first]
