"""What goes into an :class:`~tenantry_service.proxy.exchange.Exchange` and what comes out of it.

Plain classes with slots: compiled, they are C structs. Nobody changes one after it was made.
"""

import enum
from collections.abc import Sequence
from typing import Final

from tenantry_service.errors import ApiError
from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.policy import Policy
from tenantry_service.pricing import Usage
from tenantry_service.proxy.kept import Claim, KeptAnswer
from tenantry_service.proxy.snapshot import Bearer, Endpoint

HeaderList = list[tuple[bytes, bytes]]


class RequestHead:
    """A request up to its body. Header names are lower-case. ``lines``: those headers that the upstream gets.
    ``content_length`` is None for a chunked body, and where the whole body came with the head."""

    __slots__ = (
        "bearer",
        "content_length",
        "expects_continue",
        "headers",
        "lines",
        "method",
        "path",
        "query",
        "sent_lines",
        "sent_to",
    )

    def __init__(
        self,
        method: str,
        path: bytes,
        query: bytes,
        headers: HeaderList,
        lines: bytes,
        bearer: Bearer,
        content_length: int | None = 0,
        expects_continue: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.lines = lines
        self.bearer = bearer
        self.content_length = content_length
        self.expects_continue = expects_continue
        #: Where it was last sent to, and how it began there.
        self.sent_to: Endpoint | None = None
        self.sent_lines = b""

    def __repr__(self) -> str:
        # Its headers hold the caller's key.
        return f"RequestHead({self.method!r}, {self.path!r})"

    def without_length(self) -> "RequestHead":
        """The same for a body that is all there, whatever its length."""
        headers = [header for header in self.headers if header[0] != b"content-length"]
        return RequestHead(
            self.method, self.path, self.query, headers, self.lines, self.bearer, None, self.expects_continue
        )


class ResponseHead:
    """An upstream's answer up to its body. ``lines``: those headers that the client gets. ``content_length`` is None if
    not declared, and where the whole body came with the head; ``media_type`` and ``encoding`` are lower-case and empty
    if not declared. ``until_close``: nothing but the end of the connection ends it."""

    __slots__ = ("content_length", "encoding", "lines", "media_type", "retry_after_ms", "status", "until_close")

    def __init__(
        self,
        status: int,
        lines: bytes,
        content_length: int | None = None,
        media_type: bytes = b"",
        encoding: bytes = b"",
        until_close: bool = False,
        retry_after_ms: int | None = None,
    ) -> None:
        self.status = status
        self.lines = lines
        self.content_length = content_length
        self.media_type = media_type
        self.encoding = encoding
        self.until_close = until_close
        #: When the upstream says that it may be asked again.
        self.retry_after_ms = retry_after_ms

    def without_length(self) -> "ResponseHead":
        """The same for a body that is all there, whatever its length."""
        return ResponseHead(
            self.status, self.lines, None, self.media_type, self.encoding, self.until_close, self.retry_after_ms
        )


class Timer(enum.IntEnum):
    """What an exchange may wait for too long. The first five depend on its state, the others come from outside."""

    REQUEST_BODY = enum.auto()
    CONNECT = enum.auto()
    FIRST_BYTE = enum.auto()
    IDLE = enum.auto()
    RETRY = enum.auto()
    CLIENT_STALLED = enum.auto()
    DRAIN = enum.auto()
    #: Nothing is late; a stream that says nothing shall stay open in whatever stands between us and the client.
    QUIET = enum.auto()


class Gone(enum.Enum):
    """How an upstream was lost."""

    UNREACHABLE = "unreachable"
    #: It has failed so often that it is not asked for a while, or no connection to it is free.
    SUSPENDED = "suspended"
    OVERLOADED = "overloaded"
    INTERRUPTED = "interrupted"


class ClientHead:
    """Status and header lines (each ending in CRLF, none about framing) for the client. ``content_length`` is None
    where it is not known beforehand; framing is the business of whoever writes it."""

    __slots__ = ("content_length", "lines", "status")

    def __init__(self, status: int, lines: bytes, content_length: int | None) -> None:
        self.status = status
        self.lines = lines
        self.content_length = content_length


class ContinueReading:
    """Tell the client, which asked, to send its body (100 Continue)."""


class Refuse:
    """Answer with an error of ours, complete. ``lines`` are further header lines."""

    __slots__ = ("error", "lines")

    def __init__(self, error: ApiError, lines: bytes = b"") -> None:
        self.error = error
        self.lines = lines


class Reserve:
    """Ask the limiter; the answer comes as ``on_reserved``."""

    __slots__ = ("demand", "policy")

    def __init__(self, policy: Policy, demand: Demand) -> None:
        self.policy = policy
        self.demand = demand


class OpenUpstream:
    """Send these bytes to this upstream; ``on_upstream_*`` tells what comes of it. Unless they are ``complete``, the
    rest follows as :class:`ToUpstream`. ``once``: they may not be sent again, even if it seems that nobody got them."""

    __slots__ = ("complete", "endpoint", "once", "request")

    def __init__(self, endpoint: Endpoint, request: bytes, complete: bool = True, once: bool = False) -> None:
        self.endpoint = endpoint
        self.request = request
        self.complete = complete
        self.once = once

    def __repr__(self) -> str:
        # The request holds the upstream's credential and the caller's prompt.
        return f"OpenUpstream({self.endpoint!r})"


class ToUpstream:
    """More of the request; ``last`` if it is then complete."""

    __slots__ = ("data", "last")

    def __init__(self, data: bytes, last: bool = False) -> None:
        self.data = data
        self.last = last


class ToClient:
    """Bytes of the answer's body; with its head if they are the first, ``last`` if the answer is then complete."""

    __slots__ = ("data", "head", "last")

    def __init__(self, data: bytes, head: ClientHead | None = None, last: bool = False) -> None:
        self.data = data
        self.head = head
        self.last = last


class AbortClient:
    """Close the client's connection: its answer cannot be completed, and this is the only way left to say so."""


class CloseUpstream:
    """Cancel the upstream request; ``failed``: because it did not answer in time."""

    __slots__ = ("failed",)

    def __init__(self, failed: bool = False) -> None:
        self.failed = failed


class Settle:
    """Correct the limits and write the ledger. ``exact``: ``usage`` is known and not counted by us."""

    __slots__ = ("exact", "nano_usd", "policy", "raw_usage", "reservation", "usage")

    def __init__(
        self,
        policy: Policy,
        reservation: Reservation,
        usage: Usage,
        exact: bool,
        nano_usd: int,
        raw_usage: bytes | None = None,
    ) -> None:
        self.policy = policy
        self.reservation = reservation
        self.usage = usage
        self.exact = exact
        self.nano_usd = nano_usd
        self.raw_usage = raw_usage


class Recall:
    """Look a claim up; ``on_recalled`` tells what became of it."""

    __slots__ = ("claim",)

    def __init__(self, claim: Claim) -> None:
        self.claim = claim


class Keep:
    """End a claim that was granted; ``answer`` is None if there is none to be given again."""

    __slots__ = ("answer", "claim")

    def __init__(self, claim: Claim, answer: KeptAnswer | None) -> None:
        self.claim = claim
        self.answer = answer


Command = (
    Recall
    | Keep
    | ContinueReading
    | Refuse
    | Reserve
    | OpenUpstream
    | ToUpstream
    | ToClient
    | AbortClient
    | CloseUpstream
    | Settle
)
Commands = Sequence[Command]

CLOSE_UPSTREAM: Final = CloseUpstream()
CLOSE_FAILED_UPSTREAM: Final = CloseUpstream(failed=True)
ABORT_CLIENT: Final = AbortClient()
CONTINUE_READING: Final = ContinueReading()
