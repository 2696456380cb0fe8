"""The law of limits, as arithmetic: no I/O, no clock, no randomness, integers only.

Two token buckets (requests and tokens per minute) that refill continuously, a count of requests in flight, and a budget
per calendar window. A reservation takes from all of them or from none. A bucket holds one minute's worth; its level is
kept in units of 1/60,000,000, so that a limit of R per minute refills exactly R units per microsecond and nothing is
ever rounded in anyone's favour.

Every store (memory, Redis) keeps this state and applies this law; the same property tests run against each.
"""

import enum
from datetime import UTC, datetime

from tenantry_service.policy import Budget, Limits, OnExceeded, Window

#: Bucket units per request or token: microseconds per minute.
SCALE = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000


class Dimension(enum.StrEnum):
    """What can refuse a request."""

    REQUESTS = "requests per min (RPM)"
    TOKENS = "tokens per min (TPM)"
    CONCURRENCY = "concurrent requests"
    BUDGET = "budget"


class Demand:
    """What a request asks for before it is sent: estimated tokens, and the most it may cost (nano-USD)."""

    __slots__ = ("nano_usd", "tokens")

    def __init__(self, tokens: int = 0, nano_usd: int = 0) -> None:
        self.tokens = tokens
        self.nano_usd = nano_usd


class Standing:
    """Where a tenant stands after a decision; what ``x-ratelimit-*`` says. Resets are microseconds until full.
    A limit of None does not limit (its other figures are then 0)."""

    __slots__ = (
        "requests_left",
        "requests_limit",
        "requests_reset_us",
        "tokens_left",
        "tokens_limit",
        "tokens_reset_us",
    )

    def __init__(
        self,
        requests_limit: int | None = None,
        requests_left: int = 0,
        requests_reset_us: int = 0,
        tokens_limit: int | None = None,
        tokens_left: int = 0,
        tokens_reset_us: int = 0,
    ) -> None:
        self.requests_limit = requests_limit
        self.requests_left = requests_left
        self.requests_reset_us = requests_reset_us
        self.tokens_limit = tokens_limit
        self.tokens_left = tokens_left
        self.tokens_reset_us = tokens_reset_us


class Refusal:
    """Not admitted. ``wait_us`` is exact: the same demand fits then if nothing else comes; None: it never fits.
    For concurrency the wait is a guess, since nobody knows when a running request ends."""

    __slots__ = ("dimension", "limit", "requested", "standing", "wait_us")

    def __init__(
        self, dimension: Dimension, limit: int, requested: int, wait_us: int | None, standing: Standing
    ) -> None:
        self.dimension = dimension
        self.limit = limit
        self.requested = requested
        self.wait_us = wait_us
        self.standing = standing


class Reservation:
    """Admitted: what was taken, to be settled exactly once. ``tokens_taken`` is 0 where there was no token limit.
    ``day`` and ``month`` are the budget windows it was taken from (Unix seconds)."""

    __slots__ = ("day", "demand", "id", "month", "standing", "tokens_taken")

    def __init__(
        self,
        id: str,  # noqa: A002
        demand: Demand,
        tokens_taken: int,
        day: int,
        month: int,
        standing: Standing,
    ) -> None:
        self.id = id
        self.demand = demand
        self.tokens_taken = tokens_taken
        self.day = day
        self.month = month
        self.standing = standing


class State:
    """What a store keeps per tenant. Levels are in bucket units and may be negative (debt)."""

    __slots__ = (
        "day",
        "day_ends_us",
        "day_spent",
        "in_flight",
        "month",
        "month_spent",
        "requests",
        "requests_limit",
        "tokens",
        "tokens_limit",
        "updated_us",
    )

    def __init__(self) -> None:
        self.requests_limit = 0
        self.requests = 0
        self.tokens_limit = 0
        self.tokens = 0
        self.updated_us = 0
        self.in_flight = 0
        #: Both kinds of windows are counted, whatever the budget is: a budget that changes its window loses nothing.
        #: Beginnings in Unix seconds, the day's end in Unix microseconds.
        self.day = 0
        self.day_ends_us = 0
        self.day_spent = 0
        self.month = 0
        self.month_spent = 0

    def spent(self, window: Window) -> int:
        """Nano-USD taken in the present window of a kind."""
        return self.day_spent if window is Window.DAY else self.month_spent


#: How long to stay away when all slots are taken: about one short answer.
CONCURRENCY_WAIT_US = _SECOND


def window_start(window: Window, wall_us: int) -> int:
    """Unix seconds at which the budget window that holds ``wall_us`` began (UTC)."""
    seconds = wall_us // _SECOND
    if window is Window.DAY:
        return seconds - seconds % 86400
    now = datetime.fromtimestamp(seconds, UTC)
    return int((datetime(now.year, now.month, 1, tzinfo=UTC) - _EPOCH).total_seconds())


def window_end(window: Window, start: int) -> int:
    """Unix seconds at which the window that began at ``start`` ends."""
    if window is Window.DAY:
        return start + 86400
    begun = datetime.fromtimestamp(start, UTC)
    following = datetime(begun.year + begun.month // 12, begun.month % 12 + 1, 1, tzinfo=UTC)
    return int((following - _EPOCH).total_seconds())


def advance(state: State, limits: Limits, now_us: int, wall_us: int) -> None:
    """Refill for the time that passed and open new budget windows if the calendar says so.

    A clock that steps back refills nothing and closes no window. A changed limit keeps what was already used: a raised
    one adds the difference, a lowered one takes it away; the time before the change refills at the old rate.
    """
    elapsed = now_us - state.updated_us
    if elapsed > 0:
        state.updated_us = now_us
    else:
        elapsed = 0
    requests, tokens = limits.requests_per_minute or 0, limits.tokens_per_minute or 0
    if requests or state.requests_limit:
        state.requests = _refilled(state.requests, state.requests_limit, requests, elapsed)
        state.requests_limit = requests
    if tokens or state.tokens_limit:
        state.tokens = _refilled(state.tokens, state.tokens_limit, tokens, elapsed)
        state.tokens_limit = tokens
    if wall_us >= state.day_ends_us:
        _open_windows(state, wall_us)


def _open_windows(state: State, wall_us: int) -> None:
    state.day, state.day_spent = window_start(Window.DAY, wall_us), 0
    state.day_ends_us = window_end(Window.DAY, state.day) * _SECOND
    month = window_start(Window.MONTH, wall_us)
    if month > state.month:
        state.month, state.month_spent = month, 0


def _refilled(level: int, old_limit: int, limit: int, elapsed_us: int) -> int:
    level = min(old_limit * SCALE, level + old_limit * elapsed_us)
    return level if limit == old_limit else level + (limit - old_limit) * SCALE


def reserve(
    state: State, limits: Limits, budget: Budget | None, demand: Demand, reservation_id: str, wall_us: int
) -> Reservation | Refusal:
    """Take one request, its tokens, one slot and its money: all of them, or none and say why.

    Call :func:`advance` first. Of several dimensions that refuse, the one with the longest wait is named.
    """
    refused: tuple[Dimension, int, int, int | None] | None = None
    if state.requests_limit and state.requests < SCALE:
        refused = (Dimension.REQUESTS, state.requests_limit, 1, -(-(SCALE - state.requests) // state.requests_limit))
    if state.tokens_limit and state.tokens < demand.tokens * SCALE:
        fits = demand.tokens <= state.tokens_limit
        wait = -(-(demand.tokens * SCALE - state.tokens) // state.tokens_limit) if fits else None
        refused = _longer(refused, (Dimension.TOKENS, state.tokens_limit, demand.tokens, wait))
    if limits.concurrent_requests is not None and state.in_flight >= limits.concurrent_requests:
        slot = (Dimension.CONCURRENCY, limits.concurrent_requests, 1, CONCURRENCY_WAIT_US)
        refused = _longer(refused, slot)
    if (
        budget is not None
        and budget.on_exceeded is OnExceeded.REFUSE
        and state.spent(budget.window) + demand.nano_usd > budget.amount_nano_usd
    ):
        fits = demand.nano_usd <= budget.amount_nano_usd
        begun = state.day if budget.window is Window.DAY else state.month
        until = window_end(budget.window, begun) * _SECOND - wall_us if fits else None
        refused = (Dimension.BUDGET, budget.amount_nano_usd, demand.nano_usd, until)
    if refused is not None:
        return Refusal(*refused, standing(state))
    if state.requests_limit:
        state.requests -= SCALE
    if state.tokens_limit:
        state.tokens -= demand.tokens * SCALE
    state.in_flight += 1
    state.day_spent += demand.nano_usd
    state.month_spent += demand.nano_usd
    taken = demand.tokens if state.tokens_limit else 0
    return Reservation(reservation_id, demand, taken, state.day, state.month, standing(state))


def _longer(
    first: tuple[Dimension, int, int, int | None] | None, second: tuple[Dimension, int, int, int | None]
) -> tuple[Dimension, int, int, int | None]:
    if first is None or second[3] is None:
        return second
    return first if first[3] is None or first[3] >= second[3] else second


def settle(state: State, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
    """Replace what was reserved by what was used, and free the slot.

    More tokens than reserved become debt, always. Fewer are given back only if ``exact``: an unknown rest counts as
    used. Where no token was taken (there was no limit then), none is asked for. Money is what the ledger says, in the
    windows that it was reserved in; what a later window began with stays its own.
    Needs no clock: the time since the last reserve is refilled by the next one.
    """
    state.in_flight = max(0, state.in_flight - 1)
    extra_tokens = tokens - reservation.tokens_taken
    if state.tokens_limit and reservation.tokens_taken and (extra_tokens > 0 or exact):
        state.tokens = min(state.tokens_limit * SCALE, state.tokens - extra_tokens * SCALE)
    extra_money = nano_usd - reservation.demand.nano_usd
    if reservation.day == state.day:
        state.day_spent += extra_money
    if reservation.month == state.month:
        state.month_spent += extra_money


def standing(state: State) -> Standing:
    """The figures of the ``x-ratelimit-*`` headers for the state as it is."""
    requests, tokens = state.requests_limit, state.tokens_limit
    return Standing(
        requests or None,
        max(0, state.requests) // SCALE if requests else 0,
        -(-(requests * SCALE - state.requests) // requests) if requests else 0,
        tokens or None,
        max(0, state.tokens) // SCALE if tokens else 0,
        -(-(tokens * SCALE - state.tokens) // tokens) if tokens else 0,
    )
