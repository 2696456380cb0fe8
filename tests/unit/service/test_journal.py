"""The write-ahead journal: what was written is there after a kill -9, and goes when it is safe elsewhere."""

import errno
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tenantry_service.ledger.journal import Journal, Record, left_behind

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tenantry_service.ledger.journal import Journal
journal = Journal(Path(sys.argv[1]), 4096)
for number in range(int(sys.argv[2])):
    journal.append(number % 3, b"record %d" % number * 5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def records(directory: Path) -> list[Record]:
    with left_behind(directory) as found:
        return found


def test_a_killed_process_leaves_every_record_behind_in_order(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(tmp_path), "500"], check=False)
    assert done.returncode == -9
    assert records(tmp_path) == [Record(number % 3, b"record %d" % number * 5) for number in range(500)]
    assert records(tmp_path) == [], "read once"


def test_what_is_not_dealt_with_stays_for_the_next_reader(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(tmp_path), "2"], check=False)
    with pytest.raises(RuntimeError), left_behind(tmp_path):
        raise RuntimeError("the database is away")
    assert len(records(tmp_path)) == 2


def test_a_living_process_s_records_are_nobody_else_s(tmp_path: Path) -> None:
    living = Journal(tmp_path)
    living.append(1, b"mine")
    assert records(tmp_path) == []
    living.close(keep=True)
    assert records(tmp_path) == [Record(1, b"mine")]


def test_a_segment_goes_when_all_of_it_is_done_and_another_is_written(tmp_path: Path) -> None:
    living = Journal(tmp_path, 4096)
    segments = [living.append(1, b"x" * 1100) for _ in range(10)]
    assert len(set(segments)) == 4
    first = [segment for segment in segments if segment == segments[0]]
    living.done(Counter(first[1:]))
    assert len(list(tmp_path.glob("*/*.journal"))) == 4
    living.done(Counter(first[:1]))
    assert len(list(tmp_path.glob("*/*.journal"))) == 3
    living.done(Counter(segments[len(first) :]))
    assert len(list(tmp_path.glob("*/*.journal"))) == 1
    living.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_record_is_left_out_and_what_came_before_it_is_not(tmp_path: Path) -> None:
    living = Journal(tmp_path, 4096)
    for payload in (b"first", b"second", b"third"):
        living.append(1, payload)
    living.close(keep=True)
    (file,) = tmp_path.glob("*/*.journal")
    data = bytearray(file.read_bytes())
    data[data.index(b"second")] ^= 1
    file.write_bytes(data)
    assert [record.payload for record in records(tmp_path)] == [b"first", b"third"]


def test_a_full_disk_is_an_error_when_a_segment_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living = Journal(tmp_path, 4096)
    living.append(1, b"x" * 4000)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            living.append(2, b"y" * 1000)
    living.append(2, b"y" * 1000)
    living.close(keep=True)
    assert [record.kind for record in records(tmp_path)] == [1, 2]


def test_a_record_larger_than_a_segment_is_refused(tmp_path: Path) -> None:
    living = Journal(tmp_path, 4096)
    with pytest.raises(ValueError, match="larger than a segment"):
        living.append(1, b"x" * 5000)
    living.append(1, b"small")
    living.close(keep=True)
    assert records(tmp_path) == [Record(1, b"small")]
