"""Grafana dashboards as short tables of panels; the JSON is made from them.

Model: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

#: Grafana's grid has 24 columns; three panels in a row.
WIDTH, HEIGHT = 8, 8

REQUESTS = 'tenantry_requests_total{namespace=~"$namespace"}'
PART = 'namespace=~"$namespace"'
RECONCILES = "tenantry_reconcile_duration_seconds_bucket"
TOKENS = "gen_ai_client_token_usage_tokens_total"


class Query(NamedTuple):
    """PromQL and what its lines are called."""

    expression: str
    legend: str = ""


class Panel(NamedTuple):
    """One graph, or with ``kind`` "stat" one number."""

    title: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"


class Dashboard(NamedTuple):
    """A dashboard. ``by_tenant``: with a choice of tenants' namespaces."""

    uid: str
    title: str
    panels: Sequence[Panel]
    by_tenant: bool = False


def _rate(metric: str, selector: str = "") -> str:
    return f"rate({metric}{{{selector}}}[$__rate_interval])" if selector else f"rate({metric}[$__rate_interval])"


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{{PART}}}[$__rate_interval])))"


DASHBOARDS = (
    Dashboard(
        "tenantry-platform",
        "Tenantry: platform",
        (
            Panel("Tenants", "short", [Query("count(tenantry_tenant_ready)")], "stat"),
            Panel("Not ready", "short", [Query("count(tenantry_tenant_ready == 0) or vector(0)")], "stat"),
            Panel("Operator leads", "short", [Query("max(tenantry_leading)")], "stat"),
            Panel("Tenants by reason", "short", [Query("sum by (reason) (tenantry_tenants)", "{{reason}}")]),
            Panel(
                "Requests per second",
                "reqps",
                [Query("sum by (error_type) (rate(tenantry_requests_total[$__rate_interval]))", "{{error_type}}")],
            ),
            Panel(
                "Tokens per second",
                "short",
                [
                    Query(
                        f"sum by (gen_ai_token_type) ({_rate(TOKENS)})",
                        "{{gen_ai_token_type}}",
                    )
                ],
            ),
            Panel(
                "Busiest tenants, requests per second",
                "reqps",
                [
                    Query(
                        f"topk(10, sum by (namespace) ({_rate('tenantry_requests_total')}))",
                        "{{namespace}}",
                    )
                ],
            ),
            Panel(
                "Closest to their budget",
                "percentunit",
                [
                    Query(
                        "topk(10, tenantry_budget_spent_usd"
                        " / on (tenant) group_left (window) tenantry_budget_limit_usd)",
                        "{{tenant}}",
                    )
                ],
            ),
            Panel("Spent in the present windows", "currencyUSD", [Query("sum(tenantry_budget_spent_usd)")], "stat"),
            Panel("In flight", "short", [Query("sum(tenantry_in_flight_requests)")]),
            Panel(
                "Pods",
                "short",
                [
                    Query("sum(tenantry_tenant_replicas)", "there are"),
                    Query("sum(tenantry_tenant_replicas_max)", "at most"),
                ],
            ),
            Panel("Usage events not written yet", "short", [Query("sum(tenantry_ledger_queued_events)")]),
        ),
    ),
    Dashboard(
        "tenantry-tenant",
        "Tenantry: one tenant",
        (
            Panel(
                "Requests per second",
                "reqps",
                [Query(f"sum by (error_type) (rate({REQUESTS}[$__rate_interval]))", "{{error_type}}")],
            ),
            Panel(
                "Time to the first token",
                "s",
                [
                    Query(_quantile(share, "gen_ai_server_time_to_first_token_seconds"), f"p{share * 100:.0f}")
                    for share in (0.5, 0.95)
                ],
            ),
            Panel(
                "Time of a request",
                "s",
                [
                    Query(_quantile(share, "gen_ai_server_request_duration_seconds"), f"p{share * 100:.0f}")
                    for share in (0.5, 0.95)
                ],
            ),
            Panel("The service's own share", "s", [Query(_quantile(0.99, "tenantry_overhead_seconds"), "p99")]),
            Panel("In flight", "short", [Query(f"sum by (pod) (tenantry_in_flight_requests{{{PART}}})", "{{pod}}")]),
            Panel(
                "Connections to upstreams",
                "short",
                [
                    Query(
                        f"sum by (upstream, state) (tenantry_upstream_connections{{{PART}}})", "{{upstream}} {{state}}"
                    )
                ],
            ),
            Panel(
                "Tokens per second, by model",
                "short",
                [
                    Query(
                        f"sum by (gen_ai_request_model, gen_ai_token_type) ({_rate(TOKENS, PART)})",
                        "{{gen_ai_request_model}} {{gen_ai_token_type}}",
                    )
                ],
            ),
            Panel(
                "Cost an hour, by model",
                "currencyUSD",
                [
                    Query(
                        f"sum by (gen_ai_request_model) ({_rate('tenantry_cost_nano_usd_total', PART)}) * 3600 / 1e9",
                        "{{gen_ai_request_model}}",
                    )
                ],
            ),
            Panel(
                "Generation of the policy that is served",
                "short",
                [Query(f"max by (pod, revision) (tenantry_policy_info{{{PART}}})", "{{pod}} {{revision}}")],
            ),
        ),
        by_tenant=True,
    ),
    Dashboard(
        "tenantry-operator",
        "Tenantry: operator",
        (
            Panel(
                "Reconciles per second",
                "ops",
                [
                    Query(
                        "sum by (result) (rate(tenantry_reconcile_duration_seconds_count[$__rate_interval]))",
                        "{{result}}",
                    )
                ],
            ),
            Panel(
                "Time of a reconcile",
                "s",
                [
                    Query(
                        f"histogram_quantile(0.95, sum by (le) ({_rate(RECONCILES)}))",
                        "p95",
                    )
                ],
            ),
            Panel("Queue", "short", [Query("sum by (lane) (tenantry_queue_depth)", "{{lane}}")]),
            Panel("Oldest in the queue", "s", [Query("max(tenantry_queue_oldest_seconds)")]),
            Panel("Watches", "s", [Query("max by (kind) (tenantry_watch_age_seconds)", "{{kind}}")]),
            Panel(
                "Requests to the API server",
                "reqps",
                [
                    Query(
                        "sum by (verb, code) (rate(tenantry_kube_requests_total[$__rate_interval]))",
                        "{{verb}} {{code}}",
                    )
                ],
            ),
            Panel(
                "Time to Ready",
                "s",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le) (rate(tenantry_time_to_ready_seconds_bucket[1h])))", "p95"
                    )
                ],
            ),
            Panel(
                "Put back",
                "ops",
                [Query("sum by (kind) (rate(tenantry_drift_corrected_total[$__rate_interval]))", "{{kind}}")],
            ),
            Panel("Nodes that leave", "short", [Query("max(tenantry_nodes_leaving)")]),
            Panel(
                "Hand-overs per second, by how they ended",
                "ops",
                [Query("sum by (ended) (rate(tenantry_handovers_total[$__rate_interval]))", "{{ended}}")],
            ),
            Panel("Memory", "bytes", [Query('process_resident_memory_bytes{pod=~"tenantry-operator.*"}', "{{pod}}")]),
        ),
    ),
)


def all_of_them() -> dict[str, str]:
    """The dashboards' JSON, by their uid."""
    return {each.uid: json.dumps(_dashboard(each), indent=1) + "\n" for each in DASHBOARDS}


def queries() -> list[str]:
    """Every query of every dashboard, with a number in the place of Grafana's own variable."""
    return [
        query.expression.replace("$__rate_interval", "5m")
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    ]


def _dashboard(made: Dashboard) -> dict[str, object]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    variables: list[dict[str, object]] = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    if made.by_tenant:
        variables.append(
            {
                "name": "namespace",
                "label": "Tenant",
                "type": "query",
                "datasource": source,
                "query": {"query": "label_values(tenantry_policy_info, namespace)", "refId": "namespace"},
                "refresh": 2,
                "sort": 1,
            }
        )
    return {
        "uid": made.uid,
        "title": made.title,
        "tags": ["tenantry"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(at, panel, source) for at, panel in enumerate(made.panels)],
    }


def _panel(at: int, panel: Panel, source: dict[str, str]) -> dict[str, object]:
    return {
        "id": at + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": source,
        "gridPos": {"x": at % 3 * WIDTH, "y": at // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "expr": query.expression,
                "legendFormat": query.legend,
                "datasource": source,
            }
            for number, query in enumerate(panel.queries)
        ],
    }
