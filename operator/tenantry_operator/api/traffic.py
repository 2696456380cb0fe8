"""What may be asked for and where it goes: models, routes, prices, and the upstreams that answer.

Every field is optional where a tier may give its default; see ``settings.py``.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct, field

from tenantry_operator.api.rules import (
    DNS_LABEL,
    DNS_LABEL_REMEDY,
    DNS_NAME,
    Quantity,
    Rule,
    about,
    duration,
    mapping,
    number,
    sequence,
    text,
    within,
)
from tenantry_operator.api.units import KEPT_RANGE, RATE_REMEDY, USD_PATTERN

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

    default: (
        Annotated[
            str,
            text(
                "The model of chats, completions and responses that name none; must be one that may be called."
                " Default: they are refused.",
                min_length=1,
                max_length=128,
            ),
        ]
        | None
    ) = None
    max_output_tokens: (
        Annotated[
            int,
            number(
                "Most output tokens of one answer; put into requests that ask for more or do not say. Default: none.",
                ge=1,
                le=10_000_000,
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


class UnknownRoute(StrEnum):
    """What happens to routes of the API that the service does not know."""

    ALLOW = "Allow"
    REFUSE = "Refuse"


class Routes(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which routes of the API may be called."""

    allow: (
        Annotated[
            tuple[
                Annotated[
                    str,
                    text(
                        "A path, or a pattern of paths.",
                        min_length=1,
                        max_length=256,
                        pattern=r"\*|/v1/[A-Za-z0-9_.:@~/*?-]*",
                        remedy='must be "*" or begin with /v1/, with "*" for any characters and "?" for one,'
                        ' for example "/v1/chat/*"',
                    ),
                ],
                ...,
            ],
            sequence("Paths that may be called. Default: all.", max_length=64, unique=True),
        ]
        | None
    ) = None
    unknown: (
        Annotated[
            UnknownRoute,
            about(
                "Allow /v1 routes that the service does not know (a request is counted, and tokens if the answer says"
                " how many), or Refuse them. Default: Allow."
            ),
        ]
        | None
    ) = None


def _rate(description: str) -> Meta:
    return text(description, min_length=1, max_length=17, pattern=USD_PATTERN, remedy=RATE_REMEDY)


class TokenRates(Struct, frozen=True, kw_only=True, rename="camel"):
    """What tokens cost, in US dollars per million."""

    input: Annotated[str, _rate("Input tokens.")]
    output: Annotated[str, _rate("Output tokens.")]
    cached_input: Annotated[str, _rate("Input tokens that were cached. Default: as input.")] | None = None
    cache_write: Annotated[str, _rate("Input tokens that are put into the cache. Default: as input.")] | None = None
    audio_input: Annotated[str, _rate("Audio, as input. Default: as input.")] | None = None
    audio_output: Annotated[str, _rate("Audio, as output. Default: as output.")] | None = None
    image_input: Annotated[str, _rate("Images, as input. Default: as input.")] | None = None
    image_output: Annotated[str, _rate("Images, as output. Default: as output.")] | None = None


class LongContext(TokenRates, frozen=True, kw_only=True, rename="camel"):
    """What tokens cost in a request with a long input."""

    above: Annotated[int, number("Input tokens beyond which a request costs this, all of it.", ge=1, le=100_000_000)]


class TierRates(TokenRates, frozen=True, kw_only=True, rename="camel"):
    """What tokens cost in one service tier."""

    long_context: Annotated[LongContext, about("Instead of these, for long inputs. Default: these.")] | None = None


class Rates(TierRates, frozen=True, kw_only=True, rename="camel"):
    """What a model's tokens cost, in US dollars per million."""

    tiers: (
        Annotated[
            dict[str, Annotated[TierRates, about("What tokens cost there.")]],
            mapping(
                "Service tier, as the answer names it (flex, priority, batch) -> its rates. Default: as above.",
                max_length=8,
            ),
        ]
        | None
    ) = None

    rules: ClassVar = (
        Rule(
            f"!has(self.tiers) || self.tiers.all(name, name.size() <= 63 && name.matches('^(?:{DNS_LABEL})$'))",
            "each name must have lower-case letters, digits and '-', at most 63",
            ".tiers",
        ),
    )


class UnknownModel(StrEnum):
    """What happens to a model that has no price."""

    CHARGE_DEFAULT = "ChargeDefault"
    REFUSE = "Refuse"


class Pricing(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is charged against the budget."""

    rates: (
        Annotated[
            dict[str, Annotated[Rates, about("What the model's tokens cost.")]],
            mapping(
                "Model, as the upstream is asked for it -> its rates, which replace or complete the price table.",
                max_length=64,
            ),
        ]
        | None
    ) = None
    unknown_model: (
        Annotated[
            UnknownModel,
            about("Charge models without a price as much as gpt-4o, or Refuse them. Default: ChargeDefault."),
        ]
        | None
    ) = None

    rules: ClassVar = (
        Rule(
            "!has(self.rates) || self.rates.all(name, name.size() > 0 && name.size() <= 128)",
            "each name must have 1 to 128 characters",
            ".rates",
        ),
    )


class Keeping(Struct, frozen=True, kw_only=True, rename="camel"):
    """Answers that are kept for a while, to be given again."""

    enabled: Annotated[bool, about("Whether any are kept. Default: true, where any of these is said.")] | None = None
    ttl: Annotated[str, duration("How long an answer is kept, 168h at most. Default: 1h.")] | None = None
    max_size: Annotated[Quantity, about("How much each pod keeps of them, in bytes. Default: 16Mi.")] | None = None

    rules: ClassVar = (
        within("maxSize", *KEPT_RANGE),
        Rule(
            "!has(self.ttl) || self.ttl == '' || (duration(self.ttl) >= duration('1s')"
            " && duration(self.ttl) <= duration('168h'))",
            "must be from 1s to 168h",
            ".ttl",
        ),
    )


class CredentialHeader(StrEnum):
    """Which header carries an upstream's credential."""

    AUTHORIZATION = "Authorization"
    API_KEY = "api-key"


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
    credential_header: (
        Annotated[
            CredentialHeader,
            about(
                "Which header carries the credential: Authorization (as Bearer) or api-key."
                " Default: api-key for Azure's hosts, Authorization for all others."
            ),
        ]
        | None
    ) = None
