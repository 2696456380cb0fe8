"""The laws of limits as a machine that does anything in any order, over any store that claims to keep them.

It keeps accounts of its own, beside the store and in other words: what was admitted, and the most that the limits as
they were have allowed up to now.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tenantry_service.limits.bounds import NO_BUDGET, Bounds
from tenantry_service.limits.decisions import Demand, Dimension, Refusal, Reservation

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
START = 1_700_000_000_000
#: The tenant itself, and two of its keys; the second has no limits of its own.
TENANT, SMALL, OPEN = "", "small", "open"


class Store(Protocol):
    """One tenant's limits under a clock (Unix ms) that the test sets."""

    def reserve(
        self, now_ms: int, generation: int, tenant: Bounds, keys: dict[str, Bounds], key: str, name: str, demand: Demand
    ) -> Reservation | Refusal: ...

    def settle(self, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None: ...

    def close(self) -> None: ...


@dataclass
class Account:
    """What one scope was allowed and what it has taken, in 1/60,000 of a request or token."""

    bounds: Bounds
    requests_allowed: int = 0
    tokens_allowed: int = 0
    requests_taken: int = 0
    tokens_taken: int = 0
    #: Nano-USD by the window's first second.
    days: dict[int, int] = field(default_factory=dict)
    months: dict[int, int] = field(default_factory=dict)
    open: int = 0

    def __post_init__(self) -> None:
        self.requests_allowed = self.bounds.requests * MINUTE
        self.tokens_allowed = self.bounds.tokens * MINUTE

    def passed(self, ms: int) -> None:
        self.requests_allowed += self.bounds.requests * ms
        self.tokens_allowed += self.bounds.tokens * ms

    def changed(self, bounds: Bounds) -> None:
        self.requests_allowed += max(0, bounds.requests - self.bounds.requests) * MINUTE
        self.tokens_allowed += max(0, bounds.tokens - self.bounds.tokens) * MINUTE
        self.bounds = bounds

    def spent(self, reservation: Reservation, nano_usd: int) -> None:
        self.days[reservation.day] = self.days.get(reservation.day, 0) + nano_usd
        self.months[reservation.month] = self.months.get(reservation.month, 0) + nano_usd


any_bounds = st.builds(
    Bounds,
    requests=st.integers(1, 20),
    tokens=st.integers(1, 300),
    slots=st.integers(0, 4),
    budget=st.sampled_from([NO_BUDGET, 0, 1000, 2500]),
    daily=st.booleans(),
    refuses=st.booleans(),
)


class LimitsMachine(RuleBasedStateMachine):
    """Reserve, settle, wait, step the clock and change the limits in any order."""

    #: Each run's own; what is tried says which.
    new_store: ClassVar[Callable[[], Store]]

    @initialize(tenant=any_bounds, key=any_bounds)
    def begin(self, tenant: Bounds, key: Bounds) -> None:
        self.store = type(self).new_store()
        self.now = self.latest = START
        self.generation = 1
        self.count = 0
        self.live: list[tuple[str, Reservation]] = []
        self.accounts = {TENANT: Account(tenant), SMALL: Account(key)}
        self.known = {TENANT: False, SMALL: False}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    def scopes(self, key: str) -> list[Account]:
        return [self.accounts[TENANT], self.accounts[SMALL]] if key == SMALL else [self.accounts[TENANT]]

    def ask(self, key: str, demand: Demand) -> Reservation | Refusal:
        keys = {SMALL: self.accounts[SMALL].bounds}
        tenant = self.accounts[TENANT].bounds
        return self.store.reserve(self.now, self.generation, tenant, keys, key, f"r{self.count}", demand)

    @rule(ms=st.integers(1, 3 * MINUTE) | st.integers(1, 40 * DAY))
    def wait(self, ms: int) -> None:
        self.now += ms
        for account in self.accounts.values():
            account.passed(max(0, self.now - self.latest))
        self.latest = max(self.latest, self.now)

    @rule(ms=st.integers(1, MINUTE))
    def the_clock_steps_back(self, ms: int) -> None:
        # Time that comes again is not counted again; by more than a minute in all, it begins anew.
        self.now = max(self.now - ms, self.latest - MINUTE)

    @rule(scope=st.sampled_from([TENANT, SMALL]), bounds=any_bounds)
    def change_limits(self, scope: str, bounds: Bounds) -> None:
        # The rest of the time so far passed under the old ones, if anybody looked.
        self.ask(SMALL, Demand(10**9))
        self.generation += 1
        self.accounts[scope].changed(bounds)
        self.ask(SMALL, Demand(10**9))

    @rule(key=st.sampled_from([SMALL, OPEN]), tokens=st.integers(0, 120), money=st.integers(0, 400))
    def reserve(self, key: str, tokens: int, money: int) -> None:
        self.count += 1
        decision = self.ask(key, Demand(tokens, money))
        if isinstance(decision, Refusal):
            self.refused(key, decision, Demand(tokens, money))
            return
        assert decision.key_name == (SMALL if key == SMALL else "")
        self.live.append((key, decision))
        for account in self.scopes(key):
            account.requests_taken += MINUTE
            account.tokens_taken += tokens * MINUTE
            account.open += 1
            account.spent(decision, money)
            held = account.bounds
            assert not held.slots or account.open <= held.slots, "never more at once than there are slots"
            if held.budget != NO_BUDGET and held.refuses:
                now = account.days[decision.day] if held.daily else account.months[decision.month]
                assert now <= held.budget, "never a nano-dollar over the budget"

    def refused(self, key: str, refusal: Refusal, demand: Demand) -> None:
        again = self.ask(key, demand)
        assert isinstance(again, Refusal)
        assert same(refusal, again), "a refusal consumes nothing"
        if refusal.dimension is Dimension.CONCURRENCY or refusal.wait_ms is None or refusal.wait_ms > MINUTE:
            return
        assert refusal.wait_ms > 0
        waited = refusal.wait_ms + max(0, self.latest - self.now)
        if refusal.dimension is not Dimension.BUDGET:
            self.wait(waited - 1)
            early = self.ask(key, demand)
            assert isinstance(early, Refusal), "nothing fits before the time that was said"
            self.wait(1)
            late = self.ask(key, demand)
            assert isinstance(late, Reservation) or late.dimension is not refusal.dimension, "then it fits"
            if isinstance(late, Reservation):
                self.store.settle(late, 0, 0, exact=True)
                for account in self.scopes(key):
                    account.requests_taken += MINUTE

    @rule(which=st.integers(0, 50), used=st.integers(0, 200), money=st.integers(0, 400), exact=st.booleans())
    def settle(self, which: int, used: int, money: int, exact: bool) -> None:
        if not self.live:
            return
        key, reservation = self.live.pop(which % len(self.live))
        money = min(money, reservation.demand.nano_usd)
        self.store.settle(reservation, used, money, exact=exact)
        difference = used - reservation.demand.tokens
        for account in self.scopes(key):
            account.tokens_taken += (difference if exact else max(0, difference)) * MINUTE
            account.open -= 1
            account.spent(reservation, money - reservation.demand.nano_usd)

    @invariant()
    def never_more_than_the_limits_allowed(self) -> None:
        for account in getattr(self, "accounts", {}).values():
            assert account.requests_taken <= account.requests_allowed

    @invariant()
    def what_is_left_is_never_more_than_was_allowed(self) -> None:
        if not hasattr(self, "accounts"):
            return
        self.count += 1
        seen = self.ask(SMALL, Demand(10**9))
        assert isinstance(seen, Refusal)
        standing = seen.standing
        least = min(self.accounts.values(), key=lambda one: one.requests_allowed - one.requests_taken)
        assert standing.requests_left * MINUTE <= least.requests_allowed - least.requests_taken
        least = min(self.accounts.values(), key=lambda one: one.tokens_allowed - one.tokens_taken)
        assert standing.tokens_left * MINUTE <= max(0, least.tokens_allowed - least.tokens_taken)


def same(one: Refusal | Reservation, other: Refusal | Reservation) -> bool:
    """Whether two decisions say the same, to the last figure."""
    return type(one) is type(other) and told(one) == told(other)


def told(decision: Refusal | Reservation) -> tuple[object, ...]:
    standing = decision.standing
    figures = (
        standing.requests_limit,
        standing.requests_left,
        standing.requests_reset_ms,
        standing.tokens_limit,
        standing.tokens_left,
        standing.tokens_reset_ms,
    )
    if isinstance(decision, Refusal):
        return (decision.dimension, decision.limit, decision.requested, decision.wait_ms, decision.of_key, *figures)
    taken = (decision.tokens_taken, decision.key_name, decision.key_tokens_taken)
    return (decision.id, decision.day, decision.month, *taken, *figures)
