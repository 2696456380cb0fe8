"""For each alert: series on which it fires, with the labels and the sentence that it then shows, and series on which
it stays quiet. Series are in promtool's notation (`start+stepxcount`), one sample a minute.

https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
"""

from collections.abc import Mapping
from typing import NamedTuple

Series = Mapping[str, str]


class Case(NamedTuple):
    """What an alert is tried on. ``minutes``: when it is looked at."""

    firing: Series
    labels: Mapping[str, str]
    summary: str
    quiet: Series
    minutes: int = 30


POD = 'namespace="tenant-acme",pod="api-1"'
ACME = {"namespace": "tenant-acme"}
ACME_POD = {"namespace": "tenant-acme", "pod": "api-1"}


def requests(error_type: str, failed: int) -> Series:
    """A hundred requests a minute, ``failed`` of them with this type."""
    return {
        f'tenantry_requests_total{{{POD},error_type="none"}}': f"0+{100 - failed}x60",
        f'tenantry_requests_total{{{POD},error_type="{error_type}"}}': f"0+{failed}x60",
    }


def buckets(name: str, bounds: Mapping[str, int]) -> Series:
    """A histogram that grows by these cumulative counts a minute."""
    return {f'{name}_bucket{{{POD},le="{bound}"}}': f"0+{count}x60" for bound, count in bounds.items()}


CASES: dict[str, Case] = {
    "TenantryInternalErrors": Case(
        firing=requests("tenantry_internal", 5),
        labels={**ACME, "severity": "critical"},
        summary="tenant-acme: 5% of requests fail by our own fault.",
        quiet=requests("caller_malformed", 50),
    ),
    "TenantryUpstreamErrors": Case(
        firing=requests("provider_timeout", 10),
        labels={**ACME, "severity": "warning"},
        summary="tenant-acme: 10% of requests fail at the upstream.",
        quiet=requests("provider_timeout", 4),
    ),
    "TenantryLimitedOften": Case(
        firing=requests("policy_rate_limited", 50),
        labels={**ACME, "severity": "info"},
        summary="tenant-acme: 50% of requests are over the tenant's limits.",
        quiet=requests("policy_rate_limited", 10),
        minutes=45,
    ),
    "TenantryFirstTokenSlow": Case(
        firing=buckets("gen_ai_server_time_to_first_token_seconds", {"10.0": 50, "30.0": 100, "+Inf": 100}),
        labels={**ACME, "severity": "warning"},
        summary="tenant-acme: 5 % of answers begin after more than 28s.",
        quiet=buckets("gen_ai_server_time_to_first_token_seconds", {"1.0": 99, "30.0": 100, "+Inf": 100}),
    ),
    "TenantryOverheadHigh": Case(
        firing=buckets("tenantry_overhead_seconds", {"0.025": 50, "0.05": 100, "+Inf": 100}),
        labels={**ACME, "severity": "warning"},
        summary="tenant-acme: the service itself takes 49.5ms of 1 % of requests.",
        quiet=buckets("tenantry_overhead_seconds", {"0.0001": 100, "0.05": 100, "+Inf": 100}),
    ),
    "TenantryPolicyRefused": Case(
        firing={f"tenantry_policy_reload_failures_total{{{POD}}}": "0x25 1x10"},
        labels={**ACME_POD, "severity": "critical"},
        summary="tenant-acme/api-1 refuses its new policy and serves the former one.",
        quiet={f"tenantry_policy_reload_failures_total{{{POD}}}": "1x60"},
    ),
    "TenantryLedgerBehind": Case(
        firing={f"tenantry_ledger_queued_events{{{POD}}}": "20000x60"},
        labels={**ACME_POD, "severity": "warning"},
        summary="tenant-acme/api-1 holds 20k usage events that are not written.",
        quiet={f"tenantry_ledger_queued_events{{{POD}}}": "0x24 20000x2 0x20"},
    ),
    "TenantryLedgerWriteFailures": Case(
        firing={f"tenantry_ledger_write_failures_total{{{POD}}}": "0+1x60"},
        labels={**ACME_POD, "severity": "critical"},
        summary="tenant-acme/api-1 cannot write usage events; they are kept and tried again.",
        quiet={f"tenantry_ledger_write_failures_total{{{POD}}}": "3x60"},
    ),
    "TenantryLedgerStoreDown": Case(
        firing={'tenantry_ledger_store_up{pod="a",store="postgres"}': "0x60"},
        labels={"store": "postgres", "severity": "critical"},
        summary="The ledger's writer cannot work with postgres; usage waits in Redis.",
        quiet={
            'tenantry_ledger_store_up{pod="a",store="postgres"}': "0x1 1x60",
            'tenantry_ledger_store_up{pod="a",store="redis"}': "1x60",
        },
    ),
    "TenantryLedgerLag": Case(
        firing={"tenantry_ledger_oldest_event_seconds": "360x60"},
        labels={"severity": "warning"},
        summary="The oldest usage event has been waiting for PostgreSQL for 6m 0s.",
        quiet={"tenantry_ledger_oldest_event_seconds": "10x60"},
    ),
    "TenantryLedgerNobodyWrites": Case(
        firing={'tenantry_ledger_writing{pod="a"}': "0x60", 'tenantry_ledger_writing{pod="b"}': "0x60"},
        labels={"severity": "critical"},
        summary="No ledger writer is at work; usage waits in Redis.",
        quiet={'tenantry_ledger_writing{pod="a"}': "0x60", 'tenantry_ledger_writing{pod="b"}': "1x60"},
    ),
    "TenantryLedgerSetAside": Case(
        firing={'tenantry_ledger_events_total{outcome="set_aside"}': "0x10 6x50"},
        labels={"severity": "critical"},
        summary="6 usage events cannot be read and were set aside; they are not billed.",
        quiet={
            'tenantry_ledger_events_total{outcome="set_aside"}': "6x60",
            'tenantry_ledger_events_total{outcome="new"}': "0+100x60",
        },
        minutes=60,
    ),
    "TenantryLedgerUnequal": Case(
        firing={"tenantry_ledger_unequal_partitions": "1x120"},
        labels={"severity": "warning"},
        summary="1 months of the ledger and their daily sums differ; they are kept.",
        quiet={"tenantry_ledger_unequal_partitions": "0x120"},
        minutes=90,
    ),
    "TenantryLimiterAlone": Case(
        firing={f'tenantry_limiter_mode{{{POD},mode="local_share"}}': "1x60"},
        labels={**ACME, "mode": "local_share", "severity": "critical"},
        summary="tenant-acme: pods cannot reach the shared counters (local_share).",
        quiet={
            f'tenantry_limiter_mode{{{POD},mode="local_share"}}': "0x20 1x1 0x30",
            f'tenantry_limiter_mode{{{POD},mode="shared"}}': "1x60",
        },
    ),
    "TenantryRedisDown": Case(
        firing={"tenantry_redis_up": "0x60"},
        labels={"severity": "critical"},
        summary="Redis does not answer the operator or does not obey it; new tenants get no shared counters.",
        quiet={"tenantry_redis_up": "1x60"},
    ),
    "TenantryStreamsCut": Case(
        firing={'tenantry_handovers_total{ended="ended_early",reason="Spot"}': "0x20 1x30"},
        labels={"reason": "Spot", "severity": "critical"},
        summary="Pods left their nodes (Spot) before all of their streams had ended.",
        quiet={'tenantry_handovers_total{ended="finished",reason="Spot"}': "0+1x60"},
    ),
    "TenantryHandoverStranded": Case(
        firing={"tenantry_handover_stranded": "2x60"},
        labels={"severity": "critical"},
        summary="2 tenants have pods on leaving nodes and no Ready replacement: no room, usually.",
        quiet={"tenantry_handover_stranded": "0x60"},
    ),
    "TenantryReplacementsSlow": Case(
        firing={
            'tenantry_handover_replacement_seconds_bucket{le="55"}': "0+1x90",
            'tenantry_handover_replacement_seconds_bucket{le="90"}': "0+10x90",
            'tenantry_handover_replacement_seconds_bucket{le="+Inf"}': "0+10x90",
        },
        labels={"severity": "warning"},
        summary="One replacement in ten takes more than 1m 26s; an interruption leaves two minutes.",
        quiet={
            'tenantry_handover_replacement_seconds_bucket{le="5"}': "0+10x90",
            'tenantry_handover_replacement_seconds_bucket{le="+Inf"}': "0+10x90",
        },
        minutes=60,
    ),
    "TenantryInterruptionQueueSilent": Case(
        firing={"tenantry_interruption_queue_silence_seconds": "90x60"},
        labels={"severity": "critical"},
        summary="The interruption queue has not answered for 1m 30s; notices come late or never.",
        quiet={"tenantry_interruption_queue_silence_seconds": "20x60"},
    ),
    "TenantryInterruptionMessagesSetAside": Case(
        firing={"tenantry_interruption_messages_set_aside_total": "0x10 2x50"},
        labels={"severity": "warning"},
        summary="2 messages of the interruption queue make no sense to the operator.",
        quiet={"tenantry_interruption_messages_set_aside_total": "2x60"},
        minutes=60,
    ),
    "TenantryManyNodesLeaving": Case(
        firing={"tenantry_nodes_leaving": "7x60"},
        labels={"severity": "info"},
        summary="7 nodes are known to go away.",
        quiet={"tenantry_nodes_leaving": "3x60"},
    ),
    "TenantryBudgetNear": Case(
        firing={
            'tenantry_budget_spent_usd{tenant="acme"}': "85x60",
            'tenantry_budget_limit_usd{tenant="acme",window="Month"}': "100x60",
        },
        labels={"tenant": "acme", "window": "Month", "severity": "info"},
        summary="acme has spent 85% of its Month's budget.",
        quiet={
            'tenantry_budget_spent_usd{tenant="acme"}': "79x60",
            'tenantry_budget_limit_usd{tenant="acme",window="Month"}': "100x60",
            'tenantry_budget_spent_usd{tenant="globex"}': "101x60",
            'tenantry_budget_limit_usd{tenant="globex",window="Month"}': "100x60",
        },
    ),
    "TenantryBudgetSpent": Case(
        firing={
            'tenantry_budget_spent_usd{tenant="acme"}': "100x60",
            'tenantry_budget_limit_usd{tenant="acme",window="Day"}': "100x60",
        },
        labels={"tenant": "acme", "window": "Day", "severity": "warning"},
        summary="acme has spent its Day's budget.",
        quiet={
            'tenantry_budget_spent_usd{tenant="acme"}': "99x60",
            'tenantry_budget_limit_usd{tenant="acme",window="Month"}': "100x60",
        },
    ),
    "TenantryTenantNotReady": Case(
        firing={'tenantry_tenant_ready{tenant="acme",tier="standard"}': "0x60"},
        labels={"tenant": "acme", "tier": "standard", "severity": "critical"},
        summary="acme (standard) has not been Ready for a quarter of an hour.",
        quiet={'tenantry_tenant_ready{tenant="acme",tier="standard"}': "0x20 1x2 0x30"},
    ),
    "TenantryManyTenantsNotReady": Case(
        firing={
            **{f'tenantry_tenant_ready{{tenant="t{at}",tier="standard"}}': "1x60" for at in range(9)},
            'tenantry_tenant_ready{tenant="t9",tier="standard"}': "0x60",
        },
        labels={"severity": "critical"},
        summary="10% of all tenants are not Ready.",
        quiet={
            **{f'tenantry_tenant_ready{{tenant="t{at}",tier="standard"}}': "1x60" for at in range(99)},
            'tenantry_tenant_ready{tenant="t99",tier="standard"}': "0x60",
        },
    ),
    "TenantryAtMaxReplicas": Case(
        firing={
            'tenantry_tenant_replicas{tenant="acme"}': "4x60",
            'tenantry_tenant_replicas_max{tenant="acme"}': "4x60",
        },
        labels={"tenant": "acme", "severity": "warning"},
        summary="acme runs as many pods as it may (4) and may need more.",
        quiet={
            'tenantry_tenant_replicas{tenant="acme"}': "3x60",
            'tenantry_tenant_replicas_max{tenant="acme"}': "4x60",
            'tenantry_tenant_replicas{tenant="single"}': "1x60",
            'tenantry_tenant_replicas_max{tenant="single"}': "1x60",
        },
    ),
    "TenantryColdStartsSlow": Case(
        firing={
            'tenantry_activator_cold_start_seconds_bucket{le="10.0"}': "0+1x90",
            'tenantry_activator_cold_start_seconds_bucket{le="30.0"}': "0+10x90",
            'tenantry_activator_cold_start_seconds_bucket{le="+Inf"}': "0+10x90",
        },
        labels={"severity": "warning"},
        summary="One tenant in twenty that is woken up takes more than 28.89s to answer.",
        quiet={
            'tenantry_activator_cold_start_seconds_bucket{le="5.0"}': "0+10x90",
            'tenantry_activator_cold_start_seconds_bucket{le="+Inf"}': "0+10x90",
        },
        minutes=60,
    ),
    "TenantryActivatorRefuses": Case(
        firing={'tenantry_activator_refused_total{error_type="tenantry_overloaded"}': "0+1x60"},
        labels={"severity": "critical"},
        summary="Requests for sleeping tenants are refused: too many wait, or no pod comes.",
        quiet={
            'tenantry_activator_refused_total{error_type="tenantry_overloaded"}': "4x60",
            'tenantry_activator_refused_total{error_type="caller_unauthenticated"}': "0+9x60",
        },
    ),
    "TenantryInFlightUnknown": Case(
        firing={
            'tenantry_inflight_scrapes_total{result="failed"}': "0+50x60",
            'tenantry_inflight_scrapes_total{result="ok"}': "0+50x60",
        },
        labels={"severity": "warning"},
        summary="50% of pods do not say how many requests they have in flight; scaling goes by it.",
        quiet={
            'tenantry_inflight_scrapes_total{result="failed"}': "0+1x60",
            'tenantry_inflight_scrapes_total{result="ok"}': "0+99x60",
        },
    ),
    "TenantryOperatorDown": Case(
        firing={'tenantry_leading{pod="operator-1"}': "1x10 0x50"},
        labels={"severity": "critical"},
        summary="No operator holds the Lease; tenants go on serving, changes wait.",
        quiet={'tenantry_leading{pod="operator-1"}': "1x60", 'tenantry_leading{pod="operator-2"}': "0x60"},
    ),
    "TenantryOperatorBehind": Case(
        firing={"tenantry_queue_oldest_seconds": "300x60"},
        labels={"severity": "warning"},
        summary="A Tenant has been waiting for the operator for 5m 0s.",
        quiet={"tenantry_queue_oldest_seconds": "3x60"},
    ),
    "TenantryOperatorDeaf": Case(
        firing={"tenantry_leading": "1x60", 'tenantry_watch_age_seconds{kind="Deployment"}': "170x60"},
        labels={"kind": "Deployment", "severity": "warning"},
        summary="The operator has heard nothing of Deployment for 2m 50s.",
        quiet={"tenantry_leading": "0x60", 'tenantry_watch_age_seconds{kind="Deployment"}': "170x60"},
    ),
    "TenantryReconcilesFail": Case(
        firing={
            'tenantry_reconcile_duration_seconds_count{result="failed"}': "0+5x60",
            'tenantry_reconcile_duration_seconds_count{result="ok"}': "0+15x60",
        },
        labels={"severity": "warning"},
        summary="25% of the operator's reconciles fail.",
        quiet={
            'tenantry_reconcile_duration_seconds_count{result="failed"}': "0+1x60",
            'tenantry_reconcile_duration_seconds_count{result="ok"}': "0+99x60",
        },
    ),
    "TenantryCircuitOpen": Case(
        firing={"tenantry_queue_parked": "2x60"},
        labels={"severity": "warning"},
        summary="2 Tenants change more often than they can settle.",
        quiet={"tenantry_queue_parked": "0x20 1x5 0x30"},
    ),
    "TenantryRolloutHalted": Case(
        firing={'tenantry_rollout_halted{tier="standard"}': "1x60"},
        labels={"tier": "standard", "severity": "critical"},
        summary="The roll-out of tier standard has halted, because Tenants that it moved are not Ready.",
        quiet={'tenantry_rollout_halted{tier="standard"}': "0x60"},
    ),
}
