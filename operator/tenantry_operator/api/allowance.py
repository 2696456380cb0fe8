"""Who may ask, and how much: keys, limits and budget.

Every field is optional where a tier may give its default; see ``settings.py``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from tenantry_operator.api.rules import (
    DNS_LABEL,
    DNS_LABEL_REMEDY,
    Quantity,
    about,
    duration,
    number,
    text,
    within,
)
from tenantry_operator.api.units import BODY_RANGE, UPLOAD_RANGE, USD_PATTERN, USD_REMEDY


class WhenUnavailable(StrEnum):
    """What happens to requests while the shared limit counters cannot be reached."""

    REFUSE = "Refuse"
    LOCAL_SHARE = "LocalShare"


class BudgetWindow(StrEnum):
    """How long a budget lasts before it starts anew, in calendar days or months, UTC."""

    DAY = "Day"
    MONTH = "Month"


class OnExceeded(StrEnum):
    """What happens to requests once the budget is spent."""

    REFUSE = "Refuse"
    WARN = "Warn"


class KeyLimits(Struct, frozen=True, kw_only=True, rename="camel"):
    """How much may be asked for with one key."""

    requests_per_minute: (
        Annotated[int, number("Requests per minute. Default: unlimited.", ge=1, le=10_000_000)] | None
    ) = None
    tokens_per_minute: (
        Annotated[int, number("Tokens (in and out) per minute. Default: unlimited.", ge=1, le=10_000_000_000)] | None
    ) = None
    concurrent_requests: (
        Annotated[int, number("Requests in flight at any moment. Default: unlimited.", ge=1, le=1_000_000)] | None
    ) = None


class Limits(KeyLimits, frozen=True, kw_only=True, rename="camel"):
    """How much may be asked for: all keys of a tenant together, not each of them."""

    when_unavailable: (
        Annotated[
            WhenUnavailable,
            about(
                "While the shared counters cannot be reached, Refuse (503 with Retry-After) or LocalShare (each pod"
                " grants its share of the limit). Default: Refuse. Without shared counters, each pod counts for itself."
            ),
        ]
        | None
    ) = None
    require_declared_max_tokens: (
        Annotated[
            bool,
            about(
                "Refuse chats, completions and responses that do not say how many tokens they may have at most, so"
                " that no estimate is below the truth. Default: false."
            ),
        ]
        | None
    ) = None
    max_body_size: (
        Annotated[
            Quantity,
            about("Greatest body that is read whole before it is passed on (JSON), in bytes. Default: 20Mi."),
        ]
        | None
    ) = None
    max_upload_size: (
        Annotated[
            Quantity,
            about("Greatest body that passes through (files, audio, images), in bytes. Default: 512Mi."),
        ]
        | None
    ) = None

    rules: ClassVar = (within("maxBodySize", *BODY_RANGE), within("maxUploadSize", *UPLOAD_RANGE))


class Budget(Struct, frozen=True, kw_only=True, rename="camel"):
    """How much may be spent."""

    amount: (
        Annotated[
            str,
            text(
                "US dollars that may be spent in one window. Default: no budget.",
                min_length=1,
                max_length=17,
                pattern=USD_PATTERN,
                remedy=USD_REMEDY,
            ),
        ]
        | None
    ) = None
    window: Annotated[BudgetWindow, about("Day or Month, in UTC. Default: Month.")] | None = None
    on_exceeded: (
        Annotated[OnExceeded, about("Refuse further requests, or Warn (count and report only). Default: Refuse.")]
        | None
    ) = None


class Key(Struct, frozen=True, kw_only=True, rename="camel"):
    """One API key, issued into a Secret of its own."""

    name: Annotated[
        str,
        text(
            "Name of the key; its Secret is called key-<name>.",
            min_length=1,
            max_length=40,
            pattern=DNS_LABEL,
            remedy=DNS_LABEL_REMEDY,
        ),
    ]
    rotation: Annotated[
        int,
        number(
            "Raise it to have a new key issued. A number that was used before issues nothing. Default: 0.",
            ge=0,
            le=1_000_000,
        ),
    ] = 0
    grace_period: (
        Annotated[
            str,
            duration("How long the previous key stays good after a rotation; 0s: not at all. Default: 24h."),
        ]
        | None
    ) = None
    expires_at: (
        Annotated[datetime, Meta(description="From then on the key is refused. Default: never.", tz=True)] | None
    ) = None
    limits: (
        Annotated[KeyLimits, about("How much may be asked for with this key, within the tenant's limits.")] | None
    ) = None
    budget: Annotated[Budget, about("How much may be spent with this key, within the tenant's budget.")] | None = None
