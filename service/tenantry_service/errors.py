"""Errors as the OpenAI SDK reads them, and the closed vocabulary of how a request can end.

Body: ``{"error": {"message", "type", "param", "code"}}``. Headers that steer the SDK's own retries: ``retry-after-ms``,
``retry-after`` (seconds) and ``x-should-retry`` (openai-python ``_base_client.py``). 401 is said only of a key known to
be bad; what cannot be known is a 503. Pure: no I/O, no clock.
"""

import enum
from collections.abc import Sequence

import msgspec
from msgspec import Struct

Headers = Sequence[tuple[bytes, bytes]]

#: Do not retry: the answer stays the same until a person changes something.
NO_RETRY: Headers = ((b"x-should-retry", b"false"),)


class ErrorType(enum.StrEnum):
    """How a request ended, by whose fault: ``caller_``, ``policy_`` (the tenant's limits), ``provider_`` (the
    upstream), ``tenantry_`` (ours). Closed, so that it may be a metric label; ``none`` is success."""

    NONE = "none"
    CALLER_MALFORMED = "caller_malformed"
    CALLER_UNAUTHENTICATED = "caller_unauthenticated"
    CALLER_MODEL_NOT_FOUND = "caller_model_not_found"
    CALLER_ROUTE_NOT_FOUND = "caller_route_not_found"
    CALLER_TOO_LARGE = "caller_too_large"
    CALLER_REPEATED = "caller_repeated"
    CALLER_TOO_SLOW = "caller_too_slow"
    CALLER_CANCELLED = "caller_cancelled"
    POLICY_RATE_LIMITED = "policy_rate_limited"
    POLICY_BUDGET_EXHAUSTED = "policy_budget_exhausted"
    PROVIDER_UNREACHABLE = "provider_unreachable"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_INTERRUPTED = "provider_interrupted"
    PROVIDER_CREDENTIALS = "provider_credentials"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_REJECTED = "provider_rejected"
    PROVIDER_FAILED = "provider_failed"
    TENANTRY_DRAINING = "tenantry_draining"
    TENANTRY_OVERLOADED = "tenantry_overloaded"
    TENANTRY_LIMITS_UNKNOWN = "tenantry_limits_unknown"
    TENANTRY_LEDGER_FULL = "tenantry_ledger_full"
    TENANTRY_NO_UPSTREAM = "tenantry_no_upstream"
    TENANTRY_INTERNAL = "tenantry_internal"


class ApiError(Struct, frozen=True, kw_only=True):
    """One refusal: what goes on the wire and what goes into the metrics."""

    status: int
    error_type: ErrorType
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Headers = ()

    def body(self) -> bytes:
        """The JSON body."""
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        )

    def sse_event(self) -> bytes:
        """The same as one server-sent event: a ``data`` with a truthy ``error`` makes the SDK raise ``APIError``."""
        return b"data: " + self.body() + b"\n\n"


def retry_after(wait_ms: int) -> Headers:
    """The headers that tell a client to come back after ``wait_ms`` (>= 1), rounded up to whole seconds where needed.

    The SDK ignores a wait of more than 120 s and then does not retry at all, which is what we want of it.
    """
    return ((b"retry-after-ms", b"%d" % wait_ms), (b"retry-after", b"%d" % -(-wait_ms // 1000)))


#: A drained or overloaded replica leaves the rotation within about a second.
RETRY_SOON = retry_after(1000)


def _key_refused(message: str, code: str | None = None) -> ApiError:
    """401: the key is known to be bad."""
    return ApiError(status=401, error_type=ErrorType.CALLER_UNAUTHENTICATED, message=message, code=code)


def _unavailable(error_type: ErrorType, code: str, message: str, headers: Headers = RETRY_SOON) -> ApiError:
    """503: not this time, or not here."""
    return ApiError(
        status=503,
        error_type=error_type,
        message=message,
        type="service_unavailable_error",
        code=code,
        headers=headers,
    )


def _upstream(status: int, error_type: ErrorType, code: str, message: str, headers: Headers = ()) -> ApiError:
    """What becomes of a request whose upstream did not answer it."""
    return ApiError(
        status=status, error_type=error_type, message=message, type="upstream_error", code=code, headers=headers
    )


def _repeated(code: str, message: str, headers: Headers = NO_RETRY) -> ApiError:
    """409: its ``Idempotency-Key`` was seen before."""
    return ApiError(status=409, error_type=ErrorType.CALLER_REPEATED, message=message, code=code, headers=headers)


MISSING_KEY = _key_refused(
    "You didn't provide an API key. Send it in the Authorization header: 'Authorization: Bearer YOUR_KEY'."
)
WRONG_KEY = _key_refused(
    "Incorrect API key provided. Check that it is complete, for this endpoint and not replaced meanwhile.",
    "invalid_api_key",
)
EXPIRED_KEY = _key_refused(
    "This API key has expired. Ask the owner of the tenant for the current one.", "expired_api_key"
)
DRAINING = _unavailable(
    ErrorType.TENANTRY_DRAINING,
    "draining",
    "This replica is shutting down; repeat the request, another one will take it.",
)
DRAIN_DEADLINE = _unavailable(
    ErrorType.TENANTRY_DRAINING,
    "draining",
    "The replica that served this request had to shut down before the end of the answer; repeat the request.",
)
OVERLOADED = _unavailable(
    ErrorType.TENANTRY_OVERLOADED,
    "server_is_overloaded",
    "This replica has as many open connections as it may; repeat the request shortly.",
)
NO_ROOM = _unavailable(
    ErrorType.TENANTRY_OVERLOADED,
    "server_is_overloaded",
    "This replica holds as many request bodies as it may; repeat the request shortly.",
)
NO_CONNECTION = _unavailable(
    ErrorType.TENANTRY_OVERLOADED,
    "server_is_overloaded",
    "All connections of this replica to the upstream are in use; repeat the request shortly.",
)
LIMITS_UNKNOWN = _unavailable(
    ErrorType.TENANTRY_LIMITS_UNKNOWN,
    "limits_unavailable",
    "The limits of this tenant cannot be checked at the moment; repeat the request shortly.",
)
LEDGER_FULL = _unavailable(
    ErrorType.TENANTRY_LEDGER_FULL,
    "ledger_unavailable",
    "Usage cannot be recorded at the moment, so no request is taken; repeat it shortly.",
    retry_after(5000),
)
NO_UPSTREAM = _unavailable(
    ErrorType.TENANTRY_NO_UPSTREAM,
    "no_upstream",
    "No upstream of this tenant serves the requested model. Ask the platform team to configure one.",
    NO_RETRY,
)
BODY_TIMEOUT = ApiError(
    status=408,
    error_type=ErrorType.CALLER_TOO_SLOW,
    message="The request did not arrive in time; send it without pauses.",
    code="request_timeout",
)
HEAD_TOO_LARGE = ApiError(
    status=431,
    error_type=ErrorType.CALLER_TOO_LARGE,
    message="The request's headers are too many or too large.",
    code="headers_too_large",
)
UPSTREAM_UNREACHABLE = _upstream(
    502, ErrorType.PROVIDER_UNREACHABLE, "upstream_unreachable", "The upstream could not be reached."
)
UPSTREAM_SUSPENDED = _upstream(
    503,
    ErrorType.PROVIDER_UNREACHABLE,
    "upstream_suspended",
    "The upstream has failed repeatedly and is given a moment; repeat the request shortly.",
    RETRY_SOON,
)
UPSTREAM_INVALID = _upstream(
    502,
    ErrorType.PROVIDER_INTERRUPTED,
    "upstream_interrupted",
    "The upstream closed the connection or broke the protocol before it answered.",
)
UPSTREAM_INTERRUPTED = _upstream(
    502,
    ErrorType.PROVIDER_INTERRUPTED,
    "upstream_interrupted",
    "The upstream ended the stream before its end; what came before this event is incomplete.",
)
UPSTREAM_TIMEOUT = _upstream(
    504, ErrorType.PROVIDER_TIMEOUT, "upstream_timeout", "The upstream did not answer in time."
)
UPSTREAM_STALLED = _upstream(
    504,
    ErrorType.PROVIDER_TIMEOUT,
    "upstream_timeout",
    "The upstream stopped sending in the middle of the stream; what came before this event is incomplete.",
)
UPSTREAM_CREDENTIALS = _upstream(
    502,
    ErrorType.PROVIDER_CREDENTIALS,
    "upstream_credentials_refused",
    "The upstream refused the platform's credential (your key is fine). Ask the platform team to renew it.",
    NO_RETRY,
)
IN_PROGRESS = _repeated(
    "idempotency_key_in_use",
    "A request with this Idempotency-Key is under way; repeat it shortly to get its answer.",
    RETRY_SOON,
)
KEY_OF_ANOTHER = _repeated(
    "idempotency_key_reused", "This Idempotency-Key belongs to another request; choose a new key for each one."
)
NOT_KEPT = _repeated(
    "idempotency_answer_not_kept",
    "The request with this Idempotency-Key was answered, but its answer was too large to be given again.",
)
INTERNAL = ApiError(
    status=500,
    error_type=ErrorType.TENANTRY_INTERNAL,
    message="An error of this service; it has been recorded.",
    type="server_error",
    code="internal_error",
)


def malformed(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(
        status=400, error_type=ErrorType.CALLER_MALFORMED, message=message, param=param, code=code, headers=()
    )


def route_not_found(method: str, path: str) -> ApiError:
    """404 in OpenAI's words: there is no such URL."""
    return ApiError(
        status=404,
        error_type=ErrorType.CALLER_ROUTE_NOT_FOUND,
        message=f"Invalid URL ({method} {path[:200]})",
    )


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    """405: the URL exists, the method does not."""
    return ApiError(
        status=405,
        error_type=ErrorType.CALLER_ROUTE_NOT_FOUND,
        message=f"Not allowed to {method} on {path[:200]} (use {allowed}).",
        code="method_not_supported",
        headers=((b"allow", allowed.encode()),),
    )


def model_not_found(model: str) -> ApiError:
    """404 ``model_not_found``: the same words whether the model does not exist or is not the tenant's to use."""
    return ApiError(
        status=404,
        error_type=ErrorType.CALLER_MODEL_NOT_FOUND,
        message=f"The model `{model[:256]}` does not exist or you do not have access to it.",
        param="model",
        code="model_not_found",
    )


def body_too_large(limit: int) -> ApiError:
    """413: the body is larger than the tenant's policy accepts."""
    return ApiError(
        status=413,
        error_type=ErrorType.CALLER_TOO_LARGE,
        message=f"The request body is larger than the {limit} bytes that this endpoint accepts.",
        code="request_too_large",
    )


def rate_limited(dimension: str, limit: int, requested: int, wait_ms: int | None) -> ApiError:
    """429 ``rate_limit_exceeded`` with the exact wait; None means that it can never fit, and says not to retry."""
    if wait_ms is None:
        advice = "It is larger than the limit itself: send a smaller one."
        headers = NO_RETRY
    else:
        advice = f"Please try again in {wait_ms / 1000:g}s."
        headers = retry_after(wait_ms)
    return ApiError(
        status=429,
        error_type=ErrorType.POLICY_RATE_LIMITED,
        message=f"Rate limit reached on {dimension}: Limit {limit}, Requested {requested}. {advice}",
        type="tokens" if "tokens" in dimension else "requests",
        code="rate_limit_exceeded",
        headers=headers,
    )


BUDGET_EXHAUSTED = ApiError(
    status=429,
    error_type=ErrorType.POLICY_BUDGET_EXHAUSTED,
    message="You exceeded your current quota: what is left of the budget does not cover the most this may cost.",
    type="insufficient_quota",
    code="insufficient_quota",
    headers=NO_RETRY,
)
KEY_BUDGET_EXHAUSTED = msgspec.structs.replace(
    BUDGET_EXHAUSTED,
    message="You exceeded the quota of this API key: what is left of its budget does not cover the most this may cost.",
)


def upstream_refused(status: int) -> ApiError:
    """The upstream refused a WebSocket handshake with this status (400 to 499)."""
    return ApiError(
        status=status,
        error_type=upstream_error_type(status),
        message=f"The upstream refused this WebSocket connection with status {status}.",
        type="upstream_error",
        code="upstream_refused",
    )


def upstream_error_type(status: int) -> ErrorType:
    """The fault domain of an upstream's own answer."""
    if status < 400:
        return ErrorType.NONE
    if status == 429:
        return ErrorType.PROVIDER_RATE_LIMITED
    return ErrorType.PROVIDER_REJECTED if status < 500 else ErrorType.PROVIDER_FAILED
