"""What goes into an :class:`~tenantry_service.proxy.exchange.Exchange` and what comes out of it."""

import enum
from collections.abc import Sequence

from msgspec import Struct

from tenantry_service.errors import ApiError
from tenantry_service.limits.buckets import Demand, Reservation
from tenantry_service.policy import Policy
from tenantry_service.pricing import Usage
from tenantry_service.proxy.snapshot import Bearer, Endpoint

HeaderList = list[tuple[bytes, bytes]]


class RequestHead(Struct, frozen=True, gc=False):
    """A request up to its body. Header names are lower-case. ``lines``: those headers that the upstream gets.
    ``content_length`` is None for a chunked body, and where the whole body came with the head."""

    method: str
    path: bytes
    query: bytes
    headers: HeaderList
    lines: bytes
    bearer: Bearer
    content_length: int | None = 0
    expects_continue: bool = False

    def __repr__(self) -> str:
        # Its headers hold the caller's key.
        return f"RequestHead({self.method!r}, {self.path!r})"


class ResponseHead(Struct, frozen=True, gc=False):
    """An upstream's answer up to its body. ``lines``: those headers that the client gets. ``content_length`` is None if
    not declared, and where the whole body came with the head; ``media_type`` and ``encoding`` are lower-case and empty
    if not declared. ``until_close``: nothing but the end of the connection ends it."""

    status: int
    lines: bytes
    content_length: int | None = None
    media_type: bytes = b""
    encoding: bytes = b""
    until_close: bool = False
    #: When the upstream says that it may be asked again.
    retry_after_ms: int | None = None


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


class ClientHead(Struct, frozen=True, gc=False):
    """Status and header lines (each ending in CRLF, none about framing) for the client. ``content_length`` is None
    where it is not known beforehand; framing is the business of whoever writes it."""

    status: int
    lines: bytes
    content_length: int | None


class ContinueReading(Struct, frozen=True):
    """Tell the client, which asked, to send its body (100 Continue)."""


class Refuse(Struct, frozen=True, gc=False):
    """Answer with an error of ours, complete. ``lines`` are further header lines."""

    error: ApiError
    lines: bytes = b""


class Reserve(Struct, frozen=True, gc=False):
    """Ask the limiter; the answer comes as ``on_reserved``."""

    policy: Policy
    demand: Demand


class OpenUpstream(Struct, frozen=True, gc=False):
    """Send these bytes to this upstream; ``on_upstream_*`` tells what comes of it. Unless they are ``complete``, the
    rest follows as :class:`ToUpstream`."""

    endpoint: Endpoint
    request: bytes
    complete: bool = True

    def __repr__(self) -> str:
        # The request holds the upstream's credential and the caller's prompt.
        return f"OpenUpstream({self.endpoint!r})"


class ToUpstream(Struct, frozen=True, gc=False):
    """More of the request; ``last`` if it is then complete."""

    data: bytes
    last: bool = False


class ToClient(Struct, frozen=True, gc=False):
    """Bytes of the answer's body; with its head if they are the first, ``last`` if the answer is then complete."""

    data: bytes
    head: ClientHead | None = None
    last: bool = False


class AbortClient(Struct, frozen=True):
    """Close the client's connection: its answer cannot be completed, and this is the only way left to say so."""


class CloseUpstream(Struct, frozen=True):
    """Cancel the upstream request; ``failed``: because it did not answer in time."""

    failed: bool = False


class Settle(Struct, frozen=True, gc=False):
    """Correct the limits and write the ledger. ``exact``: ``usage`` is known and not counted by us."""

    policy: Policy
    reservation: Reservation
    usage: Usage
    exact: bool
    nano_usd: int
    raw_usage: bytes | None = None


Command = (
    ContinueReading | Refuse | Reserve | OpenUpstream | ToUpstream | ToClient | AbortClient | CloseUpstream | Settle
)
Commands = Sequence[Command]

CLOSE_UPSTREAM = CloseUpstream()
CLOSE_FAILED_UPSTREAM = CloseUpstream(failed=True)
ABORT_CLIENT = AbortClient()
CONTINUE_READING = ContinueReading()
