"""``suspend``, ``resume`` and ``rollback``."""

import argparse

from tenantry_operator.api.tenant import Outcome, Tenant, TenantStatus

from tenantry_kubectl.session import Problem, Session, decoded, other_manager
from tenantry_kubectl.show import tier_revisions


def suspend(session: Session, options: argparse.Namespace) -> int:
    """Hold the traffic, the operator, or both. One of them has to be named: they are two different things."""
    if not (options.traffic or options.reconcile):
        raise Problem(
            "say what to suspend: --traffic (no pods run, everything else is kept),"
            " --reconcile (the operator changes nothing), or both"
        )
    wanted: dict[str, object] = {}
    if options.traffic:
        wanted["traffic"] = True
    if options.reconcile:
        wanted["reconcile"] = True
    return _set(session, options.name, "suspend", wanted, f"suspended ({', '.join(wanted)})")


def resume(session: Session, options: argparse.Namespace) -> int:
    """End what `suspend` began; a default of the tier counts again."""
    tenant = session.tenant(options.name)
    held = tenant.spec.suspend
    if held is None or not (held.traffic or held.reconcile):
        print(f"tenant/{options.name} is not suspended by itself; a tier may do so: see `kubectl tenant describe`")
        return 0
    return _set(session, options.name, "suspend", None, "resumed")


def rollback(session: Session, options: argparse.Namespace) -> int:
    """Keep a Tenant on a former revision of its tier, or let it follow the tier again."""
    tenant = session.tenant(options.name)
    if options.follow:
        return _set(session, options.name, "tierRevision", None, f"follows tier {tenant.spec.tier} again")
    wanted = options.to or former(tenant)
    known = tier_revisions(session, tenant.spec.tier)
    if known is not None and wanted not in {name for name, _ in known}:
        there = ", ".join(name for name, _ in known) or "none"
        raise Problem(f"tier {tenant.spec.tier} has no revision {wanted!r}; there are: {there}")
    done = f"goes to {wanted} and stays there until `kubectl tenant rollback {options.name} --follow`"
    return _set(session, options.name, "tierRevision", wanted, done)


def former(tenant: Tenant) -> str:
    """The revision before the present one that this Tenant was Ready on. Raises Problem when there was none."""
    status = tenant.status or TenantStatus()
    present = status.applied.tier_revision if status.applied else ""
    for each in status.history:
        if each.tier_revision and each.tier_revision != present and each.outcome is Outcome.READY:
            return each.tier_revision
    raise Problem(
        f"Tenant {tenant.metadata.name!r} remembers no other revision of tier {tenant.spec.tier} that it was Ready on;"
        f" `kubectl tenant history {tenant.metadata.name}` lists what --to may name"
    )


def _set(session: Session, name: str, field: str, value: object, done: str) -> int:
    raw = session.raw(name)
    session.change(decoded(raw), {field: value})
    print(f"tenant/{name} {done}")
    warn(raw, field)
    return 0


def warn(raw: dict[str, object], field: str) -> None:
    """Say so when a tool applies this field: its next run takes back what was changed here."""
    manager = other_manager(raw, field)
    if manager is not None:
        print(f"note: spec.{field} is applied by {manager!r}; change it there too, or its next run takes this back")
