"""The contract between operator and service: what a process may do for one tenant.

The operator writes one such document per tenant (ConfigMap ``tenantry-policy``, key ``policy.json``); the service
reads it, swaps it in as an immutable snapshot and reports the ``revision`` it serves. JSON, camelCase. Unknown fields
are ignored on read, because an operator may be newer than the pods that it steers; a field that is known but wrong is
refused with its name.

Pure: no I/O, no clock. Money is integer nano-USD (1 USD = 1,000,000,000).
"""

import enum
import hashlib
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

API_VERSION = "policy.tenantry.dev/v1"

#: Bytes of request body accepted when the document does not say. Holds a chat with several inline images;
#: bodies are held in memory while they are inspected, so this also bounds what one connection can cost.
DEFAULT_MAX_BODY_BYTES = 20 * 1024 * 1024

#: Bytes accepted where the body passes through without being held (files, audio, images): OpenAI's own limit of a file.
DEFAULT_MAX_UPLOAD_BYTES = 512 * 1024 * 1024

PositiveInt = Annotated[int, Meta(ge=1, le=2**53 - 1)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=2**53 - 1)]
#: Ten billion a minute: what the limiters' arithmetic is exact for, with room (see ``limits/buckets.py``).
PerMinute = Annotated[int, Meta(ge=1, le=10**10)]
Name = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


class PolicyError(ValueError):
    """The document cannot be served. ``field`` is the JSON path of what is wrong, the message says what to do."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class WhenUnavailable(enum.StrEnum):
    """What to do while the shared limiter cannot be asked."""

    REFUSE = "Refuse"
    LOCAL_SHARE = "LocalShare"


class Window(enum.StrEnum):
    """Budget windows; both begin at 00:00 UTC (of the day, of the first of the month)."""

    DAY = "Day"
    MONTH = "Month"


class OnExceeded(enum.StrEnum):
    """What an exhausted budget does: refuse (429 ``insufficient_quota``) or only show in metrics."""

    REFUSE = "Refuse"
    WARN = "Warn"


class UnknownModel(enum.StrEnum):
    """What happens to a model that has no price: charged at the table's declared default, or refused. Never free."""

    CHARGE_DEFAULT = "ChargeDefault"
    REFUSE = "Refuse"


class UnknownRoute(enum.StrEnum):
    """What happens to a ``/v1`` route that the service does not know: passed on (one request is counted; tokens only if
    the answer says how many), or refused."""

    ALLOW = "Allow"
    REFUSE = "Refuse"


class CredentialHeader(enum.StrEnum):
    """Which header carries an upstream's credential."""

    AUTHORIZATION = "Authorization"
    API_KEY = "api-key"


class KeyLimits(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one API key may do, within what its tenant may; an absent limit does not limit."""

    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    concurrent_requests: PositiveInt | None = None


class Limits(KeyLimits, frozen=True, kw_only=True, rename="camel"):
    """Limits of the tenant."""

    when_unavailable: WhenUnavailable = WhenUnavailable.REFUSE
    #: Refuse what generates text without saying how much at most: then estimates are never below the truth.
    require_declared_max_tokens: bool = False


class Budget(Struct, frozen=True, kw_only=True, rename="camel"):
    """Money that may be spent in one window."""

    amount_nano_usd: NonNegativeInt
    window: Window
    on_exceeded: OnExceeded = OnExceeded.REFUSE


class Key(Struct, frozen=True, kw_only=True, rename="camel"):
    """One API key, without its secret."""

    id: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9]+$")]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    #: SHA-256 (hex) of the whole key string ``tn_<id>_<secret>``.
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    #: RFC 3339 with an offset; the key is refused from this moment on. None: it does not expire.
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    limits: KeyLimits | None = None
    budget: Budget | None = None


class Models(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which models the tenant may name. ``allow`` holds shell globs (``gpt-4o*``) for the names that callers give;
    ``aliases`` maps such a name to the model that the upstream gets. A declared alias is allowed by being declared."""

    allow: tuple[ModelName, ...] = ("*",)
    aliases: dict[ModelName, ModelName] = {}
    #: Stands in where a chat, a completion or a response names no model.
    default: ModelName | None = None
    #: The most output tokens of one answer, put into requests that declare none or more. None: as the caller says.
    max_output_tokens: PositiveInt | None = None


class Routes(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which routes the tenant may call. ``allow`` holds shell globs for paths (``/v1/chat/*``). Routes with state
    (files, batches, stored responses) show what belongs to the upstream's account: tenants that share a credential
    share that."""

    allow: tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...] = ("*",)
    unknown: UnknownRoute = UnknownRoute.ALLOW


class Upstream(Struct, frozen=True, kw_only=True, rename="camel"):
    """A server that answers. The lowest ``priority`` whose ``models`` match is asked first."""

    name: Name
    #: What one would give to the OpenAI SDK as ``base_url``; an empty path means ``/v1``.
    base_url: str
    #: A file with the bearer credential; None for a server that wants none.
    credentials_file: str | None = None
    priority: int = 0
    models: tuple[ModelName, ...] = ("*",)
    #: None: ``api-key`` for Azure's hosts, ``Authorization: Bearer`` for all others.
    credential_header: CredentialHeader | None = None


class Rates(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Prices in nano-USD per 1,000,000 tokens (so 1 USD per million tokens is 1,000,000,000).

    ``cached_input`` and ``cache_write`` default to ``input``; audio and image rates default to the text rates.
    """

    input: NonNegativeInt
    output: NonNegativeInt
    cached_input: NonNegativeInt | None = None
    cache_write: NonNegativeInt | None = None
    audio_input: NonNegativeInt | None = None
    audio_output: NonNegativeInt | None = None
    image_input: NonNegativeInt | None = None
    image_output: NonNegativeInt | None = None
    #: Rates in place of these where the upstream says that it served another tier (``flex``, ``priority``, ``batch``);
    #: a tier that is not here costs what these say.
    tiers: dict[Name, "Rates"] = {}
    #: Rates in place of these for a request with more input tokens than ``long_context_above``.
    long_context: "Rates | None" = None
    long_context_above: PositiveInt | None = None


class Keeping(Struct, frozen=True, kw_only=True, rename="camel"):
    """How long and how much of a tenant's answers a process keeps, to give them again."""

    ttl_seconds: Annotated[int, Meta(ge=1, le=7 * 86_400)] = 3600
    #: Of all that are kept, in each process. One answer may take a quarter of it.
    max_bytes: Annotated[int, Meta(ge=65_536, le=2**30)] = 16 * 1024 * 1024


class Policy(Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything a process needs to know about one tenant."""

    api_version: str = API_VERSION
    tenant: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    #: metadata.generation of the Tenant that this was made from.
    generation: NonNegativeInt
    #: Short SHA-256 of the rest (see :func:`sealed`); what the pod reports.
    revision: Annotated[str, Meta(max_length=64)] = ""
    keys: tuple[Key, ...] = ()
    limits: Limits = Limits()
    budget: Budget | None = None
    models: Models = Models()
    upstreams: Annotated[tuple[Upstream, ...], Meta(min_length=1)]
    routes: Routes = Routes()
    max_body_bytes: PositiveInt = DEFAULT_MAX_BODY_BYTES
    max_upload_bytes: PositiveInt = DEFAULT_MAX_UPLOAD_BYTES
    #: Keep answers that are the same for the same question (embeddings; chats with temperature 0 or a seed).
    cache: Keeping | None = None
    #: Honour ``Idempotency-Key``: a request that comes again is answered again, and not paid again.
    idempotency: Keeping | None = None
    #: Rates that replace or complete the price table, by model name.
    prices: dict[ModelName, Rates] = {}
    unknown_model: UnknownModel = UnknownModel.CHARGE_DEFAULT


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Policy)


def encode(policy: Policy) -> bytes:
    """The document as JSON; the same policy gives the same bytes."""
    return _encoder.encode(policy)


def sealed(policy: Policy) -> Policy:
    """The same policy with its ``revision`` set: 12 hex digits of the SHA-256 of everything else but the generation.

    The generation stays outside: a change of the Tenant which changes nothing for the service is no new revision.
    """
    rest = msgspec.structs.replace(policy, revision="", generation=0)
    return msgspec.structs.replace(policy, revision=hashlib.sha256(encode(rest)).hexdigest()[:12])


def decode(document: bytes) -> Policy:
    """Read a policy document.

    Raises:
        PolicyError: it is not JSON, a field is missing or wrong, or two parts contradict each other.
    """
    try:
        policy = _decoder.decode(document)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        raise PolicyError(path.rstrip("`") or "$", problem) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PolicyError("$", f"not JSON ({error}); the file must hold one policy document") from error
    except RecursionError as error:
        raise PolicyError("$", "is nested too deeply; the file must hold one policy document") from error
    _check(policy)
    return policy


def _check(policy: Policy) -> None:
    if policy.api_version != API_VERSION:
        raise PolicyError("$.apiVersion", f"is {policy.api_version!r}; this service reads {API_VERSION!r}")
    _check_unique("$.keys", "id", [key.id for key in policy.keys])
    _check_unique("$.upstreams", "name", [upstream.name for upstream in policy.upstreams])
    for index, upstream in enumerate(policy.upstreams):
        problem = base_url_problem(upstream.base_url)
        if problem:
            raise PolicyError(f"$.upstreams[{index}].baseUrl", problem)


def _check_unique(path: str, field: str, values: list[str]) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise PolicyError(f"{path}[{index}].{field}", f"{value!r} is there twice; each must be unique")
        seen.add(value)


def base_url_problem(url: str) -> str | None:
    """Why ``url`` cannot be an upstream's base URL (None: it can)."""
    example = "give one like https://api.openai.com/v1"
    if any(character <= " " or character == "\x7f" or not character.isascii() for character in url):
        return f"holds a space, a control character or one outside ASCII; {example}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL ({error}); {example}"
    if parts.scheme not in ("http", "https"):
        return f"has the scheme {parts.scheme!r}; {example}"
    if not parts.hostname:
        return f"has no host; {example}"
    if port == 0:
        return f"has port 0; {example}"
    if parts.username or parts.password:
        return "holds a credential; put it into the credentials file instead"
    if parts.query or parts.fragment:
        return f"has a query or a fragment; {example}"
    return None
