"""What scaling has to know of a tenant, from the facts of its reconcile. Pure."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec import Struct
from tenantry_service.roster import SleeperKey

from tenantry_operator.api.allowance import BudgetWindow, OnExceeded
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Usage
from tenantry_operator.api.units import parse_usd
from tenantry_operator.plan.facts import Assessment, Facts, State

#: The least that ``idleAfter`` is taken for, seconds: falling asleep and waking up take some five.
SHORTEST = 10.0


class Noted(Struct, frozen=True, kw_only=True, gc=False):
    """One tenant."""

    may_sleep: bool = False
    #: More pods than one may be wanted, and an HPA decides how many.
    scales: bool = False
    idle_after: float = SHORTEST
    least: int = 1
    hands_off: bool = False
    frozen: bool = False
    budget_spent: bool = False
    keys: tuple[SleeperKey, ...] = ()


def noted(facts: Facts, assessment: Assessment) -> Noted | None:
    """What to remember; None while its spec or its keys cannot be told, when what was remembered still holds."""
    spec = facts.spec
    if assessment.state is State.DELETING:
        return Noted(hands_off=True)
    if not isinstance(spec, ResolvedSpec):
        return None
    scaling = spec.autoscaling
    may_sleep = scaling.min_replicas == 0
    if may_sleep and facts.wanted is None:
        return None
    return Noted(
        may_sleep=may_sleep,
        scales=scaling.max_replicas > 1,
        idle_after=max(SHORTEST, float(scaling.idle_after_seconds)),
        least=max(1, scaling.min_replicas),
        hands_off=spec.suspend_traffic,
        frozen=spec.suspend_reconcile,
        budget_spent=may_sleep and spent(spec, facts.status.usage, facts.now),
        keys=_keys(facts) if may_sleep else (),
    )


def spent(spec: ResolvedSpec, usage: Usage | None, now: datetime) -> bool:
    """Whether requests will be refused for want of budget, as far as the Tenant's status knows (a minute old)."""
    budget = spec.budget
    if budget is None or budget.on_exceeded is not OnExceeded.REFUSE or usage is None or usage.window_start is None:
        return False
    began = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if budget.window is BudgetWindow.MONTH:
        began = began.replace(day=1)
    return usage.window_start >= began and parse_usd(usage.spend) >= budget.amount_nano_usd


def _keys(facts: Facts) -> tuple[SleeperKey, ...]:
    # Those of the policy that was worked out for the pods, so that both let in the same.
    policy = facts.wanted.values.get("policy") if facts.wanted is not None else None
    records = policy.get("keys", ()) if isinstance(policy, Mapping) else ()
    return msgspec.convert(records, tuple[SleeperKey, ...], strict=False)
