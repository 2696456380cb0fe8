"""What every store of limits can do.

``reserve`` answers through a callback and not by ``await``: the memory store answers before it returns, and a store
across the network gathers what one loop iteration brings into one round trip, without a task per request.
"""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable

from tenantry_service.limits.decisions import Demand, Refusal, Reservation
from tenantry_service.policy import Policy


class Mode(enum.StrEnum):
    """Where limits are counted at the moment; the worst first."""

    #: Redis does not answer: requests are refused,
    REFUSING = "refusing"
    #: or held to this replica's share.
    LOCAL_SHARE = "local_share"
    #: In Redis, for all replicas together.
    SHARED = "shared"
    #: In this process alone, as asked.
    MEMORY = "memory"


class Unknown:
    """The limiter cannot be asked (and the tenant chose to be refused then)."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


Decision = Reservation | Refusal | Unknown


class Limiter(ABC):
    """Admission for all tenants of this process. No protocol: compiled, a call of a method of an abstract class is a
    jump through a table."""

    @property
    @abstractmethod
    def accepting(self) -> bool:
        """False while settlements cannot be handed on and there is no room to keep more of them."""

    @property
    @abstractmethod
    def records(self) -> bool:
        """Whether usage events travel with the settlements: then each reservation needs a note and each settlement its
        event (both a usage event's JSON), and no other ledger is to be written."""

    @abstractmethod
    def mode(self, policy: Policy) -> Mode:
        """How this tenant's limits are counted now."""

    @abstractmethod
    def reserve(
        self,
        policy: Policy,
        key_name: str,
        reservation_id: str,
        demand: Demand,
        note: bytes,
        done: Callable[[Decision], None],
    ) -> None:
        """Decide, and call ``done`` exactly once, at once or later, on the event loop's thread.

        A caller that has gone away meanwhile still gets its answer, and settles what was granted. ``note`` is what is
        billed if this process dies before it settles.
        """

    @abstractmethod
    def settle(
        self, policy: Policy, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool, event: bytes
    ) -> None:
        """Correct a reservation to what was used. Called exactly once for each one granted."""
