"""A replica's own part of its tenant's limits, for as long as Redis does not answer. Pure."""

from typing import TypeVar

from msgspec.structs import replace

from tenantry_service.policy import Budget, Key, KeyLimits, Limits, Policy, Window, sealed


def share(policy: Policy, replicas: int, day_spent: int, month_spent: int) -> Policy:
    """The policy with every limit divided by the number of replicas, but never to nothing, and with each budget reduced
    to this replica's part of what was left of it. ``*_spent``: nano-USD that the tenant had spent in the present
    windows when Redis was last heard of. A key's own budget is divided whole: what the key had spent is not known."""
    spent = {Window.DAY: day_spent, Window.MONTH: month_spent}
    part = replace(
        policy,
        limits=_limits(policy.limits, replicas),
        budget=_budget(policy.budget, replicas, spent),
        keys=tuple(_key(key, replicas) for key in policy.keys),
    )
    return sealed(part)


def _key(key: Key, replicas: int) -> Key:
    if key.limits is None and key.budget is None:
        return key
    limits = None if key.limits is None else _limits(key.limits, replicas)
    return replace(key, limits=limits, budget=_budget(key.budget, replicas, {}))


_L = TypeVar("_L", KeyLimits, Limits)


def _limits(limits: _L, replicas: int) -> _L:
    return replace(
        limits,
        requests_per_minute=_part(limits.requests_per_minute, replicas),
        tokens_per_minute=_part(limits.tokens_per_minute, replicas),
        concurrent_requests=_part(limits.concurrent_requests, replicas),
    )


def _part(limit: int | None, replicas: int) -> int | None:
    return None if limit is None else max(1, limit // replicas)


def _budget(budget: Budget | None, replicas: int, spent: dict[Window, int]) -> Budget | None:
    if budget is None:
        return None
    left = max(0, budget.amount_nano_usd - spent.get(budget.window, 0))
    return replace(budget, amount_nano_usd=left // replicas)
