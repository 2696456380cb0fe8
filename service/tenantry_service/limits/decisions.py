"""What is asked of limits, and what they decide: words only, without arithmetic. Pure."""

import enum
from typing import Final

#: The most tokens of one request and the most money (nano-USD) that are reckoned with: see ``buckets.py``.
MOST_TOKENS: Final = 10**10 + 1
MOST_MONEY: Final = 2**53 - 1
#: Tokens taken where there was no limit to take them from: nothing is asked for and nothing given back.
NOT_LIMITED: Final = -1


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
        self.tokens = tokens if tokens < MOST_TOKENS else MOST_TOKENS
        self.nano_usd = nano_usd if nano_usd < MOST_MONEY else MOST_MONEY


class Standing:
    """Where a caller stands after a decision; what ``x-ratelimit-*`` says: per dimension the scope with the least left.
    Resets are milliseconds until full. A limit of None does not limit (its other figures are then 0)."""

    __slots__ = (
        "requests_left",
        "requests_limit",
        "requests_reset_ms",
        "tokens_left",
        "tokens_limit",
        "tokens_reset_ms",
    )

    def __init__(
        self,
        requests_limit: int | None = None,
        requests_left: int = 0,
        requests_reset_ms: int = 0,
        tokens_limit: int | None = None,
        tokens_left: int = 0,
        tokens_reset_ms: int = 0,
    ) -> None:
        self.requests_limit = requests_limit
        self.requests_left = requests_left
        self.requests_reset_ms = requests_reset_ms
        self.tokens_limit = tokens_limit
        self.tokens_left = tokens_left
        self.tokens_reset_ms = tokens_reset_ms


class Refusal:
    """Not admitted. ``wait_ms`` is exact: the same demand fits then if nothing else comes; None: it never fits.
    For concurrency the wait is a guess, since nobody knows when a running request ends. ``of_key``: the limit is one of
    the key, not of the tenant."""

    __slots__ = ("dimension", "limit", "of_key", "requested", "standing", "wait_ms")

    def __init__(
        self,
        dimension: Dimension,
        limit: int,
        requested: int,
        wait_ms: int | None,
        standing: Standing,
        of_key: bool = False,
    ) -> None:
        self.dimension = dimension
        self.limit = limit
        self.requested = requested
        self.wait_ms = wait_ms
        self.standing = standing
        self.of_key = of_key


class Reservation:
    """Admitted: what was taken, to be settled exactly once. The tokens taken are ``NOT_LIMITED`` where there was no
    limit of tokens. ``key_name`` is empty if the key has no limits of its own. ``day`` and ``month`` are the budget
    windows it was taken from (Unix seconds). ``local``: the shared store knows nothing of it."""

    __slots__ = ("day", "demand", "id", "key_name", "key_tokens_taken", "local", "month", "standing", "tokens_taken")

    def __init__(
        self,
        id: str,  # noqa: A002
        demand: Demand,
        tokens_taken: int,
        day: int,
        month: int,
        standing: Standing,
        key_name: str = "",
        key_tokens_taken: int = NOT_LIMITED,
        local: bool = False,
    ) -> None:
        self.id = id
        self.demand = demand
        self.tokens_taken = tokens_taken
        self.day = day
        self.month = month
        self.standing = standing
        self.key_name = key_name
        self.key_tokens_taken = key_tokens_taken
        self.local = local
