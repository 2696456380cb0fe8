"""The law of limits, as arithmetic: no I/O, no clock, no randomness, integers only.

Two token buckets (requests and tokens per minute) that refill continuously, a count of requests in flight, and a budget
per calendar window. A reservation takes from all of them or from none. A bucket holds one minute's worth; its level is
kept in units of 1/60,000,000, so that a limit of R per minute refills exactly R units per microsecond and nothing is
ever rounded in anyone's favour.

Every store (memory, Redis) keeps this state and applies this law; the same property tests run against each.
"""

import enum
from datetime import UTC, datetime

from msgspec import Struct

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


class Demand(Struct, frozen=True, gc=False):
    """What a request asks for before it is sent: estimated tokens, and the most it may cost (nano-USD)."""

    tokens: int = 0
    nano_usd: int = 0


class Standing(Struct, frozen=True, gc=False):
    """Where a tenant stands after a decision; what ``x-ratelimit-*`` says. Resets are microseconds until full.
    A limit of None does not limit (its other figures are then 0)."""

    requests_limit: int | None = None
    requests_left: int = 0
    requests_reset_us: int = 0
    tokens_limit: int | None = None
    tokens_left: int = 0
    tokens_reset_us: int = 0


class Refusal(Struct, frozen=True, gc=False):
    """Not admitted. ``wait_us`` is exact: the same demand fits then if nothing else comes; None: it never fits.
    For concurrency the wait is a guess, since nobody knows when a running request ends."""

    dimension: Dimension
    limit: int
    requested: int
    wait_us: int | None
    standing: Standing


class Reservation(Struct, frozen=True, gc=False):
    """Admitted: what was taken, to be settled exactly once. ``window_start`` is the budget window it was taken from
    (Unix seconds; 0 without a budget)."""

    id: str
    demand: Demand
    window_start: int
    standing: Standing


class State:
    """What a store keeps per tenant. Levels are in bucket units and may be negative (debt)."""

    __slots__ = (
        "in_flight",
        "requests",
        "requests_limit",
        "spent",
        "tokens",
        "tokens_limit",
        "updated_us",
        "window",
        "window_ends_us",
        "window_kind",
    )

    def __init__(self) -> None:
        self.requests_limit = 0
        self.requests = 0
        self.tokens_limit = 0
        self.tokens = 0
        self.updated_us = 0
        self.in_flight = 0
        #: Budget window: its beginning (Unix seconds), its end (Unix microseconds), and which kind of window it is.
        self.window = 0
        self.window_ends_us = 0
        self.window_kind: Window | None = None
        self.spent = 0


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


def advance(state: State, limits: Limits, budget: Budget | None, now_us: int, wall_us: int) -> None:
    """Refill for the time that passed and open a new budget window if the calendar says so.

    A clock that steps back refills nothing and closes no window. A changed limit keeps what was already used:
    a raised one adds the difference, a lowered one takes it away.
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
    if budget is not None and (wall_us >= state.window_ends_us or budget.window is not state.window_kind):
        _open_window(state, budget.window, wall_us)


def _open_window(state: State, kind: Window, wall_us: int) -> None:
    start = window_start(kind, wall_us)
    state.window_kind = kind
    if start > state.window:
        state.window = start
        state.spent = 0
    state.window_ends_us = window_end(kind, max(start, state.window)) * _SECOND


def _refilled(level: int, old_limit: int, limit: int, elapsed_us: int) -> int:
    if limit != old_limit:
        level += (limit - old_limit) * SCALE
    return min(limit * SCALE, level + limit * elapsed_us)


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
        and state.spent + demand.nano_usd > budget.amount_nano_usd
    ):
        fits = demand.nano_usd <= budget.amount_nano_usd
        until = window_end(budget.window, state.window) * _SECOND - wall_us if fits else None
        refused = (Dimension.BUDGET, budget.amount_nano_usd, demand.nano_usd, until)
    if refused is not None:
        return Refusal(*refused, standing(state))
    if state.requests_limit:
        state.requests -= SCALE
    if state.tokens_limit:
        state.tokens -= demand.tokens * SCALE
    state.in_flight += 1
    if budget is not None:
        state.spent += demand.nano_usd
    return Reservation(reservation_id, demand, state.window if budget is not None else 0, standing(state))


def _longer(
    first: tuple[Dimension, int, int, int | None] | None, second: tuple[Dimension, int, int, int | None]
) -> tuple[Dimension, int, int, int | None]:
    if first is None or second[3] is None:
        return second
    return first if first[3] is None or first[3] >= second[3] else second


def settle(
    state: State, budget: Budget | None, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool
) -> None:
    """Replace what was reserved by what was used, and free the slot.

    More than reserved becomes debt, always. Less is given back only if ``exact``: an unknown rest counts as used.
    Money is corrected only in the window that it was reserved in; what a later window began with stays its own.
    Needs no clock: the time since the last reserve is refilled by the next one.
    """
    state.in_flight = max(0, state.in_flight - 1)
    extra_tokens = tokens - reservation.demand.tokens
    if state.tokens_limit and (extra_tokens > 0 or exact):
        state.tokens = min(state.tokens_limit * SCALE, state.tokens - extra_tokens * SCALE)
    extra_money = nano_usd - reservation.demand.nano_usd
    if budget is not None and reservation.window_start == state.window and (extra_money > 0 or exact):
        state.spent = max(0, state.spent + extra_money)


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
