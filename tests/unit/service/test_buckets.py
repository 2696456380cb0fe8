"""The laws of limits."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tenantry_service.limits import buckets
from tenantry_service.limits.buckets import SCALE, Demand, Dimension, Refusal, Reservation, State
from tenantry_service.policy import Budget, Limits, OnExceeded, Window

MINUTE = 60_000_000
START = 1_700_000_000_000_000


def dump(state: State) -> tuple[int, ...]:
    return tuple(getattr(state, name) for name in State.__slots__)


class Machine(RuleBasedStateMachine):
    """Reserve, settle and wait in any order; count what was admitted beside the buckets."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(requests_per_minute=7, tokens_per_minute=100, concurrent_requests=3)
        self.budget = Budget(amount_nano_usd=1000, window=Window.DAY)
        self.state = State()
        self.elapsed = 0
        self.admitted = 0
        self.tokens_taken = 0
        self.money: dict[int, int] = {}
        self.open: list[Reservation] = []
        self.advance()

    def advance(self) -> None:
        now = START + self.elapsed
        buckets.advance(self.state, self.limits, self.budget, now, now)

    @rule(us=st.integers(1, 3 * MINUTE))
    def wait(self, us: int) -> None:
        self.elapsed += us
        self.advance()

    @rule(tokens=st.integers(0, 120), money=st.integers(0, 400))
    def reserve(self, tokens: int, money: int) -> None:
        before = dump(self.state)
        decision = buckets.reserve(
            self.state, self.limits, self.budget, Demand(tokens, money), "r", START + self.elapsed
        )
        if isinstance(decision, Refusal):
            assert dump(self.state) == before, "a refusal consumes nothing"
            assert decision.wait_us is None or decision.wait_us > 0
            return
        self.open.append(decision)
        self.admitted += 1
        self.tokens_taken += tokens
        self.money[decision.window_start] = self.money.get(decision.window_start, 0) + money

    @rule(used=st.integers(0, 200), spent=st.integers(0, 600), exact=st.booleans())
    def settle(self, used: int, spent: int, exact: bool) -> None:
        if not self.open:
            return
        reservation = self.open.pop(0)
        buckets.settle(self.state, self.budget, reservation, used, spent, exact=exact)
        difference = used - reservation.demand.tokens
        self.tokens_taken += difference if exact else max(0, difference)
        extra = spent - reservation.demand.nano_usd
        self.money[reservation.window_start] += extra if exact else max(0, extra)

    @invariant()
    def never_more_requests_than_the_law_allows(self) -> None:
        assert self.admitted * MINUTE <= 7 * (MINUTE + self.elapsed)

    @invariant()
    def levels_never_exceed_one_minutes_worth(self) -> None:
        assert self.state.requests <= 7 * SCALE
        assert self.state.tokens <= 100 * SCALE

    @invariant()
    def never_more_slots_than_there_are(self) -> None:
        assert self.state.in_flight == len(self.open) <= 3

    @invariant()
    def the_present_window_counts_exactly_what_was_taken_from_it(self) -> None:
        assert self.state.spent == self.money.get(self.state.window, 0)

    @invariant()
    def what_was_used_is_missing_from_the_bucket(self) -> None:
        # Refill is lost at the brim, never gained.
        assert self.state.tokens <= 100 * SCALE + 100 * self.elapsed - self.tokens_taken * SCALE


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

limits_strategy = st.builds(
    Limits,
    requests_per_minute=st.none() | st.integers(1, 10_000),
    tokens_per_minute=st.none() | st.integers(1, 10_000_000),
    concurrent_requests=st.none() | st.integers(1, 50),
)


@given(limits_strategy, st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_the_wait_is_exact_to_the_microsecond(limits: Limits, demands: list[int]) -> None:
    state, now = State(), START
    for tokens in demands:
        buckets.advance(state, limits, None, now, now)
        decision = buckets.reserve(state, limits, None, Demand(tokens), "r", now)
        if not isinstance(decision, Refusal) or decision.dimension is Dimension.CONCURRENCY:
            continue
        if decision.wait_us is None:
            assert limits.tokens_per_minute is not None
            assert tokens > limits.tokens_per_minute
            continue
        for wait, admitted in ((decision.wait_us - 1, False), (decision.wait_us, True)):
            later = State()
            for name in State.__slots__:
                setattr(later, name, getattr(state, name))
            later.in_flight = 0
            buckets.advance(later, limits, None, now + wait, now + wait)
            again = buckets.reserve(later, limits, None, Demand(tokens), "r", now + wait)
            assert isinstance(again, Reservation) is admitted


@given(st.integers(1, 10_000), st.lists(st.integers(1, 2_000_000), min_size=1, max_size=50))
def test_refill_does_not_depend_on_how_often_one_looks(limit: int, steps: list[int]) -> None:
    limits = Limits(requests_per_minute=limit)
    often, once = State(), State()
    for state in (often, once):
        buckets.advance(state, limits, None, START, START)
        state.requests = -5 * SCALE
    now = START
    for step in steps:
        now += step
        buckets.advance(often, limits, None, now, now)
    buckets.advance(once, limits, None, now, now)
    assert often.requests == once.requests


def fresh(limits: Limits, budget: Budget | None = None, now: int = START) -> State:
    state = State()
    buckets.advance(state, limits, budget, now, now)
    return state


def take(state: State, limits: Limits, demand: Demand, budget: Budget | None = None, now: int = START) -> Reservation:
    decision = buckets.reserve(state, limits, budget, demand, "r", now)
    assert isinstance(decision, Reservation)
    return decision


def test_using_more_than_reserved_becomes_debt_that_delays_the_next() -> None:
    limits = Limits(tokens_per_minute=60)
    state = fresh(limits)
    buckets.settle(state, None, take(state, limits, Demand(10)), 120, 0, exact=False)
    refusal = buckets.reserve(state, limits, None, Demand(1), "r", START)
    assert isinstance(refusal, Refusal)
    assert refusal.wait_us == 61_000_000


def test_only_exact_usage_is_given_back() -> None:
    limits, budget = Limits(tokens_per_minute=100), Budget(amount_nano_usd=100, window=Window.DAY)
    for exact, left, spent in ((True, 99, 1), (False, 50, 80)):
        state = fresh(limits, budget)
        reservation = take(state, limits, Demand(50, 80), budget)
        buckets.settle(state, budget, reservation, 1, 1, exact=exact)
        assert (buckets.standing(state).tokens_left, state.spent) == (left, spent)


def test_a_budget_refuses_what_it_cannot_cover_and_warn_only_counts() -> None:
    budget = Budget(amount_nano_usd=100, window=Window.DAY)
    state = fresh(Limits(), budget)
    take(state, Limits(), Demand(0, 100), budget)
    refusal = buckets.reserve(state, Limits(), budget, Demand(0, 1), "r", START)
    assert isinstance(refusal, Refusal)
    assert refusal.dimension is Dimension.BUDGET
    warn = Budget(amount_nano_usd=100, window=Window.DAY, on_exceeded=OnExceeded.WARN)
    take(state, Limits(), Demand(0, 1), warn)
    assert state.spent == 101


def test_a_budget_begins_anew_with_its_utc_day() -> None:
    budget = Budget(amount_nano_usd=100, window=Window.DAY)
    evening = int(datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000
    state = fresh(Limits(), budget, evening)
    late = take(state, Limits(), Demand(0, 100), budget, evening)
    refusal = buckets.reserve(state, Limits(), budget, Demand(0, 1), "r", evening)
    assert isinstance(refusal, Refusal)
    assert refusal.wait_us == 1_000_000
    midnight = evening + 1_000_000
    buckets.advance(state, Limits(), budget, midnight, midnight)
    assert state.spent == 0
    # What was reserved yesterday is settled in yesterday's window.
    buckets.settle(state, budget, late, 0, 500, exact=True)
    assert state.spent == 0


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.sampled_from(Window))  # noqa: DTZ001
def test_windows_are_aligned_to_the_utc_calendar_and_follow_each_other(moment: datetime, window: Window) -> None:
    wall_us = int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000
    start = buckets.window_start(window, wall_us)
    end = buckets.window_end(window, start)
    assert start <= wall_us // 1_000_000 < end
    assert buckets.window_start(window, end * 1_000_000) == end
    begun = datetime.fromtimestamp(start, UTC)
    assert (begun.hour, begun.minute, begun.second) == (0, 0, 0)
    assert window is Window.DAY or begun.day == 1


def test_a_clock_that_steps_back_gives_nothing() -> None:
    limits = Limits(requests_per_minute=60)
    state = fresh(limits)
    take(state, limits, Demand())
    before = state.requests
    buckets.advance(state, limits, None, START - MINUTE, START - MINUTE)
    buckets.advance(state, limits, None, START, START)
    assert state.requests == before


def test_a_changed_limit_keeps_what_was_used() -> None:
    state = fresh(Limits(requests_per_minute=10))
    for _ in range(4):
        take(state, Limits(requests_per_minute=10), Demand())
    buckets.advance(state, Limits(requests_per_minute=20), None, START, START)
    assert buckets.standing(state).requests_left == 16
    buckets.advance(state, Limits(requests_per_minute=5), None, START, START)
    assert buckets.standing(state).requests_left == 1


def test_no_limit_at_all_admits_everything() -> None:
    state = fresh(Limits())
    for _ in range(1000):
        take(state, Limits(), Demand(10**9, 10**12))
