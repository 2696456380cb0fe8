# ruff: noqa: N818 - these are the names that the API itself gives its refusals
"""What the API server can answer when it does not do what was asked, as types to catch.

The mapping follows ``metav1.Status``: the HTTP code says what kind of refusal it is, ``reason`` and
``details.causes`` tell apart those that share a code
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
"""

import msgspec


class KubeError(Exception):
    """Anything that went wrong between us and the API server."""


class ConfigError(KubeError):
    """The kubeconfig or the pod's service account cannot be used; the message says which part and what to do."""


class Unreachable(KubeError):
    """No answer: connection refused or lost, TLS failure, or our time limit. Whether a write happened is unknown."""


class Unreadable(KubeError):
    """The answer does not have the shape that we expect; the message names the path and the field."""


class WritesForbidden(KubeError):
    """This process may not write (any more): it does not hold the Lease."""


class ApiError(KubeError):
    """The API server answered with an error status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message or reason} ({status} {reason})")
        self.status = status
        self.reason = reason
        self.message = message


class BadRequest(ApiError):
    """400, 405, 415: the request itself is wrong."""


class Unauthorized(ApiError):
    """401: the credentials are not accepted."""


class Forbidden(ApiError):
    """403: authorization (RBAC) or admission refuses."""


class NamespaceTerminating(Forbidden):
    """403 with cause ``NamespaceTerminating``: nothing can be created in a namespace that is being deleted."""


class NotFound(ApiError):
    """404: no such object (or no such kind)."""


class Conflict(ApiError):
    """409: a precondition (uid, resourceVersion) does not hold, or a field belongs to another manager."""


class AlreadyExists(Conflict):
    """409 ``AlreadyExists``: a create-only POST found the name taken."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class Invalid(ApiError):
    """422: validation refuses the object, or a JSON patch ``test`` does not hold."""


class TooManyRequests(ApiError):
    """429: API Priority and Fairness asks us to wait ``retry_after`` seconds."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float) -> None:
        super().__init__(status, reason, message)
        self.retry_after = retry_after


class ServerError(ApiError):
    """5xx: the API server or something behind it failed. Whether a write happened is unknown."""


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""


class _Details(msgspec.Struct, frozen=True):
    causes: list[_Cause] = []


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_decode_status = msgspec.json.Decoder(_Status).decode

#: Seconds to wait on a 429 that names no time; the API server itself always sends 1.
DEFAULT_RETRY_AFTER = 1.0

_BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: BadRequest,
    409: Conflict,
    410: Gone,
    415: BadRequest,
    422: Invalid,
}


def from_response(code: int, body: bytes, retry_after: str | None) -> ApiError:
    """The error for one response. A body that is no ``Status`` (a proxy's page) is quoted, shortened."""
    try:
        status = _decode_status(body)
    except msgspec.DecodeError:
        status = _Status(message=body[:200].decode(errors="replace"))
    reason = status.reason or "Unknown"
    if code == 429:
        return TooManyRequests(code, reason, status.message, _seconds(retry_after))
    causes = status.details.causes if status.details else []
    if code == 403 and any(cause.reason == "NamespaceTerminating" for cause in causes):
        return NamespaceTerminating(code, reason, status.message)
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExists(code, reason, status.message)
    return _BY_CODE.get(code, ServerError if code >= 500 else ApiError)(code, reason, status.message)


def _seconds(retry_after: str | None) -> float:
    # The API server sends whole seconds; an HTTP date (RFC 9110, 10.2.3) would come from a proxy only.
    return float(retry_after) if retry_after and retry_after.isdigit() else DEFAULT_RETRY_AFTER
