"""The laws of limits."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs
from tenantry_service.limits import buckets, decisions, windows
from tenantry_service.limits.bounds import bounds
from tenantry_service.limits.buckets import SCALE, State
from tenantry_service.limits.decisions import Demand, Dimension, Refusal, Reservation
from tenantry_service.limits.memory import MemoryLimiter
from tenantry_service.policy import Budget, Key, KeyLimits, Limits, OnExceeded, Policy, Window

from tests.unit.service.playbook import policy

MINUTE = 60_000
START = 1_700_000_000_000

#: What a state is made of, compiled or not.
FIELDS = [name for name in dir(State()) if not name.startswith("_") and name != "spent"]


def dump(state: State) -> tuple[object, ...]:
    return tuple(getattr(state, name) for name in FIELDS if name != "bounds")


def advance(state: State, limits: Limits, now: int, budget: Budget | None = None) -> None:
    buckets.advance(state, bounds(limits, budget), now, now)


def reserve(state: State, demand: Demand, now: int = START) -> Reservation | Refusal:
    return buckets.reserve(state, None, demand, "r", now)


def settle(state: State, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
    buckets.settle(state, None, reservation, tokens, nano_usd, exact=exact)


DAY = 24 * 60 * MINUTE


class Machine(RuleBasedStateMachine):
    """Reserve, settle, wait and change the limits in any order; count what was admitted beside the buckets."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(requests_per_minute=7, tokens_per_minute=100, concurrent_requests=3)
        self.budget: Budget | None = Budget(amount_nano_usd=1000, window=Window.DAY)
        self.state = State()
        self.elapsed = 0
        self.admitted = 0
        self.money: dict[tuple[Window, int], int] = {}
        self.open: list[Reservation] = []
        #: The most requests and tokens that the limits, as they were, have allowed up to now, in bucket units.
        self.requests_allowed = 7 * SCALE
        self.tokens_allowed = 100 * SCALE
        self.tokens_used = 0
        self.advance()

    def advance(self) -> None:
        advance(self.state, self.limits, START + self.elapsed, self.budget)

    @rule(us=st.integers(1, 3 * MINUTE) | st.integers(1, 40 * DAY))
    def wait(self, us: int) -> None:
        self.elapsed += us
        self.requests_allowed += (self.limits.requests_per_minute or 0) * us
        self.tokens_allowed += (self.limits.tokens_per_minute or 0) * us
        self.advance()

    @rule(requests=st.integers(1, 20), tokens=st.integers(1, 300), us=st.integers(0, MINUTE))
    def change_limits_some_time_after_the_last_request(self, requests: int, tokens: int, us: int) -> None:
        self.elapsed += us
        self.requests_allowed += (self.limits.requests_per_minute or 0) * us
        self.tokens_allowed += (self.limits.tokens_per_minute or 0) * us
        self.requests_allowed += max(0, requests - (self.limits.requests_per_minute or 0)) * SCALE
        self.tokens_allowed += max(0, tokens - (self.limits.tokens_per_minute or 0)) * SCALE
        self.limits = Limits(requests_per_minute=requests, tokens_per_minute=tokens, concurrent_requests=3)
        self.advance()

    @rule(window=st.none() | st.sampled_from(Window))
    def change_the_budget(self, window: Window | None) -> None:
        self.budget = None if window is None else Budget(amount_nano_usd=1000, window=window)
        self.advance()

    @rule(tokens=st.integers(0, 120), money=st.integers(0, 400))
    def reserve(self, tokens: int, money: int) -> None:
        before = dump(self.state)
        decision = reserve(self.state, Demand(tokens, money), START + self.elapsed)
        if isinstance(decision, Refusal):
            assert dump(self.state) == before, "a refusal consumes nothing"
            assert decision.wait_ms is None or decision.wait_ms > 0
            return
        self.open.append(decision)
        self.admitted += 1
        self.tokens_used += tokens
        self.spend(decision, money)
        if self.budget is not None:
            assert self.state.spent(self.budget.window) <= self.budget.amount_nano_usd

    def spend(self, reservation: Reservation, money: int) -> None:
        for window in ((Window.DAY, reservation.day), (Window.MONTH, reservation.month)):
            self.money[window] = self.money.get(window, 0) + money

    @rule(used=st.integers(0, 200), spent=st.integers(0, 400), exact=st.booleans())
    def settle(self, used: int, spent: int, exact: bool) -> None:
        if not self.open:
            return
        reservation = self.open.pop(0)
        spent = min(spent, reservation.demand.nano_usd)
        settle(self.state, reservation, used, spent, exact=exact)
        difference = used - reservation.tokens_taken
        if reservation.tokens_taken != decisions.NOT_LIMITED:
            self.tokens_used += difference if exact else max(0, difference)
        self.spend(reservation, spent - reservation.demand.nano_usd)

    @invariant()
    def never_more_requests_than_the_limits_allowed(self) -> None:
        assert self.admitted * SCALE <= self.requests_allowed

    @invariant()
    def never_more_tokens_than_the_limits_allowed(self) -> None:
        # Refill is lost at the brim, never gained.
        assert self.state.tokens <= self.tokens_allowed - self.tokens_used * SCALE

    @invariant()
    def levels_never_exceed_one_minutes_worth(self) -> None:
        assert self.state.requests <= (self.limits.requests_per_minute or 0) * SCALE
        assert self.state.tokens <= (self.limits.tokens_per_minute or 0) * SCALE

    @invariant()
    def never_more_slots_than_there_are(self) -> None:
        assert self.state.in_flight == len(self.open) <= 3

    @invariant()
    def the_present_windows_count_exactly_what_was_taken_from_them(self) -> None:
        assert self.state.day_spent == self.money.get((Window.DAY, self.state.day), 0)
        assert self.state.month_spent == self.money.get((Window.MONTH, self.state.month), 0)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

limits_strategy = st.builds(
    Limits,
    requests_per_minute=st.none() | st.integers(1, 10_000),
    tokens_per_minute=st.none() | st.integers(1, 10_000_000),
    concurrent_requests=st.none() | st.integers(1, 50),
)


@given(limits_strategy, st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_the_wait_is_exact_to_the_millisecond(limits: Limits, demands: list[int]) -> None:
    state, now = State(), START
    for tokens in demands:
        advance(state, limits, now)
        decision = reserve(state, Demand(tokens), now)
        if not isinstance(decision, Refusal) or decision.dimension is Dimension.CONCURRENCY:
            continue
        if decision.wait_ms is None:
            assert limits.tokens_per_minute is not None
            assert tokens > limits.tokens_per_minute
            continue
        for wait, admitted in ((decision.wait_ms - 1, False), (decision.wait_ms, True)):
            later = State()
            for name in FIELDS:
                setattr(later, name, getattr(state, name))
            later.in_flight = 0
            advance(later, limits, now + wait)
            again = reserve(later, Demand(tokens), now + wait)
            assert isinstance(again, Reservation) is admitted


@given(st.integers(1, 10_000), st.lists(st.integers(1, 2_000), min_size=1, max_size=50))
def test_refill_does_not_depend_on_how_often_one_looks(limit: int, steps: list[int]) -> None:
    limits = Limits(requests_per_minute=limit)
    often, once = State(), State()
    for state in (often, once):
        advance(state, limits, START)
        state.requests = -5 * SCALE
    now = START
    for step in steps:
        now += step
        advance(often, limits, now)
    advance(once, limits, now)
    assert often.requests == once.requests


def fresh(limits: Limits, now: int = START) -> State:
    state = State()
    advance(state, limits, now)
    return state


def take(state: State, limits: Limits, demand: Demand, budget: Budget | None = None, now: int = START) -> Reservation:
    advance(state, limits, now, budget)
    decision = reserve(state, demand, now)
    assert isinstance(decision, Reservation)
    return decision


def test_using_more_than_reserved_becomes_debt_that_delays_the_next() -> None:
    limits = Limits(tokens_per_minute=60)
    state = fresh(limits)
    settle(state, take(state, limits, Demand(10)), 120, 0, exact=False)
    refusal = reserve(state, Demand(1))
    assert isinstance(refusal, Refusal)
    assert refusal.wait_ms == 61_000


def test_only_exact_usage_of_tokens_is_given_back() -> None:
    limits, budget = Limits(tokens_per_minute=100), Budget(amount_nano_usd=100, window=Window.DAY)
    for exact, left in ((True, 99), (False, 50)):
        state = fresh(limits)
        reservation = take(state, limits, Demand(50, 80), budget)
        settle(state, reservation, 1, 1, exact=exact)
        assert buckets.standing(state, None).tokens_left == left
        # Money is what the ledger says.
        assert state.spent(Window.DAY) == 1


def test_a_budget_refuses_what_it_cannot_cover_and_warn_only_counts() -> None:
    budget = Budget(amount_nano_usd=100, window=Window.DAY)
    state = fresh(Limits())
    take(state, Limits(), Demand(0, 100), budget)
    refusal = reserve(state, Demand(0, 1))
    assert isinstance(refusal, Refusal)
    assert refusal.dimension is Dimension.BUDGET
    warn = Budget(amount_nano_usd=100, window=Window.DAY, on_exceeded=OnExceeded.WARN)
    take(state, Limits(), Demand(0, 1), warn)
    assert state.spent(Window.DAY) == 101


def test_a_budget_begins_anew_with_its_utc_day() -> None:
    budget = Budget(amount_nano_usd=100, window=Window.DAY)
    evening = int(datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC).timestamp()) * 1000
    state = fresh(Limits(), evening)
    late = take(state, Limits(), Demand(0, 100), budget, evening)
    refusal = reserve(state, Demand(0, 1), evening)
    assert isinstance(refusal, Refusal)
    assert refusal.wait_ms == 1_000
    midnight = evening + 1000
    advance(state, Limits(), midnight)
    assert state.spent(Window.DAY) == 0
    # What was reserved yesterday is settled in yesterday's window.
    settle(state, late, 0, 500, exact=True)
    assert state.spent(Window.DAY) == 0


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.sampled_from(Window))  # noqa: DTZ001
def test_windows_are_aligned_to_the_utc_calendar_and_follow_each_other(moment: datetime, window: Window) -> None:
    wall_ms = int(moment.replace(tzinfo=UTC).timestamp()) * 1000
    start = windows.window_start(window, wall_ms)
    end = windows.window_end(window, start)
    assert start <= wall_ms // 1000 < end
    assert windows.window_start(window, end * 1000) == end
    begun = datetime.fromtimestamp(start, UTC)
    assert (begun.hour, begun.minute, begun.second) == (0, 0, 0)
    assert window is Window.DAY or begun.day == 1


def test_a_clock_that_steps_back_gives_nothing() -> None:
    limits = Limits(requests_per_minute=60)
    state = fresh(limits)
    take(state, limits, Demand())
    before = state.requests
    advance(state, limits, START - MINUTE)
    advance(state, limits, START)
    assert state.requests == before


def test_a_changed_limit_keeps_what_was_used() -> None:
    state = fresh(Limits(requests_per_minute=10))
    for _ in range(4):
        take(state, Limits(requests_per_minute=10), Demand())
    advance(state, Limits(requests_per_minute=20), START)
    assert buckets.standing(state, None).requests_left == 16
    advance(state, Limits(requests_per_minute=5), START)
    assert buckets.standing(state, None).requests_left == 1


def test_no_limit_at_all_admits_everything() -> None:
    state = fresh(Limits())
    for _ in range(1000):
        take(state, Limits(), Demand(10**9, 10**12))


def test_what_was_never_taken_is_not_given_back() -> None:
    limited = Limits(tokens_per_minute=100)
    state = fresh(Limits())
    free = take(state, Limits(), Demand(90))
    advance(state, limited, START)
    taken = take(state, limited, Demand(60))
    settle(state, free, 0, 0, exact=True)
    assert buckets.standing(state, None).tokens_left == 40
    settle(state, taken, 60, 0, exact=True)
    assert buckets.standing(state, None).tokens_left == 40


def test_a_request_under_an_old_policy_does_not_bring_its_limits_back() -> None:
    old = policy(limits=Limits(requests_per_minute=100))
    new = structs.replace(policy(limits=Limits(requests_per_minute=2)), generation=old.generation + 1)
    limiter = MemoryLimiter(lambda: START * 1_000_000, lambda: START * 1_000_000)
    decisions: list[object] = []
    for document in (new, old, new, old):
        limiter.reserve(document, "k", "r", Demand(), b"", decisions.append)
    assert [isinstance(decision, Reservation) for decision in decisions] == [True, True, False, False]


def decided(limiter: MemoryLimiter, document: Policy, key_name: str, demand: Demand) -> Reservation | Refusal:
    decisions: list[object] = []
    limiter.reserve(document, key_name, "r", demand, b"", decisions.append)
    (decision,) = decisions
    assert isinstance(decision, Reservation | Refusal)
    return decision


def test_a_key_is_held_to_its_own_limits_within_those_of_its_tenant() -> None:
    keys = (
        Key(id="small", name="small", sha256="0" * 64, limits=KeyLimits(tokens_per_minute=10)),
        Key(id="large", name="large", sha256="1" * 64),
    )
    document = structs.replace(policy(limits=Limits(tokens_per_minute=100)), keys=keys)
    limiter = MemoryLimiter(lambda: START * 1_000_000, lambda: START * 1_000_000)
    first = decided(limiter, document, "small", Demand(9))
    assert isinstance(first, Reservation)
    assert (first.standing.tokens_limit, first.standing.tokens_left) == (10, 1)
    refused = decided(limiter, document, "small", Demand(2))
    assert isinstance(refused, Refusal)
    assert (refused.of_key, refused.limit, refused.wait_ms) == (True, 10, 6_000)
    # A refusal takes nothing from the tenant either.
    assert isinstance(decided(limiter, document, "large", Demand(91)), Reservation)
    exhausted = decided(limiter, document, "large", Demand(1))
    assert isinstance(exhausted, Refusal)
    assert not exhausted.of_key
    limiter.settle(document, first, 0, 0, exact=True, event=b"")
    assert isinstance(decided(limiter, document, "small", Demand(9)), Reservation)


def test_a_budget_of_a_key_that_is_gone_refuses_that_key_alone() -> None:
    keys = (
        Key(id="a", name="a", sha256="0" * 64, budget=Budget(amount_nano_usd=5, window=Window.DAY)),
        Key(id="b", name="b", sha256="1" * 64),
    )
    document = structs.replace(policy(), keys=keys)
    limiter = MemoryLimiter(lambda: START * 1_000_000, lambda: START * 1_000_000)
    assert isinstance(decided(limiter, document, "a", Demand(0, 5)), Reservation)
    refused = decided(limiter, document, "a", Demand(0, 1))
    assert isinstance(refused, Refusal)
    assert (refused.of_key, refused.dimension) == (True, Dimension.BUDGET)
    assert isinstance(decided(limiter, document, "b", Demand(0, 1)), Reservation)


def test_a_clock_that_was_wrong_by_hours_does_not_stop_the_refill_for_hours() -> None:
    limits = Limits(requests_per_minute=60)
    state = fresh(limits)
    for _ in range(60):
        take(state, limits, Demand())
    yesterday = START - DAY
    advance(state, limits, yesterday)
    assert state.requests == 0
    advance(state, limits, yesterday + 1000)
    assert buckets.standing(state, None).requests_left == 1


def test_a_request_that_reserved_no_tokens_owes_what_it_used_nevertheless() -> None:
    limits = Limits(tokens_per_minute=60)
    state = fresh(limits)
    settle(state, take(state, limits, Demand(0)), 40, 0, exact=False)
    assert buckets.standing(state, None).tokens_left == 20
