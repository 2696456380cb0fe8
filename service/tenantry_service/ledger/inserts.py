"""Usage events as INSERT statements for SQLite. Pure.

Most columns of a row say what kind of request it was, and a service sees few kinds: each is stored once, and a row
names it by its number. A row is then shorter by a third, and costs half as much.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from tenantry_service.ledger.event import UsageEvent

#: The columns of a kind.
KIND: Final = (
    "tenant",
    "key_id",
    "route",
    "requested_model",
    "served_model",
    "upstream",
    "status",
    "error_type",
    "stream",
    "estimated",
    "price_version",
    "policy_revision",
    "service_tier",
    "key_name",
)
#: The columns of a row, besides its kind's number.
OWN: Final = (
    "event_id",
    "occurred_at_ms",
    "duration_ms",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "nano_usd",
    "usage",
)
#: Those that are zero in most rows, and need not be given then.
RARE: Final = (
    "cache_write_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
)
#: Rows per statement, a power of two. 128 x 15 parameters stay below SQLite's 32,766; programs of more rows leave the
#: processor's caches.
MOST_ROWS: Final = 128
#: Rows per statement where nothing is in a hurry, a power of two: some 30 us of SQLite's time.
FEWEST_ROWS: Final = 16

_PLAIN: Final = ("kind", *OWN)
_WHOLE: Final = (*_PLAIN, *RARE)
_NONE: Final = (0,) * len(RARE)


def _taking(names: tuple[str, ...]) -> Callable[[UsageEvent], tuple[object, ...]]:
    return itemgetter(*[UsageEvent._fields.index(name) for name in names])


_kind: Final = _taking(KIND)
_own: Final = _taking(OWN)
_rare: Final = _taking(RARE)


class Insert(NamedTuple):
    """A statement and the values of its parameters."""

    statement: str
    values: tuple[object, ...]


def inserts(
    batch: Sequence[UsageEvent], number_of: Callable[[tuple[object, ...]], int], most_rows: int = MOST_ROWS
) -> Iterator[Insert]:
    """All rows of a batch, at most ``most_rows`` (a power of two up to ``MOST_ROWS``) in a statement. Row counts are
    powers of two, so that SQLite's cache of statements knows all of them. ``number_of`` gives a kind's number.

    Raises:
        TypeError: a value is of a kind that no column can hold.
    """
    plain: list[tuple[object, ...]] = []
    whole: list[tuple[object, ...]] = []
    for event in batch:
        number, rare = number_of(_kind(event)), _rare(event)
        if rare == _NONE:
            plain.append((number, *_own(event)))
        else:
            whole.append((number, *_own(event), *rare))
    for names, rows in ((_PLAIN, plain), (_WHOLE, whole)):
        for start, count in _pieces(len(rows), most_rows):
            values = tuple(chain.from_iterable(rows[start : start + count]))
            yield Insert(_statement(names, count), values)


def _pieces(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Where pieces of at most ``most`` rows begin, and how many rows each has."""
    start = 0
    while start < rows:
        count = min(most, 1 << ((rows - start).bit_length() - 1))
        yield start, count
        start += count


#: Made when they are needed, by the number of parameters of a row and the number of rows.
_STATEMENTS: Final[dict[tuple[int, int], str]] = {}


def _statement(names: tuple[str, ...], rows: int) -> str:
    known = _STATEMENTS.get((len(names), rows))
    if known is None:
        row = f"({','.join('?' * len(names))})"
        # Only names of columns and placeholders are put together here, never values.
        known = f"INSERT INTO usage_rows ({','.join(names)}) VALUES {','.join([row] * rows)} ON CONFLICT DO NOTHING"  # noqa: S608
        _STATEMENTS[len(names), rows] = known
    return known
