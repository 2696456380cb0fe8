"""Limits of this replica alone, for the time of one absence of Redis."""

from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.limits.limiter import Decision
from tenantry_service.limits.memory import MemoryLimiter
from tenantry_service.limits.share import share
from tenantry_service.policy import Policy


class StandIn:
    """Each replica's share of a tenant's limits, in memory. It begins with full buckets: going over to it may let
    through one minute's worth more, which is the price of not refusing."""

    def __init__(self) -> None:
        self._memory = MemoryLimiter()
        self._shares: dict[str, tuple[Policy, Policy]] = {}
        #: Reservations made here, with the policy they were made under.
        self._made: dict[str, Policy] = {}

    def reserve(
        self,
        policy: Policy,
        replicas: int,
        day_spent: int,
        month_spent: int,
        key_name: str,
        reservation_id: str,
        demand: Demand,
    ) -> Decision:
        """Decide by this replica's share; see :func:`tenantry_service.limits.share.share`."""
        whole, part = self._shares.get(policy.tenant, (None, policy))
        if whole is not policy:
            part = share(policy, replicas, day_spent, month_spent)
            self._shares[policy.tenant] = (policy, part)
        answers: list[Decision] = []
        self._memory.reserve(part, key_name, reservation_id, demand, b"", answers.append)
        (decision,) = answers
        if isinstance(decision, Reservation):
            decision.local = True
            self._made[reservation_id] = part
        return decision

    def settle(self, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
        """Correct one's own reservation; one of an earlier absence is nobody's here."""
        part = self._made.pop(reservation.id, None)
        if part is not None:
            self._memory.settle(part, reservation, tokens, nano_usd, exact=exact, event=b"")
