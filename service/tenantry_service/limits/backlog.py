"""Settlements that Redis has not answered, in memory up to a bound, and in a journal that outlives a kill -9."""

import contextlib
import logging
from collections import Counter, deque
from pathlib import Path

import msgspec

from tenantry_service.ledger.journal import Journal, left_behind
from tenantry_service.limits import settlement as settlements
from tenantry_service.limits.settlement import Settlement

#: A minute of a busy replica, some 100 MB. When as many wait, no new request is taken.
MOST_WAITING = 100_000
#: Kinds of records in the journal: a settlement; what to bill for a request that was admitted without Redis.
_SETTLEMENT, _NOTE = 1, 2

log = logging.getLogger(__name__)


class Backlog:
    """See the module. Without a directory there is no journal, and without room in it only memory."""

    def __init__(self, directory: Path | None, most: int = MOST_WAITING) -> None:
        self._directory = directory
        self._most = most
        self._waiting: deque[Settlement] = deque()
        self._journal: Journal | None = None
        #: Segments of the notes of requests that were admitted without Redis, by reservation.
        self._notes: dict[str, int] = {}
        #: The journal failed; it was said once.
        self._broken = False
        if directory is not None:
            self._recover(directory)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether what comes now might be too much."""
        return len(self._waiting) >= self._most

    def begin(self, tenant: str, reservation_id: str, note: bytes) -> None:
        """A request is admitted of which Redis knows nothing: if this process dies, ``note`` is billed."""
        segment = self._write(_NOTE, msgspec.msgpack.encode([tenant, reservation_id, note]))
        if segment:
            self._notes[reservation_id] = segment

    def add(self, settlement: Settlement) -> None:
        """Keep one until Redis answers it."""
        self._waiting.append(settlement)
        if not settlement.segment and self._directory is not None:
            settlement.segment = self._write(_SETTLEMENT, settlements.encode(settlement))

    def take(self, most: int) -> list[Settlement]:
        """The oldest, all of one tenant; they are to be added again or done."""
        waiting = self._waiting
        taken: list[Settlement] = []
        while waiting and len(taken) < most and (not taken or waiting[0].tenant == taken[0].tenant):
            taken.append(waiting.popleft())
        return taken

    def done(self, settlement: Settlement) -> None:
        """Redis has it."""
        if settlement.segment or self._notes:
            segments = [settlement.segment, self._notes.pop(settlement.reservation.id, 0)]
            settlement.segment = 0
            if self._journal is not None:
                with contextlib.suppress(OSError):
                    self._journal.done(Counter(segment for segment in segments if segment))

    def close(self) -> int:
        """End; what is left stays in the journal. Returns how much that is."""
        if self._journal is not None:
            self._journal.close(keep=bool(self._waiting or self._notes))
            self._journal = None
        return len(self._waiting)

    def _write(self, kind: int, payload: bytes) -> int:
        """Returns the segment, or 0 if there is no room: then memory has to do."""
        if self._directory is None or self._broken:
            return 0
        try:
            if self._journal is None:
                self._journal = Journal(self._directory)
            return self._journal.append(kind, payload)
        except (OSError, ValueError) as error:
            self._broken = True
            log.error("usage that Redis does not take cannot be kept on disk", extra={"reason": str(error)})
            return 0

    def _recover(self, directory: Path) -> None:
        """Take what processes that were killed could not say, and keep it as one's own."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with left_behind(directory) as records:
                settled: dict[str, Settlement] = {}
                for record in records:
                    with contextlib.suppress(msgspec.MsgspecError):
                        found = _read(record.kind, record.payload)
                        if record.kind == _SETTLEMENT or found.reservation.id not in settled:
                            settled[found.reservation.id] = found
                for found in settled.values():
                    self.add(found)
        except OSError as error:
            log.error("what was kept for Redis cannot be read", extra={"reason": str(error)})
            return
        if settled:
            log.info("usage of a process that was killed is handed on", extra={"events": len(settled)})


def _read(kind: int, payload: bytes) -> Settlement:
    if kind == _SETTLEMENT:
        return settlements.decode(payload)
    return settlements.noted(*msgspec.msgpack.decode(payload, type=tuple[str, str, bytes]))
