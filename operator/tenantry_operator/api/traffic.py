"""What a tenant's users may ask for: keys, limits, budget, models, and the upstreams that requests go to.

Every field is optional where a tier may give its default; see ``settings.py``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct, field

from tenantry_operator.api.rules import (
    DNS_LABEL,
    DNS_LABEL_REMEDY,
    DNS_NAME,
    Rule,
    about,
    mapping,
    number,
    reserved,
    sequence,
    text,
)
from tenantry_operator.api.units import DURATION_PATTERN, DURATION_REMEDY, USD_PATTERN, USD_REMEDY

ModelGlob = Annotated[
    str,
    text(
        "A model name, or a pattern of names.",
        min_length=1,
        max_length=128,
        pattern=r"[A-Za-z0-9_.:/@*?+-]+",
        remedy='must be a model name, with "*" for any characters and "?" for one, for example "gpt-4o*"',
    ),
]

#: A host of labels as RFC 1123 has them, a port that exists, so that every reader of the URL takes it, and a path.
_HOST_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_PORT = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
BASE_URL = rf"https?://{_HOST_LABEL}(\.{_HOST_LABEL})*(:({_PORT}))?(/[-A-Za-z0-9._~/%]*)?"


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
            text(
                "How long the previous key stays good after a rotation; 0s: not at all. Default: 24h.",
                min_length=2,
                max_length=20,
                pattern=DURATION_PATTERN,
                remedy=DURATION_REMEDY,
            ),
        ]
        | None
    ) = None
    expires_at: (
        Annotated[datetime, Meta(description="From then on the key is refused. Default: never.", tz=True)] | None
    ) = None


class Limits(Struct, frozen=True, kw_only=True, rename="camel"):
    """How much may be asked for: all keys of a tenant together, not each of them."""

    requests_per_minute: (
        Annotated[int, number("Requests per minute. Default: unlimited.", ge=1, le=10_000_000)] | None
    ) = None
    tokens_per_minute: (
        Annotated[int, number("Tokens (in and out) per minute. Default: unlimited.", ge=1, le=10_000_000_000)] | None
    ) = None
    concurrent_requests: (
        Annotated[int, number("Requests in flight at any moment. Default: unlimited.", ge=1, le=1_000_000)] | None
    ) = None
    when_unavailable: (
        Annotated[
            WhenUnavailable,
            about(
                reserved(
                    "while shared counters cannot be reached, Refuse (503 with Retry-After) or LocalShare (each pod"
                    " grants its share of the limit). Default: Refuse. Until counters are shared, each pod counts for"
                    " itself."
                )
            ),
        ]
        | None
    ) = None


class Budget(Struct, frozen=True, kw_only=True, rename="camel"):
    """How much may be spent."""

    amount: (
        Annotated[
            str,
            text(
                "US dollars that may be spent in one window. Default: no budget.",
                min_length=1,
                max_length=19,
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


class Models(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which models may be asked for, and under which names."""

    allow: (
        Annotated[
            tuple[ModelGlob, ...],
            sequence("Models that may be called, by name or pattern. Default: all.", max_length=64, unique=True),
        ]
        | None
    ) = None
    aliases: (
        Annotated[
            dict[str, Annotated[str, text("The model that is called instead.", min_length=1, max_length=128)]],
            mapping(
                "Other names for models: what the tenant asks for -> what the upstream is asked for.", max_length=64
            ),
        ]
        | None
    ) = None

    rules: ClassVar = (
        Rule(
            "!has(self.aliases) || self.aliases.all(name, name.size() > 0 && name.size() <= 128)",
            "each name must have 1 to 128 characters",
            ".aliases",
        ),
    )


class Upstream(Struct, frozen=True, kw_only=True, rename="camel"):
    """One place where requests go."""

    name: Annotated[
        str,
        text("Name of the upstream.", min_length=1, max_length=40, pattern=DNS_LABEL, remedy=DNS_LABEL_REMEDY),
    ]
    base_url: Annotated[
        str,
        text(
            "Where its OpenAI-compatible API begins, with the version: https://api.openai.com/v1.",
            min_length=1,
            max_length=512,
            pattern=BASE_URL,
            remedy="must be an http or https URL of a host, a port from 1 to 65535 if any, and a path, without user,"
            ' query or fragment: for example "https://api.openai.com/v1"',
        ),
    ] = field(name="baseURL")
    credentials_secret: (
        Annotated[
            str,
            text(
                "Secret with the upstream's api-key, in the operator's namespace, labelled"
                " tenantry.dev/upstream-credentials=true. Default: none; requests go out without credentials.",
                min_length=1,
                max_length=253,
                pattern=DNS_NAME,
                remedy='must be the name of a Secret: lower-case letters, digits, "-" and "."',
            ),
        ]
        | None
    ) = None
    priority: Annotated[int, number("Lower is tried first; equal ones share the requests.", ge=0, le=100)] = 0
    models: Annotated[
        tuple[ModelGlob, ...],
        sequence("Models that this upstream serves, by name or pattern. Default: all.", max_length=64),
    ] = ()
