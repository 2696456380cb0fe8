"""The roll-up of what a tenant has used: the shape that the ledger writes and that pods and the operator read. Pure.

The ledger's side of it is complete within seconds; what is being used at this very moment is the limiter's to say.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Self

import msgspec
from msgspec import Struct

VERSION = 1


def spend_key(tenant: str) -> str:
    """Where a tenant's roll-up is in Redis."""
    return f"tn:{{{tenant}}}:spend"


class Sums(Struct, frozen=True, kw_only=True, rename="camel"):
    """What was used in some time. Money in nano-USD. ``estimated``: of the requests, those billed at an estimate."""

    #: First day of the window (UTC); None where it is no window.
    start: date | None = None
    requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    estimated: int = 0

    def plus(self, other: "Sums | Day") -> "Sums":
        """Both together, as of this one's window."""
        return Sums(
            start=self.start,
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            nano_usd=self.nano_usd + other.nano_usd,
            estimated=self.estimated + other.estimated,
        )


class Day(Struct, frozen=True, kw_only=True, rename="camel"):
    """One model on one day (UTC)."""

    day: date
    model: str
    requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    estimated: int = 0

    @classmethod
    def read(cls, row: Sequence[Any]) -> Self:
        """A line as a ledger's query gives it: the columns are these fields, in their order."""
        return cls(**dict(zip(cls.__struct_fields__, row, strict=True)))

    @classmethod
    def of(cls, day: date, model: str, sums: Sums) -> Self:
        """A day's line from sums."""
        return cls(
            day=day,
            model=model,
            requests=sums.requests,
            input_tokens=sums.input_tokens,
            cached_input_tokens=sums.cached_input_tokens,
            output_tokens=sums.output_tokens,
            nano_usd=sums.nano_usd,
            estimated=sums.estimated,
        )


class Spend(Struct, frozen=True, kw_only=True, rename="camel"):
    """A tenant's roll-up. A window whose ``start`` has passed says nothing about the present one: there it is zero."""

    v: int = VERSION
    as_of: datetime
    day: Sums
    month: Sums
    #: Newest first.
    days: tuple[Day, ...] = ()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Spend)


def encode(spend: Spend) -> bytes:
    """As JSON."""
    return _encoder.encode(spend)


def decode(data: bytes) -> Spend | None:
    """Read a roll-up; None if it is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
