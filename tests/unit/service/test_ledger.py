"""The ledger in SQLite: every event once, whatever the disk does."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tenantry_service.ledger import codec, sqlite_file, sqlite_rows
from tenantry_service.ledger.event import UsageEvent
from tenantry_service.ledger.inserts import KIND
from tenantry_service.ledger.sqlite import SqliteLedger
from tenantry_service.ledger.sqlite_file import LedgerError

#: Seconds for the last batch of a ledger that closes; a slow machine may need more than those ten that a process has.
PATIENCE = 60


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
    assert ledger.close(PATIENCE) == 0
    assert ids(tmp_path / "ledger.sqlite") == {f"req_{number}" for number in range(count)}


def test_an_event_that_comes_twice_is_there_once_and_unchanged(tmp_path: Path) -> None:
    for cost in (3, 99):
        ledger = SqliteLedger(tmp_path / "ledger.sqlite")
        ledger.append(event(1)._replace(nano_usd=cost))
        assert ledger.close(PATIENCE) == 0
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("SELECT nano_usd FROM usage_events").fetchall() == [(3,)]
    connection.close()


def test_rows_of_few_kinds_and_of_many_are_read_as_they_were_given(tmp_path: Path) -> None:
    given = [
        event(number)._replace(
            key_name=("web", "batch", f"only-{number}")[number % 7 % 3],
            duration_ms=number,
            usage=f'{{"n":{number}}}',
            image_output_tokens=number % 5 // 4,
        )
        for number in range(700)
    ]
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    for one in given:
        ledger.append(one)
    assert ledger.close(PATIENCE) == 0
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.row_factory = sqlite3.Row
    found = {row["event_id"]: row for row in connection.execute("SELECT * FROM usage_events")}
    connection.close()
    assert {one.event_id: one._asdict() for one in given} == {name: dict(row) for name, row in found.items()}


class Watched(sqlite3.Connection):
    """A connection that notes its statements, and how many values they bring."""

    statements: list[str]
    values: list[int]

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        self.statements.append(statement)
        self.values.append(len(values))
        return super().execute(statement, values)


def watched(path: Path) -> Watched:
    connection = sqlite3.connect(path, factory=Watched)
    connection.statements, connection.values = [], []
    return connection


@pytest.mark.parametrize(("count", "most"), [(1, 16), (700, 16), (1024, 32), (2500, 64), (4096, 128)])
def test_a_batch_is_written_in_steps_that_are_small_where_there_is_time(tmp_path: Path, count: int, most: int) -> None:
    path = tmp_path / "ledger.sqlite"
    sqlite_file.open_file(path).close()
    connection = watched(path)
    sqlite_rows.Rows(connection).write([event(number) for number in range(count)])
    connection.close()
    assert sqlite_rows.step_rows(count) == most
    assert max(connection.values) <= most * len(UsageEvent._fields)
    assert ids(path) == {f"req_{number}" for number in range(count)}


def test_rows_are_written_by_statements_that_sqlite_3_34_knows_and_kinds_found_in_their_index(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    sqlite_file.open_file(path).close()
    connection = watched(path)
    sqlite_rows.Rows(connection).write([event(1), event(2)._replace(key_name="web")])
    assert not [statement for statement in connection.statements if "RETURNING" in statement]
    (look_up,) = {statement for statement in connection.statements if statement.startswith("SELECT")}
    unknown = ("",) * len(KIND)
    plan = sqlite3.Connection.execute(connection, f"EXPLAIN QUERY PLAN {look_up}", unknown).fetchall()
    assert [row[3].split(" (")[0] for row in plan] == [
        "SEARCH usage_kinds USING COVERING INDEX sqlite_autoindex_usage_kinds_1"
    ]
    assert plan[0][3].count("=?") == len(KIND)
    connection.close()


def test_processes_that_write_into_one_file_give_a_kind_one_number(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    connections = [sqlite_file.open_file(path) for _ in range(2)]
    first, second = [sqlite_rows.Rows(connection) for connection in connections]
    first.write([event(1)])
    second.write([event(2)._replace(key_name="web"), event(3)])
    first.write([event(4)._replace(key_name="web")])
    for connection in connections:
        connection.close()
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT event_id, key_name FROM usage_events").fetchall())
    assert found == {"req_1": "", "req_2": "web", "req_3": "", "req_4": "web"}
    assert connection.execute("SELECT count(*) FROM usage_kinds").fetchone() == (2,)
    connection.close()


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
    assert ledger.close(PATIENCE) == 0
    assert ids(path) == {"req_0", "req_1", "req_2"}
    assert accepting(ledger)


def test_a_write_that_fails_is_tried_again_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    breaker = sqlite3.connect(path)
    # The number of the kind, given before the row failed, goes with its transaction.
    breaker.execute("ALTER TABLE usage_rows RENAME TO away")
    breaker.commit()
    ledger.append(event(1))
    while not ledger.failures:
        time.sleep(0.01)
    breaker.execute("ALTER TABLE away RENAME TO usage_rows")
    breaker.commit()
    breaker.close()
    assert ledger.close(PATIENCE) == 0
    assert ids(path) == {"req_1"}


def test_what_cannot_be_written_at_the_end_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    breaker = sqlite3.connect(path)
    breaker.execute("DROP TABLE usage_rows")
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
    assert ledger.close(PATIENCE) == 0
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
    assert ledger.close(PATIENCE) == 0
    release.join()
    blocker.close()
    assert ids(path) == {"req_1"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_dies_closes_the_door(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    # Nothing that could happen: books that do not agree with each other.
    ledger._queue.append(event(1))
    ledger._wake.set()
    ledger._writer.join(PATIENCE)
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
    assert SqliteLedger(path).close(PATIENCE) == 0
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT event_id, nano_usd || ' ' || estimated FROM usage_events").fetchall())
    connection.close()
    assert found == {f"req_{number}": "900 1" if number % 2 else "3 0" for number in range(100)}
    assert SqliteLedger(path).close(PATIENCE) == 0
    assert len(ids(path)) == 100


def test_nothing_is_left_of_the_journal_after_an_orderly_end(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.begin("req_1", codec.encode(event(1)))
    ledger.append(event(1))
    assert ledger.close(PATIENCE) == 0
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
    assert ledger.close(PATIENCE) == 0
    assert ids(tmp_path / "ledger.sqlite") == {"req_1"}


def test_more_kinds_than_are_remembered_are_stored_once_each(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    kinds = sqlite_rows.MOST_KINDS + 10
    for number in range(2 * kinds):
        ledger.append(event(number)._replace(key_name=f"key-{number % kinds}"))
    assert ledger.close(60) == 0
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    counts = "SELECT count(*), count(DISTINCT key_name), (SELECT count(*) FROM usage_kinds) FROM usage_events"
    assert connection.execute(counts).fetchall() == [(2 * kinds, kinds, kinds)]
    connection.close()


FIRST_VERSION = """
CREATE TABLE usage_events (
    event_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, key_id TEXT NOT NULL, occurred_at_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL, route TEXT NOT NULL, requested_model TEXT NOT NULL, served_model TEXT NOT NULL,
    upstream TEXT NOT NULL, status INTEGER NOT NULL, error_type TEXT NOT NULL, stream INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL, estimated INTEGER NOT NULL,
    price_version TEXT NOT NULL, policy_revision TEXT NOT NULL, usage TEXT
) WITHOUT ROWID
"""


@pytest.mark.parametrize("columns", [0, 1, 7])
def test_a_file_of_an_earlier_version_that_was_killed_in_its_first_start_is_a_new_one(
    tmp_path: Path, columns: int
) -> None:
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    for statement in (FIRST_VERSION, *sqlite_file.UPGRADES[2][:columns]):
        connection.execute(statement)
    connection.close()
    ledger = SqliteLedger(path)
    ledger.append(event(1))
    assert ledger.close(PATIENCE) == 0
    assert ids(path) == {"req_1"}


def test_a_table_of_that_name_with_rows_in_a_file_without_a_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE usage_events (what TEXT)")
    connection.execute("INSERT INTO usage_events VALUES ('something else')")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="with rows, but no version"):
        SqliteLedger(path)
    assert selected(path, "SELECT * FROM usage_events") == [("something else",)]


OLD = [event(number)._replace(route=f"/v1/{number % 2}", usage=f"{number}") for number in range(5)]


def make_earlier(path: Path, version: int) -> None:
    """A file of an earlier version, with these events, and with a view that somebody else has made."""
    width = 21 if version == 1 else len(UsageEvent._fields)
    connection = sqlite3.connect(path)
    connection.execute(FIRST_VERSION)
    for statement in sqlite_file.UPGRADES[2] if version == 2 else ():
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={version}")
    marks = ",".join("?" * width)
    connection.executemany(f"INSERT INTO usage_events VALUES ({marks})", [tuple(one)[:width] for one in OLD])
    connection.execute("CREATE VIEW by_route AS SELECT route, sum(nano_usd) FROM usage_events GROUP BY route")
    connection.commit()
    connection.close()


def selected(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_version_is_taken_over(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ledger.sqlite"
    make_earlier(path, version)
    ledger = SqliteLedger(path)
    again, new = OLD[0]._replace(nano_usd=99), event(9)._replace(key_name="web", image_input_tokens=4)
    for one in (again, new):
        ledger.append(one)
    assert ledger.close(PATIENCE) == 0
    found = selected(path, "SELECT * FROM usage_events ORDER BY event_id")
    assert found == [tuple(one) for one in (*OLD, new)]


@pytest.mark.parametrize("version", [1, 2])
def test_views_that_others_have_made_of_an_earlier_file_are_views_of_what_it_becomes(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "ledger.sqlite"
    make_earlier(path, version)
    ledger = SqliteLedger(path)
    ledger.append(event(9)._replace(route="/v1/1"))
    assert ledger.close(PATIENCE) == 0
    assert selected(path, "SELECT * FROM by_route") == [("/v1/0", 9), ("/v1/1", 9)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_version_is_the_old_or_the_new_one_wherever_its_upgrade_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    copies: list[Path] = []

    class Killed(sqlite3.Connection):
        """Keeps what a death before each statement would leave: the file and its log."""

        def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:  # type: ignore[override]
            copies.append(tmp_path / str(len(copies)))
            copies[-1].mkdir()
            for name in ("ledger.sqlite", "ledger.sqlite-wal"):
                if (tmp_path / name).exists():
                    shutil.copy(tmp_path / name, copies[-1] / name)
            return super().execute(statement, values)

    make_earlier(tmp_path / "ledger.sqlite", version)
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=Killed, **named))
        sqlite_file.open_file(tmp_path / "ledger.sqlite").close()
    assert len(copies) > len(sqlite_file.UPGRADES[3])
    for place in copies:
        path = place / "ledger.sqlite"
        assert selected(path, "PRAGMA user_version") == [(version,)]
        assert selected(path, "SELECT type FROM sqlite_master WHERE name = 'usage_events'") == [("table",)]
        sqlite_file.open_file(path).close()
    for place in (tmp_path, *copies):
        path = place / "ledger.sqlite"
        assert selected(path, "PRAGMA user_version") == [(sqlite_file.SCHEMA_VERSION,)]
        assert selected(path, "SELECT * FROM usage_events ORDER BY event_id") == [tuple(one) for one in OLD]
