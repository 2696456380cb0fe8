"""What is kept in Redis, as others than the scripts read it: reservations and states. Pure."""

import struct
from typing import NamedTuple

from tenantry_service.limits import packed
from tenantry_service.limits.decisions import Demand
from tenantry_service.limits.packed import UnreadableError

_STATE = struct.Struct(f"<{packed.MEMBERS}d")


class Record(NamedTuple):
    """A reservation as it is kept. ``note``: the usage event to bill if its process dies."""

    key_name: str
    demand: Demand
    tokens_taken: int
    key_tokens_taken: int
    day: int
    month: int
    note: bytes


def read_record(data: bytes) -> Record:
    """Read a value of the reservations' hash.

    Raises:
        UnreadableError: it is none of ours.
    """
    match packed.unpacked(data):
        case [
            int(),
            str() as key_name,
            int() as tokens,
            int() as nano_usd,
            int() as taken,
            int() as key_taken,
            int() as day,
            int() as month,
            str() as note,
            *_,
        ]:
            return Record(key_name, Demand(tokens, nano_usd), taken, key_taken, day, month, note.encode())
        case _:
            raise UnreadableError("a reservation's record")


class StateView(NamedTuple):
    """What others than the scripts may know of a packed state. Windows in Unix seconds, money in nano-USD. A state
    that is not ``seeded`` does not know what was spent before ``born_ms``."""

    born_ms: int
    seeded: bool
    day: int
    day_nano_usd: int
    month: int
    month_nano_usd: int


def read_state(data: bytes) -> StateView:
    """Read the value of a state's key.

    Raises:
        UnreadableError: it is none of ours.
    """
    if len(data) < _STATE.size:
        raise UnreadableError("a state")
    state = [int(member) for member in _STATE.unpack_from(data)]
    return StateView(state[1], state[2] == 1, state[14], state[16], state[17], state[18])
