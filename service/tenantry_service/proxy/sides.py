"""The two sides of a call as their neighbours see them: its client and its upstream.

Abstract classes and no protocols: compiled, a call of one of these methods is a jump through a table.
"""

from abc import ABC, abstractmethod

from tenantry_service.proxy.messages import ClientHead, Gone, ResponseHead

#: Bytes that one side may leave unread before the other one is read no further. On top of them comes the read that was
#: under way (250 KiB at most with uvloop), so that a stream whose reader is slow holds 254 KiB. The kernel's buffers
#: keep it going. nginx takes 8 x 8 KB for a connection, Envoy 1 MiB.
HIGH_WATER = 4 * 1024


class ClientSide(ABC):
    """What a call needs from its client's connection."""

    @abstractmethod
    def send_continue(self) -> None:
        """Write 100 Continue."""

    @abstractmethod
    def send(self, head: ClientHead | None, data: bytes, *, last: bool) -> None:
        """Put part of the answer into the output; it leaves at the next :meth:`flush`."""

    @abstractmethod
    def flush(self) -> None:
        """Write the output."""

    @abstractmethod
    def hold_body(self) -> None:
        """Read no more of the request."""

    @abstractmethod
    def take_body(self) -> None:
        """Read on."""

    @abstractmethod
    def abort(self) -> None:
        """Cut the connection."""

    @abstractmethod
    def call_ended(self) -> None:
        """Nothing more will come of this call."""


class Listener(ABC):
    """Whoever waits for an answer."""

    @abstractmethod
    def upstream_sent(self, handle: "Handle") -> None:
        """The request is written; from now on ``handle`` stands for it."""

    @abstractmethod
    def upstream_full(self) -> None:
        """The upstream takes the request slowly: send no more for now."""

    @abstractmethod
    def upstream_drained(self) -> None:
        """The upstream has caught up."""

    @abstractmethod
    def upstream_read(self, head: ResponseHead | None, data: bytes, *, end: bool) -> None:
        """What one read of the socket brought: perhaps status and headers, perhaps body, perhaps the end."""

    @abstractmethod
    def upstream_closed(self) -> None:
        """The connection was closed in good order, which is the end of an answer that has no other."""

    @abstractmethod
    def upstream_gone(self, gone: Gone) -> None:
        """There will be no more."""


class Handle(ABC):
    """A request under way."""

    @property
    @abstractmethod
    def starved(self) -> bool:
        """It waits for one of our own connections to become free."""

    @abstractmethod
    def cancel(self, *, failed: bool = False) -> None:
        """Nobody wants the answer any more; no call comes after this. ``failed``: because it did not come in time."""

    @abstractmethod
    def write(self, data: bytes, *, last: bool) -> None:
        """More of a request that was not complete."""

    @abstractmethod
    def pause(self) -> None:
        """Read no further: the client is slow."""

    @abstractmethod
    def resume(self) -> None:
        """Read on."""
