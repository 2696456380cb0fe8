"""Readers of what our scripts have packed. Pure."""

import msgspec

#: Members of a packed state, see ``scripts/state.lua``.
MEMBERS = 19
_decode = msgspec.msgpack.Decoder().decode


class UnreadableError(Exception):
    """Redis answered something that no script of ours says."""


def integers(values: object, count: int) -> list[int]:
    """So many integers.

    Raises:
        UnreadableError: it is something else.
    """
    if isinstance(values, list) and len(values) == count:
        found = [value for value in values if isinstance(value, int)]
        if len(found) == count:
            return found
    raise UnreadableError(f"{count} numbers")


def unpacked(data: bytes) -> object:
    """What msgpack says.

    Raises:
        UnreadableError: it is none.
    """
    try:
        found: object = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error
    return found
