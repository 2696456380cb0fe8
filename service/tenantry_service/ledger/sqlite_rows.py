"""How rows get into the ledger's SQLite file without being in anybody's way."""

import sqlite3
import time
from collections.abc import Iterator, Sequence

from tenantry_service.ledger.event import UsageEvent
from tenantry_service.ledger.inserts import FEWEST_ROWS, KIND, MOST_ROWS, Insert, inserts

#: Between two steps of a batch.
PAUSE_SECONDS = 0.000_05
#: Steps of a batch, more or less: a long one is written in larger ones, because it must not take longer than the next
#: needs to gather; a short one is nobody's hurry.
STEPS = 32
#: Rows that are prepared at once, in statements. Preparing holds the interpreter: 0.4 ms for 512 rows.
STATEMENTS_AT_ONCE = 4

# Two statements, for RETURNING needs SQLite 3.35 and the Python of RHEL 9 has 3.34. None of the columns can be NULL, so
# the look-up is one in their index.
_NEW_KIND = (
    f"INSERT INTO usage_kinds ({', '.join(KIND)}) VALUES ({','.join('?' * len(KIND))})"  # noqa: S608
    " ON CONFLICT DO NOTHING"
)
_KIND_NUMBER = f"SELECT kind FROM usage_kinds WHERE {' AND '.join(f'{name} = ?' for name in KIND)}"  # noqa: S608
#: Kinds whose numbers are remembered: some 1 KB each.
MOST_KINDS = 4096

#: What the values of a row can be at fault for; trying again does not help.
UNWRITABLE = (
    OverflowError,
    ValueError,
    TypeError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
)


class Rows:
    """Writes rows through a connection that nobody else writes through."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._numbers: dict[tuple[object, ...], int] = {}

    def write(self, batch: Sequence[UsageEvent]) -> None:
        """Insert, in one transaction, in small steps with pauses in between: where service and writer share a core, a
        request that comes meanwhile waits for one step and not for the batch. (Linux lets a thread that runs go on for
        some milliseconds, whoever wakes up; and compiled code gives the interpreter up in no loop of its own.)

        Raises:
            sqlite3.Error: the database does not take it, now or ever (see ``UNWRITABLE``).
        """
        try:
            with self._connection:
                for number, insert in enumerate(self._steps(batch)):
                    if number:
                        time.sleep(PAUSE_SECONDS)
                    self._connection.execute(insert.statement, insert.values)
        except BaseException:
            # Numbers of kinds that this transaction has given are void.
            self._numbers.clear()
            raise

    def _steps(self, batch: Sequence[UsageEvent]) -> Iterator[Insert]:
        most = step_rows(len(batch))
        at_once = most * STATEMENTS_AT_ONCE
        for start in range(0, len(batch), at_once):
            yield from inserts(batch[start : start + at_once], self._number_of, most)

    def _number_of(self, kind: tuple[object, ...]) -> int:
        known = self._numbers.get(kind)
        if known is None:
            if len(self._numbers) >= MOST_KINDS:
                self._numbers.clear()
            # First, for it begins the transaction: from then on nobody else can give the kind a number.
            self._connection.execute(_NEW_KIND, kind)
            (known,) = self._connection.execute(_KIND_NUMBER, kind).fetchone()
            self._numbers[kind] = known
        return known


def step_rows(rows: int) -> int:
    """How many of so many rows are to be written in one step: a power of two."""
    return max(FEWEST_ROWS, min(MOST_ROWS, 1 << (max(1, rows // STEPS).bit_length() - 1)))
