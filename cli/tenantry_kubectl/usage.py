"""``usage`` and ``top``: what Tenants used and spent, and what their pods take at the moment."""

import argparse
from collections import defaultdict

from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.resolve import resolve
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.api.units import format_usd, parse_quantity, parse_usd
from tenantry_operator.kube import errors

from tenantry_kubectl.output import Form, emit
from tenantry_kubectl.seen import PodMetricsList, Pods
from tenantry_kubectl.session import Problem, Session
from tenantry_kubectl.tables import count, share, table

PODS = "/api/v1/pods"
POD_METRICS = "/apis/metrics.k8s.io/v1beta1/pods"
OF_TENANTS = "tenantry.dev/tenant"


def usage(session: Session, options: argparse.Namespace) -> int:
    """Requests, tokens and money of the budget's window, and how much of the budget that is."""
    tenants = [session.tenant(options.name)] if options.name else session.tenants(options.selector or "")
    if options.output in (Form.JSON, Form.YAML):
        emit([_figures(each) for each in tenants], options.output)
        return 0
    tiers: dict[str, TenantTier | None] = {}
    rows = [(_spent(each), _row(each, _tier(session, tiers, each.spec.tier))) for each in tenants]
    if not rows:
        print("No Tenants found.")
        return 0
    rows.sort(key=lambda row: (-row[0], row[1][0]))
    print(table(("NAME", "REQUESTS", "TOKENS", "SPEND", "BUDGET", "USED", "SINCE"), (row for _, row in rows)))
    return 0


def _figures(tenant: Tenant) -> dict[str, object]:
    return {"name": tenant.metadata.name, "usage": tenant.status.usage if tenant.status else None}


def _spent(tenant: Tenant) -> int:
    return parse_usd(tenant.status.usage.spend) if tenant.status and tenant.status.usage else 0


def _tier(session: Session, known: dict[str, TenantTier | None], name: str) -> TenantTier | None:
    if name not in known:
        try:
            known[name] = session.tier(name)
        except Problem:
            known[name] = None
    return known[name]


def _row(tenant: Tenant, tier: TenantTier | None) -> tuple[str, ...]:
    found = tenant.status.usage if tenant.status else None
    try:
        budget = resolve(tenant, tier).budget if tier else None
    except FieldError:
        budget = None
    limit = f"{format_usd(budget.amount_nano_usd)}/{budget.window.value.lower()}" if budget else "<none>"
    if found is None:
        return (tenant.metadata.name, "<unknown>", "<unknown>", "<unknown>", limit, "-", "-")
    used = share(parse_usd(found.spend), budget.amount_nano_usd) if budget else "-"
    since = f"{found.window_start:%Y-%m-%d}" if found.window_start else "-"
    return (tenant.metadata.name, count(found.requests), count(found.tokens), found.spend, limit, used, since)


def top(session: Session, options: argparse.Namespace) -> int:
    """CPU and memory of Tenants' pods now, from metrics.k8s.io, beside what is set aside for them."""
    selector = f"{OF_TENANTS}={options.name}" if options.name else OF_TENANTS
    if options.name:
        session.tenant(options.name)
    pods = session.api.get(PODS, Pods, labelSelector=selector).items
    try:
        metrics = session.api.get(POD_METRICS, PodMetricsList, labelSelector=selector).items
    except (errors.NotFound, errors.ServerError) as error:
        raise Problem(
            "the cluster has no metrics API (metrics.k8s.io): install metrics-server;"
            " `kubectl tenant usage` and `kubectl tenant cost` do without it"
        ) from error
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for pod in pods:
        line = totals[pod.metadata.labels.get(OF_TENANTS, "")]
        line[0] += 1
        for container in pod.spec.containers:
            line[2] += parse_quantity(container.resources.requests.get("cpu", 0))
            line[4] += parse_quantity(container.resources.requests.get("memory", 0)) // 1000
    for each in metrics:
        line = totals[each.metadata.labels.get(OF_TENANTS, "")]
        for used in each.containers:
            line[1] += measured(used.usage.get("cpu", "0"), 1000)
            line[3] += measured(used.usage.get("memory", "0"), 1)
    ordered = sorted(totals.items(), key=lambda item: (-item[1][1], item[0]))
    if options.output in (Form.JSON, Form.YAML):
        names = ("pods", "cpuMillicores", "cpuRequestMillicores", "memoryBytes", "memoryRequestBytes")
        emit([{"name": name, **dict(zip(names, line, strict=True))} for name, line in ordered], options.output)
        return 0
    rows = (
        (name, str(line[0]), f"{line[1]}m", share(line[1], line[2]), f"{line[3] >> 20}Mi", share(line[3], line[4]))
        for name, line in ordered
    )
    print(table(("NAME", "PODS", "CPU", "CPU%", "MEMORY", "MEMORY%"), rows))
    return 0


def measured(quantity: str, scale: int) -> int:
    """A measured quantity (nanocores such as ``1834n``, or Ki) in units of 1/scale, rounded up."""
    for suffix, divisor in (("n", 10**9), ("u", 10**6)):
        if quantity.endswith(suffix):
            return -(-int(quantity[:-1]) * scale // divisor)
    return -(-parse_quantity(quantity) * scale // 1000)
