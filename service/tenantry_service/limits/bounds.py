"""What a policy holds its tenant and its keys to, as the plain integers that the law of limits reckons with. Pure."""

from typing import Final

from tenantry_service.policy import Budget, KeyLimits, OnExceeded, Policy, Window

#: There is no budget (one of 0 lets nothing through that costs anything).
NO_BUDGET: Final = -1


class Bounds:
    """Limits of one scope: a tenant, or one of its keys. 0 does not limit; a budget is in nano-USD per window."""

    __slots__ = ("budget", "daily", "refuses", "requests", "slots", "tokens")

    def __init__(
        self,
        requests: int = 0,
        tokens: int = 0,
        slots: int = 0,
        budget: int = NO_BUDGET,
        daily: bool = False,
        refuses: bool = True,
    ) -> None:
        self.requests = requests
        self.tokens = tokens
        self.slots = slots
        self.budget = budget
        self.daily = daily
        self.refuses = refuses

    def __repr__(self) -> str:
        return f"Bounds({self.requests}, {self.tokens}, {self.slots}, {self.budget}, {self.daily}, {self.refuses})"


def bounds(limits: KeyLimits | None, budget: Budget | None) -> Bounds:
    """Those of one scope."""
    made = Bounds()
    if limits is not None:
        made.requests = limits.requests_per_minute or 0
        made.tokens = limits.tokens_per_minute or 0
        made.slots = limits.concurrent_requests or 0
    if budget is not None:
        made.budget = budget.amount_nano_usd
        made.daily = budget.window is Window.DAY
        made.refuses = budget.on_exceeded is OnExceeded.REFUSE
    return made


class Held:
    """All bounds of one policy. ``keys`` has those keys alone that have limits or a budget of their own."""

    __slots__ = ("generation", "keys", "policy", "tenant")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.generation = policy.generation
        self.tenant = bounds(policy.limits, policy.budget)
        self.keys = {
            key.name: bounds(key.limits, key.budget)
            for key in policy.keys
            if key.limits is not None or key.budget is not None
        }

    def older_than(self, policy: Policy) -> bool:
        """A policy of the same generation but another content is the newer one."""
        if policy.generation != self.generation:
            return policy.generation > self.generation
        return policy.revision != self.policy.revision
