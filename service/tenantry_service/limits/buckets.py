"""The law of limits, as arithmetic: no I/O, no clock, no randomness, integers only.

Two token buckets (requests and tokens per minute) that refill continuously, a count of requests in flight, and a budget
per calendar window; once for the tenant, and once more for a key that has limits of its own. A reservation takes from
all of them or from none. A bucket holds one minute's worth; its level is kept in units of 1/60,000, so that a limit of
R per minute refills exactly R units per millisecond and nothing is ever rounded in anyone's favour.

Every store keeps this state and applies this law: memory with the functions here, Redis with ``transact.lua``. Redis
reckons with doubles, so nothing may leave the integers that they hold exactly: limits end at 10^10 a minute, debt at
2^52 units and money at 2^53 - 1 nano-USD, in both. The same property tests run against each.
"""

from typing import Final

from tenantry_service.limits.bounds import NO_BUDGET, Bounds
from tenantry_service.limits.decisions import (
    MOST_MONEY,
    MOST_TOKENS,
    NOT_LIMITED,
    Demand,
    Dimension,
    Refusal,
    Reservation,
    Standing,
)
from tenantry_service.limits.windows import window_end, window_start
from tenantry_service.policy import Window

#: Bucket units per request or token: milliseconds per minute.
SCALE: Final = 60_000
#: How far a server's clock may step back and be waited for, in ms. After a longer step time begins anew there: no more
#: than one bucket is gained if the clock then returns, and nobody waits for hours because it once was wrong.
MOST_WAITED_FOR: Final = SCALE
#: The deepest debt: see the module.
DEEPEST: Final = -(2**52)
# As they are: looking a member of an enum up in its class takes long.
_DAY: Final = Window.DAY
_MONTH: Final = Window.MONTH


class State:
    """What a store keeps per scope. Levels are in bucket units and may be negative (debt)."""

    __slots__ = (
        "bounds",
        "day",
        "day_ends_ms",
        "day_spent",
        "in_flight",
        "month",
        "month_spent",
        "requests",
        "tokens",
        "updated_ms",
    )

    def __init__(self) -> None:
        #: What it was held to when it was last advanced.
        self.bounds = Bounds()
        self.requests = 0
        self.tokens = 0
        self.updated_ms = 0
        self.in_flight = 0
        #: Both kinds of windows are counted, whatever the budget is: a budget that changes its window loses nothing.
        #: Beginnings in Unix seconds, the day's end in Unix milliseconds.
        self.day = 0
        self.day_ends_ms = 0
        self.day_spent = 0
        self.month = 0
        self.month_spent = 0

    def spent(self, window: Window) -> int:
        """Nano-USD taken in the present window of a kind."""
        return self.day_spent if window is _DAY else self.month_spent


#: How long to stay away when all slots are taken: about one short answer.
CONCURRENCY_WAIT_MS: Final = 1000


def advance(state: State, held: Bounds, now_ms: int, wall_ms: int) -> None:
    """Refill for the time that passed and open new budget windows if the calendar says so.

    A clock that steps back refills nothing and closes no window. A changed limit keeps what was already used: a raised
    one adds the difference, a lowered one takes it away; the time before the change refills at the old rate.
    """
    elapsed = now_ms - state.updated_ms
    if elapsed > 0 or elapsed < -MOST_WAITED_FOR:
        state.updated_ms = now_ms
    if elapsed < 0:
        elapsed = 0
    old = state.bounds
    if held.requests or old.requests:
        state.requests = _refilled(state.requests, old.requests, held.requests, elapsed)
    if held.tokens or old.tokens:
        state.tokens = _refilled(state.tokens, old.tokens, held.tokens, elapsed)
    state.bounds = held
    if wall_ms >= state.day_ends_ms:
        _open_windows(state, wall_ms)


def _open_windows(state: State, wall_ms: int) -> None:
    state.day, state.day_spent = window_start(_DAY, wall_ms), 0
    state.day_ends_ms = window_end(_DAY, state.day) * 1000
    month = window_start(_MONTH, wall_ms)
    if month > state.month:
        state.month, state.month_spent = month, 0


def _refilled(level: int, old_limit: int, limit: int, elapsed_ms: int) -> int:
    level = min(old_limit * SCALE, level + old_limit * elapsed_ms)
    return level if limit == old_limit else max(DEEPEST, level + (limit - old_limit) * SCALE)


def reserve(
    tenant: State, key: State | None, demand: Demand, reservation_id: str, wall_ms: int, key_name: str = ""
) -> Reservation | Refusal:
    """Take one request, its tokens, one slot and its money: all of them of tenant and key, or none and say why.

    Call :func:`advance` first, for both.
    """
    refused = refusal(tenant, key, demand, wall_ms)
    if refused is not None:
        return refused
    _take(tenant, demand)
    if key is not None:
        _take(key, demand)
    return Reservation(
        reservation_id,
        demand,
        demand.tokens if tenant.bounds.tokens else NOT_LIMITED,
        tenant.day,
        tenant.month,
        standing(tenant, key),
        "" if key is None else key_name,
        demand.tokens if key is not None and key.bounds.tokens else NOT_LIMITED,
    )


def _take(state: State, demand: Demand) -> None:
    if state.bounds.requests:
        state.requests -= SCALE
    if state.bounds.tokens:
        state.tokens -= demand.tokens * SCALE
    state.in_flight += 1
    state.day_spent = min(MOST_MONEY, state.day_spent + demand.nano_usd)
    state.month_spent = min(MOST_MONEY, state.month_spent + demand.nano_usd)


def refusal(tenant: State, key: State | None, demand: Demand, wall_ms: int) -> Refusal | None:
    """Why this demand cannot be met now; None if it can. Of several dimensions that refuse, a budget is named before
    all others, else the one with the longest wait."""
    found = _refusal(tenant, demand, wall_ms, None, of_key=False)
    if key is not None:
        found = _refusal(key, demand, wall_ms, found, of_key=True)
    if found is not None:
        found.standing = standing(tenant, key)
    return found


def _refusal(state: State, demand: Demand, wall_ms: int, found: Refusal | None, *, of_key: bool) -> Refusal | None:
    held = state.bounds
    if held.requests and state.requests < SCALE:
        wait = -(-(SCALE - state.requests) // held.requests)
        found = _longer(found, Dimension.REQUESTS, held.requests, 1, wait, of_key)
    if held.tokens and state.tokens < demand.tokens * SCALE:
        lacking = demand.tokens * SCALE - state.tokens
        never = demand.tokens > held.tokens
        found = _longer(
            found, Dimension.TOKENS, held.tokens, demand.tokens, None if never else -(-lacking // held.tokens), of_key
        )
    if held.slots and state.in_flight >= held.slots:
        found = _longer(found, Dimension.CONCURRENCY, held.slots, 1, CONCURRENCY_WAIT_MS, of_key)
    if held.budget != NO_BUDGET and held.refuses:
        window = _DAY if held.daily else _MONTH
        if state.spent(window) + demand.nano_usd > held.budget:
            begun = state.day if held.daily else state.month
            never = demand.nano_usd > held.budget
            until = None if never else window_end(window, begun) * 1000 - wall_ms
            found = _longer(found, Dimension.BUDGET, held.budget, demand.nano_usd, until, of_key)
    return found


def _longer(
    found: Refusal | None, dimension: Dimension, limit: int, requested: int, wait_ms: int | None, of_key: bool
) -> Refusal:
    """The one of two that says more: a budget, then what never fits, then the longer wait."""
    if found is not None:
        first, second = found.dimension is Dimension.BUDGET, dimension is Dimension.BUDGET
        if first and not second:
            return found
        if first == second:
            before = found.wait_ms
            if before is None and wait_ms is not None:
                return found
            if before is not None and wait_ms is not None and before >= wait_ms:
                return found
    return Refusal(dimension, limit, requested, wait_ms, _NOWHERE, of_key)


def settle(
    tenant: State, key: State | None, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool
) -> None:
    """Replace what was reserved by what was used, and free the slot.

    More tokens than reserved become debt, always. Fewer are given back only if ``exact``: an unknown rest counts as
    used. Where no token was taken (there was no limit then), none is asked for. Money is what the ledger says, in the
    windows that it was reserved in; what a later window began with stays its own.
    Needs no clock: the time since the last reserve is refilled by the next one.
    """
    _settle(tenant, reservation, reservation.tokens_taken, tokens, nano_usd, exact)
    if key is not None:
        _settle(key, reservation, reservation.key_tokens_taken, tokens, nano_usd, exact)


def _settle(state: State, reservation: Reservation, taken: int, tokens: int, nano_usd: int, exact: bool) -> None:
    state.in_flight = max(0, state.in_flight - 1)
    limit = state.bounds.tokens
    extra_tokens = min(tokens, MOST_TOKENS) - taken
    if limit and taken != NOT_LIMITED and (extra_tokens > 0 or exact):
        state.tokens = max(DEEPEST, min(limit * SCALE, state.tokens - extra_tokens * SCALE))
    extra_money = min(nano_usd, MOST_MONEY) - reservation.demand.nano_usd
    if reservation.day == state.day:
        state.day_spent = min(MOST_MONEY, state.day_spent + extra_money)
    if reservation.month == state.month:
        state.month_spent = min(MOST_MONEY, state.month_spent + extra_money)


def standing(tenant: State, key: State | None) -> Standing:
    """The figures of the ``x-ratelimit-*`` headers for the states as they are."""
    of_requests = of_tokens = tenant
    if key is not None:
        held, own = key.bounds, tenant.bounds
        if held.requests and (not own.requests or key.requests < tenant.requests):
            of_requests = key
        if held.tokens and (not own.tokens or key.tokens < tenant.tokens):
            of_tokens = key
    requests, tokens = of_requests.bounds.requests, of_tokens.bounds.tokens
    return Standing(
        requests or None,
        max(0, of_requests.requests) // SCALE if requests else 0,
        -(-(requests * SCALE - of_requests.requests) // requests) if requests else 0,
        tokens or None,
        max(0, of_tokens.tokens) // SCALE if tokens else 0,
        -(-(tokens * SCALE - of_tokens.tokens) // tokens) if tokens else 0,
    )


_NOWHERE = Standing()
