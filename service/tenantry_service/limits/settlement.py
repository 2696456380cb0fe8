"""A settlement on its way to Redis, and as it is kept until it is there. Pure."""

import msgspec

from tenantry_service.limits.decisions import Demand, Reservation, Standing

_encode = msgspec.msgpack.Encoder().encode


class Settlement:
    """What one request used. ``sent``: it may have reached Redis before. ``segment``: where the journal has it (0: it
    has it not)."""

    __slots__ = ("event", "exact", "nano_usd", "occurred_ms", "reservation", "segment", "sent", "tenant", "tokens")

    def __init__(
        self,
        tenant: str,
        reservation: Reservation,
        tokens: int,
        nano_usd: int,
        exact: bool,
        event: bytes,
        occurred_ms: int,
    ) -> None:
        self.tenant = tenant
        self.reservation = reservation
        self.tokens = tokens
        self.nano_usd = nano_usd
        self.exact = exact
        self.event = event
        self.occurred_ms = occurred_ms
        self.sent = False
        self.segment = 0


def encode(settlement: Settlement) -> bytes:
    """For the journal."""
    reservation = settlement.reservation
    return _encode(
        [
            1,
            settlement.tenant,
            settlement.tokens,
            settlement.nano_usd,
            settlement.exact,
            settlement.event,
            settlement.occurred_ms,
            reservation.id,
            reservation.demand.tokens,
            reservation.demand.nano_usd,
            reservation.tokens_taken,
            reservation.key_name,
            reservation.key_tokens_taken,
            reservation.day,
            reservation.month,
        ]
    )


class _Kept(msgspec.Struct, array_like=True):
    version: int
    tenant: str
    tokens: int
    nano_usd: int
    exact: bool
    event: bytes
    occurred_ms: int
    id: str
    demand_tokens: int
    demand_nano_usd: int
    tokens_taken: int
    key_name: str
    key_tokens_taken: int
    day: int
    month: int


_decoder = msgspec.msgpack.Decoder(_Kept)


def decode(data: bytes) -> Settlement:
    """From the journal: of another process, perhaps of another version.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    kept = _decoder.decode(data)
    reservation = Reservation(
        kept.id,
        Demand(kept.demand_tokens, kept.demand_nano_usd),
        kept.tokens_taken,
        kept.day,
        kept.month,
        Standing(),
        kept.key_name,
        kept.key_tokens_taken,
    )
    settlement = Settlement(
        kept.tenant, reservation, kept.tokens, kept.nano_usd, kept.exact, kept.event, kept.occurred_ms
    )
    settlement.sent = True
    return settlement


def noted(tenant: str, reservation_id: str, note: bytes) -> Settlement:
    """Of a request that was admitted without Redis, by a process that was killed: billed as its note says."""
    settlement = Settlement(tenant, Reservation(reservation_id, Demand(), 0, 0, 0, Standing()), 0, 0, False, note, 0)
    settlement.sent = True
    return settlement
