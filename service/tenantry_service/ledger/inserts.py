"""Usage events as INSERT statements for SQLite. Pure.

Binding a value costs as much as storing it, and two thirds of the columns are the same in all rows that one key's
requests to one model bring. Such rows share the parameters of those columns (``?1`` may stand in a statement as often
as one likes): a row then costs half as much.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from tenantry_service.ledger.event import UsageEvent

#: The columns that differ from row to row.
OWN: Final = frozenset(
    [
        "event_id",
        "occurred_at_ms",
        "duration_ms",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "nano_usd",
        "usage",
    ]
)
#: Rows per statement, a power of two. 128 x 28 parameters stay below SQLite's 32,766; programs of more rows leave the
#: processor's caches.
MOST_ROWS: Final = 128
#: Rows per statement where nothing is in a hurry, a power of two: some 50 us of SQLite's time.
FEWEST_ROWS: Final = 16
#: Fewer rows with something in common are not worth a statement of their own.
FEWEST_ALIKE: Final = 8

_OWN: Final = [place for place, name in enumerate(UsageEvent._fields) if name in OWN]
_SHARED: Final = [place for place, name in enumerate(UsageEvent._fields) if name not in OWN]
_own: Final = itemgetter(*_OWN)
_shared: Final = itemgetter(*_SHARED)


class Insert(NamedTuple):
    """A statement and the values of its parameters."""

    statement: str
    values: tuple[object, ...]


def inserts(batch: Sequence[UsageEvent], most_rows: int = MOST_ROWS) -> Iterator[Insert]:
    """All rows of a batch, at most ``most_rows`` (a power of two up to ``MOST_ROWS``) in a statement. Row counts are
    powers of two, so that SQLite's cache of statements knows all of them.

    Raises:
        TypeError: a value is of a kind that no column can hold.
    """
    alike: dict[tuple[object, ...], list[UsageEvent]] = {}
    for event in batch:
        shared = _shared(event)
        rows = alike.get(shared)
        if rows is None:
            alike[shared] = [event]
        else:
            rows.append(event)
    others: list[UsageEvent] = []
    for shared, rows in alike.items():
        if len(rows) < FEWEST_ALIKE:
            others += rows
            continue
        for start, count in _pieces(len(rows), most_rows):
            own = chain.from_iterable(map(_own, rows[start : start + count]))
            yield Insert(_statement(_ALIKE, count), (*shared, *own))
    for start, count in _pieces(len(others), most_rows):
        yield Insert(_statement(_PLAIN, count), tuple(chain.from_iterable(others[start : start + count])))


def _pieces(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Where pieces of at most ``most`` rows begin, and how many rows each has."""
    start = 0
    while start < rows:
        count = min(most, 1 << ((rows - start).bit_length() - 1))
        yield start, count
        start += count


#: Made when they are needed, by row count.
_ALIKE: Final[dict[int, str]] = {}
_PLAIN: Final[dict[int, str]] = {}


def _statement(kind: dict[int, str], rows: int) -> str:
    known = kind.get(rows)
    if known is None:
        texts = _rows_alike(rows) if kind is _ALIKE else ["(" + ",".join("?" * len(UsageEvent._fields)) + ")"] * rows
        # Only placeholders are put together here, never values.
        known = kind[rows] = f"INSERT INTO usage_events VALUES {','.join(texts)} ON CONFLICT DO NOTHING"  # noqa: S608
    return known


def _rows_alike(rows: int) -> list[str]:
    shared = {place: number for number, place in enumerate(_SHARED, 1)}
    texts = []
    for row in range(rows):
        first = len(_SHARED) + row * len(_OWN) + 1
        own = {place: number for number, place in enumerate(_OWN, first)}
        numbers = [shared.get(place) or own[place] for place in range(len(UsageEvent._fields))]
        texts.append("(" + ",".join([f"?{number}" for number in numbers]) + ")")
    return texts
