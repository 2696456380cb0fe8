"""Figures of each Tenant, made from the operator's picture of the cluster whenever somebody scrapes.

One series of each for every Tenant: the label is closed, and these are what dashboards and alerts about one customer
need. The money is ``status.usage``, so it is as fresh as that. In the leader only: nobody else has a picture.
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tenantry_operator.api.conditions import ConditionStatus
from tenantry_operator.api.decode import FieldError
from tenantry_operator.live import Live
from tenantry_operator.page.view import budget_of, most_replicas, ready_condition


class TenantMetrics(Collector):
    """Register it with the operator's registry when leading."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def describe(self) -> list[Metric]:
        """Nothing to say beforehand; without this the registry would collect to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family (called by the registry)."""
        tenant = ("tenant",)
        ready = GaugeMetricFamily("tenantry_tenant_ready", "1 while the Tenant is Ready.", labels=("tenant", "tier"))
        counts = GaugeMetricFamily(
            "tenantry_tenants", "Tenants, by why they are Ready or not.", labels=("tier", "reason")
        )
        replicas = GaugeMetricFamily("tenantry_tenant_replicas", "Pods that the Tenant has.", labels=tenant)
        most = GaugeMetricFamily("tenantry_tenant_replicas_max", "Pods that the Tenant may have.", labels=tenant)
        spent = GaugeMetricFamily(
            "tenantry_budget_spent_usd", "Spent in the budget's current window, in US dollars.", labels=tenant
        )
        limit = GaugeMetricFamily(
            "tenantry_budget_limit_usd", "The budget of one window, in US dollars.", labels=("tenant", "window")
        )
        reasons: Counter[tuple[str, str]] = Counter()
        for name, record in self._live.tenants.items():
            tier = "" if isinstance(record.tenant, FieldError) else record.tenant.spec.tier
            condition = ready_condition(record)
            reasons[tier, condition.reason if condition else ""] += 1
            good = condition is not None and condition.status is ConditionStatus.TRUE
            ready.add_metric([name, tier], int(good))
            replicas.add_metric([name], record.status.replicas)
            ceiling = most_replicas(record, self._live)
            if ceiling is not None:
                most.add_metric([name], ceiling)
            if record.status.usage is not None:
                spent.add_metric([name], float(record.status.usage.spend))
            budget = budget_of(record, self._live)
            if budget is not None:
                limit.add_metric([name, budget[1]], float(budget[0]))
        for labels, count in reasons.items():
            counts.add_metric(labels, count)
        yield from (ready, counts, replicas, most, spent, limit)
