"""The usage event: what one admitted request cost, once and for ever."""

import time
from typing import NamedTuple, Protocol


class UsageEvent(NamedTuple):
    """One row of the ledger. Field order is column order. Money is integer nano-USD, times are Unix milliseconds.

    ``estimated`` says that the upstream's own count never arrived (client gone, stream cut, no usage in the answer):
    the figures are then what was counted on the way. ``usage`` keeps the upstream's usage object as it came, so that a
    row can be priced again.
    """

    event_id: str
    tenant: str
    key_id: str
    occurred_at_ms: int
    duration_ms: int
    route: str
    requested_model: str
    served_model: str
    upstream: str
    status: int
    error_type: str
    stream: bool
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    nano_usd: int
    estimated: bool
    price_version: str
    policy_revision: str
    usage: str | None
    # Fields are only ever added at the end, with a default: events travel between versions.
    cache_write_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    #: The tier that the upstream says it served (``default``, ``flex``, ``priority``, ``batch``); empty if it does not.
    service_tier: str = ""
    #: The key's name, which outlives its rotations.
    key_name: str = ""


#: The ``error_type`` of a row written for a request whose process died: it is billed as reserved, and ``estimated``.
LOST = "lost"

#: ``req_`` and the request's first moment, Unix milliseconds in hex: until the year 2527 eleven digits are enough.
_ID_PREFIX = "req_"
_ID_TIME = slice(4, 15)
#: An id that says another time than its event (Unix milliseconds apart) was not made by :func:`new_id`.
_PLAUSIBLE_MS = 40 * 86_400_000


def new_id(unique: str) -> str:
    """A request id, which is its event's id. It carries its time, and so the month whose partition keeps it: what is
    unique in its partition is then unique for ever. ``unique``: what nobody else has."""
    return f"{_ID_PREFIX}{time.time_ns() // 1_000_000:011x}{unique}"


def created_ms(event_id: str, occurred_at_ms: int) -> int:
    """When an event's id was made (Unix milliseconds). The time of the event itself if the id does not say; the same
    event always gives the same answer."""
    try:
        made = int(event_id[_ID_TIME], 16) if event_id.startswith(_ID_PREFIX) else -1
    except ValueError:
        made = -1
    return made if abs(made - occurred_at_ms) < _PLAUSIBLE_MS else occurred_at_ms


class Ledger(Protocol):
    """Where events go."""

    @property
    def accepting(self) -> bool:
        """False while events cannot be written and the queue is full: then no new request may be admitted, because it
        could not be billed."""

    def begin(self, event_id: str, note: bytes) -> None:
        """A request is admitted and goes upstream now: ``note`` (an event, encoded) is what it is billed at if this
        process dies. Durable (to a kill -9) when this returns; never blocks on a disk."""

    def append(self, event: UsageEvent) -> None:
        """Take one event; never blocks and never drops. Requests that were admitted while ``accepting`` was true may
        exceed the queue's bound by their own number, no more."""
