"""The ledger in SQLite: every event once, whatever the disk does."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tenantry_service.ledger import codec, sqlite_file
from tenantry_service.ledger.event import UsageEvent
from tenantry_service.ledger.sqlite import SqliteLedger
from tenantry_service.ledger.sqlite_file import LedgerError


def event(number: int) -> UsageEvent:
    return UsageEvent(
        f"req_{number}", "acme", "k", 1, 2, "/v1/chat/completions", "m", "m", "main", 200, "none", False,
        1, 0, 2, 0, 3, False, "v", "r", None,
    )  # fmt: skip


def accepting(ledger: SqliteLedger) -> bool:
    """Its door as it is now: mypy takes a property, once asserted, to stay as it was."""
    return ledger.accepting


def ids(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {row[0] for row in connection.execute("SELECT event_id FROM usage_events")}
    finally:
        connection.close()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5000])
def test_every_event_is_there_after_closing(tmp_path: Path, count: int) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    for number in range(count):
        ledger.append(event(number))
    assert ledger.close() == 0
    assert ids(tmp_path / "ledger.sqlite") == {f"req_{number}" for number in range(count)}


def test_an_event_that_comes_twice_is_there_once_and_unchanged(tmp_path: Path) -> None:
    for cost in (3, 99):
        ledger = SqliteLedger(tmp_path / "ledger.sqlite")
        ledger.append(event(1)._replace(nano_usd=cost))
        assert ledger.close() == 0
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("SELECT nano_usd FROM usage_events").fetchall() == [(3,)]
    connection.close()


def test_rows_that_share_columns_are_written_as_they_are(tmp_path: Path) -> None:
    # Enough of each kind for statements of their own, and some that have nothing in common with any other.
    given = [
        event(number)._replace(
            key_name=("web", "batch", f"only-{number}")[number % 7 % 3], duration_ms=number, usage=f'{{"n":{number}}}'
        )
        for number in range(700)
    ]
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    for one in given:
        ledger.append(one)
    assert ledger.close() == 0
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.row_factory = sqlite3.Row
    found = {row["event_id"]: row for row in connection.execute("SELECT * FROM usage_events")}
    connection.close()
    assert {one.event_id: one._asdict() for one in given} == {name: dict(row) for name, row in found.items()}


class Watched(sqlite3.Connection):
    """A connection that notes how many values its statements bring."""

    values: list[int]

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        self.values.append(len(values))
        return super().execute(statement, values)


@pytest.mark.parametrize(("count", "most"), [(1, 16), (700, 16), (1024, 32), (2500, 64), (4096, 128)])
def test_a_batch_is_written_in_steps_that_are_small_where_there_is_time(tmp_path: Path, count: int, most: int) -> None:
    path = tmp_path / "ledger.sqlite"
    sqlite_file.open_file(path).close()
    connection = sqlite3.connect(path, factory=Watched)
    connection.values = []
    with connection:
        sqlite_file.write(connection, [event(number) for number in range(count)])
    connection.close()
    assert sqlite_file.step_rows(count) == most
    assert max(connection.values) <= most * len(UsageEvent._fields)
    assert ids(path) == {f"req_{number}" for number in range(count)}


def test_a_stuck_disk_keeps_the_events_and_closes_the_door(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path, queue_limit=2)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    assert accepting(ledger)
    for number in range(3):
        ledger.append(event(number))
    assert not accepting(ledger)
    blocker.execute("COMMIT")
    blocker.close()
    assert ledger.close() == 0
    assert ids(path) == {"req_0", "req_1", "req_2"}
    assert accepting(ledger)


def test_a_write_that_fails_is_tried_again_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    breaker = sqlite3.connect(path)
    breaker.execute("ALTER TABLE usage_events RENAME TO away")
    breaker.commit()
    ledger.append(event(1))
    while not ledger.failures:
        time.sleep(0.01)
    breaker.execute("ALTER TABLE away RENAME TO usage_events")
    breaker.commit()
    breaker.close()
    assert ledger.close() == 0
    assert ids(path) == {"req_1"}


def test_what_cannot_be_written_at_the_end_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    breaker = sqlite3.connect(path)
    breaker.execute("DROP TABLE usage_events")
    breaker.commit()
    breaker.close()
    ledger.append(event(1))
    assert ledger.close() == 1


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="later version"):
        SqliteLedger(path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be used as a ledger"):
        SqliteLedger(tmp_path / "file" / "ledger.sqlite")


@pytest.mark.parametrize(
    "bad", [{"input_tokens": 2**63}, {"requested_model": "\ud800"}, {"nano_usd": {}}, {"tenant": None}]
)
def test_an_event_that_no_database_takes_holds_up_no_other(tmp_path: Path, bad: dict[str, object]) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    for one in (event(1), event(2)._replace(**bad), event(3)):  # type: ignore[arg-type]
        ledger.append(one)
    assert ledger.close() == 0
    assert ledger.unwritable == 1
    assert ids(tmp_path / "ledger.sqlite") == {"req_1", "req_3"}


def test_closing_goes_on_trying_for_as_long_as_it_may(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    ledger._connection.execute("PRAGMA busy_timeout=1")
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN EXCLUSIVE")
    ledger.append(event(1))
    while not ledger.failures:
        time.sleep(0.01)
    release = threading.Timer(0.5, lambda: blocker.execute("COMMIT"))
    release.start()
    assert ledger.close() == 0
    release.join()
    blocker.close()
    assert ids(path) == {"req_1"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_dies_closes_the_door(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.append(event(1))
    # Nothing that could happen: books that do not agree with each other.
    ledger._segments.clear()
    ledger._writer.join(5)
    assert not ledger.accepting
    assert ledger.close() == 1


DIE_AT_WORK = """
import os, signal, sys
from pathlib import Path
from tenantry_service.ledger import codec
from tenantry_service.ledger.event import LOST, UsageEvent
from tenantry_service.ledger.sqlite import SqliteLedger

def event(number, cost, error_type, estimated):
    return UsageEvent(
        f"req_{number}", "acme", "k", 1, 2, "/v1/chat/completions", "m", "m", "main", 200, error_type, False,
        1, 0, 2, 0, cost, estimated, "v", "r", None,
    )

ledger = SqliteLedger(Path(sys.argv[1]))
for number in range(100):
    ledger.begin(f"req_{number}", codec.encode(event(number, 900, LOST, True)))
for number in range(0, 100, 2):
    ledger.append(event(number, 3, "none", False))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_bills_what_ended_exactly_and_the_rest_at_its_estimate(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    done = subprocess.run([sys.executable, "-c", DIE_AT_WORK, str(path)], check=False)
    assert done.returncode == -9
    assert SqliteLedger(path).close() == 0
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT event_id, nano_usd || ' ' || estimated FROM usage_events").fetchall())
    connection.close()
    assert found == {f"req_{number}": "900 1" if number % 2 else "3 0" for number in range(100)}
    assert SqliteLedger(path).close() == 0
    assert len(ids(path)) == 100


def test_nothing_is_left_of_the_journal_after_an_orderly_end(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.begin("req_1", codec.encode(event(1)))
    ledger.append(event(1))
    assert ledger.close() == 0
    assert list((tmp_path / "ledger.ahead").iterdir()) == []


def test_a_disk_without_room_for_the_journal_closes_the_door_until_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        while accepting(ledger):
            ledger.begin("req_1", codec.encode(event(1)._replace(usage="x" * 900_000)))
        assert not accepting(ledger)
    while not accepting(ledger):
        time.sleep(0.05)
    ledger.append(event(1))
    assert ledger.close() == 0
    assert ids(tmp_path / "ledger.sqlite") == {"req_1"}


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(sqlite_file.SCHEMA)
    connection.execute("PRAGMA user_version=1")
    connection.execute(f"INSERT INTO usage_events VALUES ({','.join('?' * 21)})", tuple(event(1))[:21])
    connection.commit()
    connection.close()
    ledger = SqliteLedger(path)
    ledger.append(event(2)._replace(key_name="web", image_input_tokens=4))
    assert ledger.close() == 0
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT event_id, image_input_tokens, key_name FROM usage_events").fetchall() == [
        ("req_1", 0, ""),
        ("req_2", 4, "web"),
    ]
    connection.close()
