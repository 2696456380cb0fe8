"""Hours in SQLite: one row each, so that a restart loses at most what the last sample had not seen."""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from tenantry_meter.hours import HOUR, Hour, hour_of


class Store:
    """Used by the sampler's thread and the server's; raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=5)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS hours (start INTEGER PRIMARY KEY, content BLOB NOT NULL)")
        self._connection.commit()

    def read(self, start: datetime, end: datetime) -> list[Hour]:
        """The hours that begin in this window, and the one that its start is in."""
        first, last = _key(hour_of(start)), _key(end)
        with self._lock:
            rows = self._connection.execute(
                "SELECT content FROM hours WHERE start >= ? AND start < ? ORDER BY start", (first, last)
            ).fetchall()
        return [msgspec.json.decode(content, type=Hour) for (content,) in rows]

    def hour(self, start: datetime) -> Hour:
        """One hour, empty if there is none."""
        found = self.read(start, start + HOUR)
        return found[0] if found else Hour(start=start)

    def write(self, hour: Hour, keep: timedelta) -> None:
        """Write an hour, and forget those that are older than ``keep``."""
        with self._lock, self._connection:
            self._connection.execute(
                "INSERT INTO hours VALUES (?, ?) ON CONFLICT (start) DO UPDATE SET content = excluded.content",
                (_key(hour.start), msgspec.json.encode(hour)),
            )
            self._connection.execute("DELETE FROM hours WHERE start < ?", (_key(hour.start - keep),))

    def close(self) -> None:
        """Release the file."""
        self._connection.close()


def _key(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())
