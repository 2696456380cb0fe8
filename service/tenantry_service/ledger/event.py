"""The usage event: what one admitted request cost, once and for ever."""

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


#: The ``error_type`` of a row written for a request whose process died: it is billed as reserved, and ``estimated``.
LOST = "lost"


class Ledger(Protocol):
    """Where events go."""

    @property
    def accepting(self) -> bool:
        """False while events cannot be written and the queue is full: then no new request may be admitted, because it
        could not be billed."""

    def append(self, event: UsageEvent) -> None:
        """Take one event; never blocks and never drops. Requests that were admitted while ``accepting`` was true may
        exceed the queue's bound by their own number, no more."""
