"""The roll-up of what a tenant has used: the shape that the ledger writes and that pods and the operator read. Pure.

The ledger's side of it is complete within seconds; what is being used at this very moment is the limiter's to say.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

VERSION = 1


def spend_key(tenant: str) -> str:
    """Where a tenant's roll-up is in Redis."""
    return f"tn:{{{tenant}}}:spend"


class Sums(Struct, frozen=True, kw_only=True, rename="camel"):
    """What was used in some time. Money in nano-USD. ``estimated``: of the requests, those billed at an estimate."""

    requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    estimated: int = 0

    def plus(self, other: "Sums") -> Self:
        """Both together; all else is as in this one."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in _ADDED})


_ADDED = Sums.__struct_fields__


class Used(Sums, frozen=True, kw_only=True, rename="camel"):
    """What was used in a window."""

    #: First day of the window (UTC); None where it is no window.
    start: date | None = None


class Day(Sums, frozen=True, kw_only=True, rename="camel"):
    """One model on one day (UTC)."""

    day: date
    model: str

    @classmethod
    def read(cls, row: Sequence[Any]) -> Self:
        """A line as a ledger's query gives it: day, model, and the sums in the order of their fields."""
        day, model, *sums = row
        return cls(day=day, model=model, **dict(zip(_ADDED, sums, strict=True)))


class Spend(Struct, frozen=True, kw_only=True, rename="camel"):
    """A tenant's roll-up. A window whose ``start`` has passed says nothing about the present one: there it is zero."""

    v: int = VERSION
    as_of: datetime
    day: Used
    month: Used
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
