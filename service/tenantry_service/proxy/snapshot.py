"""Policies compiled for the hot path: an immutable set, looked up by key id, swapped as one object."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from urllib.parse import urlsplit

from tenantry_service import errors, pricing
from tenantry_service.errors import ApiError
from tenantry_service.policy import CredentialHeader, Key, Policy, PolicyError, UnknownModel, UnknownRoute, Upstream
from tenantry_service.pricing import Price
from tenantry_service.proxy.learned import Learned

#: The metric label of models that nobody configured.
OTHER_MODEL = "other"
#: Answers about models that are remembered per tenant; callers may invent names, memory may not follow them.
MODEL_CACHE = 1024
#: Hosts of Azure OpenAI, whose keys go into a header of their own
#: (https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle).
_AZURE = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")


class Endpoint:
    """Where an upstream is, and the header lines that every request to it carries."""

    __slots__ = ("address", "base_path", "head_lines", "host", "name", "port", "tls")

    def __init__(self, name: str, host: str, port: int, tls: bool, base_path: bytes, head_lines: bytes) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.tls = tls
        self.base_path = base_path
        self.head_lines = head_lines
        #: What connections are shared by.
        self.address = (host, port, tls)

    def __repr__(self) -> str:
        # Its lines hold the credential.
        return f"Endpoint({self.name!r}, {self.host!r}, {self.port})"


class Account:
    """What the rows have in common that a caller's requests to one target bring, as JSON between the columns that
    differ. ``route`` and ``upstream`` (a name) are what it was made for."""

    __slots__ = ("after_id", "after_output", "after_price", "after_time", "route", "upstream")

    def __init__(
        self, route: str, upstream: str, after_id: str, after_time: str, after_output: str, after_price: str
    ) -> None:
        self.route = route
        self.upstream = upstream
        self.after_id = after_id
        self.after_time = after_time
        self.after_output = after_output
        self.after_price = after_price


class Target:
    """What a caller's model name means for its tenant."""

    __slots__ = ("accounts", "endpoint", "label", "learned", "others", "price", "requested", "served")

    def __init__(
        self,
        requested: str,
        served: str,
        endpoint: Endpoint,
        price: Price,
        label: str,
        others: tuple[Endpoint, ...] = (),
    ) -> None:
        self.learned = Learned()
        #: What rows of the ledger have in common, by key id.
        self.accounts: dict[str, Account] = {}
        self.requested = requested
        self.served = served
        self.endpoint = endpoint
        self.price = price
        self.label = label
        #: Where else it may go, in this order.
        self.others = others


def _globs(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


def endpoint(upstream: Upstream, credential: str | None) -> Endpoint:
    """Compile an upstream. ``credential`` goes into its header lines and nowhere else.

    Raises:
        PolicyError: the credential cannot be a header value.
    """
    parts = urlsplit(upstream.base_url)
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    host = parts.hostname or ""
    bracketed = f"[{host}]" if ":" in host else host
    authority = bracketed if parts.port is None else f"{bracketed}:{port}"
    # Identity, because usage is read from the answer as it passes.
    lines = f"host: {authority}\r\naccept-encoding: identity\r\n"
    if credential is not None:
        if not credential or any(not "!" <= character <= "~" for character in credential):
            raise PolicyError(
                f"credential of upstream {upstream.name}",
                "is empty or holds a space or a control character; the file must hold the bare key",
            )
        azure = upstream.credential_header is None and host.endswith(_AZURE)
        if azure or upstream.credential_header is CredentialHeader.API_KEY:
            lines += f"api-key: {credential}\r\n"
        else:
            lines += f"authorization: Bearer {credential}\r\n"
    return Endpoint(upstream.name, host, port, tls, (parts.path.rstrip("/") or "/v1").encode(), lines.encode())


class TenantView:
    """One policy, ready to be asked. Remembers its answers; otherwise immutable."""

    def __init__(self, policy: Policy, credentials: Mapping[str, str]) -> None:
        """``credentials`` by upstream name.

        Raises:
            PolicyError: a credential cannot be sent.
        """
        self.policy = policy
        # What every request asks of it, where asking costs least.
        self.tenant = policy.tenant
        self.revision = policy.revision
        self.limits = policy.limits
        self.max_body_bytes = policy.max_body_bytes
        ranked = sorted(policy.upstreams, key=lambda upstream: upstream.priority)
        self._upstreams = [
            (_globs(upstream.models), endpoint(upstream, credentials.get(upstream.name))) for upstream in ranked
        ]
        #: Who is asked for what is of no model in particular.
        self.primary = self._upstreams[0][1]
        # Behind the first one that serves everything, no other is anybody's first choice.
        everything = next((i for i, upstream in enumerate(ranked) if "*" in upstream.models), len(ranked))
        endpoints = [where for _, where in self._upstreams]
        #: Who is asked what models there are, and who else may be if none of them answers.
        self.listing = endpoints[: everything + 1], endpoints[everything + 1 :]
        self._allowed = _globs(policy.models.allow)
        named = {model for model in policy.models.allow if not set(model) & set("*?[")}
        self._labels = pricing.PRICED_MODELS.union(named, policy.models.aliases, policy.prices)
        self._targets: dict[str, Target | ApiError] = {}
        #: Nothing has to be put into or taken out of a request but what every tenant's needs.
        self.plain = (
            policy.models.default is None
            and policy.models.max_output_tokens is None
            and not policy.limits.require_declared_max_tokens
        )
        #: Some answers are kept.
        self.keeps = policy.cache is not None or policy.idempotency is not None
        #: Requests that name no model are nobody's to refuse.
        self.allows_all = "*" in policy.models.allow and policy.unknown_model is not UnknownModel.REFUSE
        #: What is asked of no model in particular.
        self.no_model = Target("", "", self.primary, pricing.DEFAULT_PRICE, OTHER_MODEL)
        self._routes = _globs(policy.routes.allow)
        self.every_route = "*" in policy.routes.allow

    def allows_route(self, path: str, *, known: bool) -> bool:
        """Whether callers may use this path."""
        if not known and self.policy.routes.unknown is UnknownRoute.REFUSE:
            return False
        return self._routes.match(path) is not None

    def find(self, model: str) -> Target | ApiError:
        """What ``model`` means here, or why it means nothing."""
        found = self._targets.get(model)
        if found is None:
            found = self._resolve(model)
            if len(self._targets) < MODEL_CACHE:
                self._targets[model] = found
        return found

    def allows(self, model: str) -> bool:
        """Whether callers may name this model."""
        return model in self.policy.models.aliases or self._allowed.match(model) is not None

    def label(self, model: str) -> str:
        """The model's metric label: its name if it is a configured or priced one, else ``other``."""
        return model if model in self._labels else OTHER_MODEL

    def _resolve(self, model: str) -> Target | ApiError:
        if not self.allows(model):
            return errors.model_not_found(model)
        served = self.policy.models.aliases.get(model, model)
        price = pricing.find(served, self.policy.prices)
        if not price.known and self.policy.unknown_model is UnknownModel.REFUSE:
            return errors.malformed(
                f"The model `{model[:256]}` has no price here. Ask the platform team to set one.",
                param="model",
                code="model_not_priced",
            )
        found = [where for pattern, where in self._upstreams if pattern.match(served)]
        if not found:
            return errors.NO_UPSTREAM
        return Target(model, served, found[0], price, self.label(model), tuple(found[1:]))


class Caller:
    """Who asks: a key that was found good, and its tenant's view."""

    __slots__ = ("expires_at", "key", "key_id", "key_name", "view")

    def __init__(self, view: TenantView, key: Key, expires_at: float) -> None:
        self.view = view
        self.key = key
        self.key_id = key.id
        self.key_name = key.name
        #: Unix seconds from which the key is refused.
        self.expires_at = expires_at


def presented(authorization: bytes) -> tuple[str, bytes] | None:
    """Id and whole text of the key that an ``Authorization`` header shows (the id is empty if it is none of ours); None
    if it shows no bearer key at all."""
    scheme, _, key = authorization.partition(b" ")
    key = key.strip()
    if scheme.lower() != b"bearer" or not key:
        return None
    prefix, _, rest = key.partition(b"_")
    key_id, _, _ = rest.partition(b"_")
    return key_id.decode("ascii", "replace") if prefix == b"tn" else "", key


def is_key(key: bytes, sha256: str) -> bool:
    """Whether this is the key with this digest; in constant time."""
    return hmac.compare_digest(hashlib.sha256(key).hexdigest(), sha256)


class Snapshot:
    """All policies that this process serves at one moment."""

    def __init__(self, views: Sequence[TenantView] = ()) -> None:
        """Raises:
        PolicyError: two policies hold the same key id.
        """
        self.views = tuple(views)
        self._callers: dict[str, Caller] = {}
        for view in views:
            for key in view.policy.keys:
                if key.id in self._callers:
                    raise PolicyError("$.keys", f"the key id {key.id!r} is in two policies; each must be unique")
                expires = float("inf") if key.expires_at is None else key.expires_at.timestamp()
                self._callers[key.id] = Caller(view, key, expires)

    def authenticate(self, authorization: bytes | None, now: float) -> Caller | ApiError:
        """Check ``Authorization: Bearer tn_<id>_<secret>`` at ``now`` (Unix seconds). The digest is compared in
        constant time; whether the id exists is no secret."""
        if not authorization:
            return errors.MISSING_KEY
        shown = presented(authorization)
        if shown is None:
            return errors.MISSING_KEY
        key_id, key = shown
        caller = self._callers.get(key_id)
        if caller is None or not is_key(key, caller.key.sha256):
            return errors.WRONG_KEY
        return errors.EXPIRED_KEY if now >= caller.expires_at else caller


class Bearer:
    """An ``Authorization`` header and whom it was found to belong to. Part of a head that a connection may remember: a
    key is digested once per connection and policy, and never outlives its connection here."""

    __slots__ = ("_caller", "_snapshot", "_value")

    def __init__(self, value: bytes | None) -> None:
        self._value = value
        self._caller: Caller | None = None
        self._snapshot: Snapshot | None = None

    def caller(self, snapshot: Snapshot, now: float) -> Caller | ApiError:
        """Whom it belongs to at ``now`` (Unix seconds); see :meth:`Snapshot.authenticate`."""
        known = self._caller
        if known is not None and self._snapshot is snapshot and now < known.expires_at:
            return known
        found = snapshot.authenticate(self._value, now)
        if isinstance(found, Caller):
            self._caller, self._snapshot = found, snapshot
        return found
