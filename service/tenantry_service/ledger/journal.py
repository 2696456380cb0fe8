"""A write-ahead journal that costs no system call per record: memory-mapped files, which the kernel keeps when the
process is killed.

* A record is there once its head is written, which comes last; a checksum tells a record from what a machine that lost
  power left behind. (Against power loss itself there is no promise: that is what databases sync for.)
* Room is allocated when a segment is opened, so a full disk is an error then and not a SIGBUS later.
* Each process has a directory of its own below the journal's, held by a lock. Who finds one that nobody holds has found
  a dead process's, and reads it.
"""

import fcntl
import logging
import mmap
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

#: 4 MiB hold some 10,000 events; a new segment costs a millisecond.
SEGMENT_BYTES = 4 * 1024 * 1024

#: Length of the payload, its CRC-32, its kind.
_HEAD = struct.Struct("<IIB")
_HEAD_BYTES: Final = 9
_LOCK = "lock"
# As they are: looked up once and not with every record.
_write_head: Final = _HEAD.pack_into
_crc32: Final = zlib.crc32

log = logging.getLogger(__name__)


class Record(NamedTuple):
    """What was written: a small number that says what it is, and the bytes."""

    kind: int
    payload: bytes


class Journal:
    """The journal of this process. ``append`` belongs to one thread, ``done`` to one (which may be another).

    A segment is removed when as many of its records are ``done`` as it has and a newer one is being written.
    """

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Raises:
        OSError: the directory cannot be written, or the disk is full.
        """
        self._place = directory / secrets.token_hex(8)
        self._place.mkdir(parents=True)
        self._lock = _locked(self._place)
        self._bytes = segment_bytes
        self._count = 0
        self._in_segment = 0
        #: By segment: records written (by the one thread; of those before the present one) and done (by the other).
        self._written: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._map: mmap.mmap
        self._at = 0
        self.make_room()

    def append(self, kind: int, payload: bytes) -> int:
        """Write a record; returns its segment, to be given to :meth:`done`.

        Raises:
            OSError: a new segment was needed and there is no room.
            ValueError: the record is larger than a segment.
        """
        size = len(payload)
        end = self._at + _HEAD_BYTES + size
        if end > self._bytes:
            if _HEAD_BYTES + size > self._bytes:
                raise ValueError(f"a record of {size} bytes is larger than a segment")
            self.make_room()
            end = _HEAD_BYTES + size
        at, data = self._at, self._map
        data[at + _HEAD_BYTES : end] = payload
        # Last: without its length there is no record, and without its checksum a damaged one.
        _write_head(data, at, size, _crc32(payload, kind), kind)
        self._at = end
        self._in_segment += 1
        return self._count

    def done(self, records: Mapping[int, int]) -> None:
        """So many records, by their segments, are safe elsewhere."""
        done = self._done
        for segment, count in records.items():
            done[segment] = done.get(segment, 0) + count
        for segment in list(done):
            if segment != self._count and done[segment] == self._written[segment]:
                self._file(segment).unlink(missing_ok=True)
                del done[segment]
                del self._written[segment]

    def close(self, *, keep: bool) -> None:
        """End it; ``keep`` what is not done for the next process."""
        self._map.close()
        if not keep:
            shutil.rmtree(self._place, ignore_errors=True)
        self._lock.close()

    def make_room(self) -> None:
        """Begin a new segment.

        Raises:
            OSError: there is no room.
        """
        number = self._count + 1
        partial = self._place / "next"
        with partial.open("w+b") as file:
            os.posix_fallocate(file.fileno(), 0, self._bytes)
            fresh = mmap.mmap(file.fileno(), self._bytes)
        partial.rename(self._file(number))
        if self._count:
            self._map.close()
        self._written[self._count], self._in_segment = self._in_segment, 0
        self._map, self._count, self._at = fresh, number, 0

    def _file(self, segment: int) -> Path:
        return self._place / f"{segment:08d}.journal"


@contextmanager
def left_behind(directory: Path) -> Iterator[list[Record]]:
    """What processes that are gone have left, in the order in which each wrote it. Removed when the block ends well."""
    places = [(place, lock) for place in sorted(directory.glob("*/")) if (lock := _try_lock(place)) is not None]
    try:
        yield [record for place, _ in places for file in sorted(place.glob("*.journal")) for record in _read(file)]
        for place, _ in places:
            shutil.rmtree(place, ignore_errors=True)
    finally:
        for _, lock in places:
            lock.close()


def _read(file: Path) -> Iterator[Record]:
    data = file.read_bytes()
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum, kind = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + size]
        if not size or len(payload) < size:
            break
        if _crc32(payload, kind) == checksum:
            yield Record(kind, payload)
        else:
            log.error("journal: a damaged record is left out", extra={"file": file.name, "offset": at})
        at += _HEAD.size + size


def _locked(place: Path) -> IO[bytes]:
    lock = (place / _LOCK).open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _try_lock(place: Path) -> IO[bytes] | None:
    """None: its process lives (or is about to: a directory without a lock file is being made)."""
    if not (place / _LOCK).exists():
        return None
    try:
        return _locked(place)
    except OSError:
        return None
