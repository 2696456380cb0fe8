"""Answers that are kept to be given again: a tenant's cache, and what was answered to an ``Idempotency-Key``. Pure.

In this process's memory, bounded per tenant by bytes and by time; what is pushed out or lost with the process is asked
anew. A store that several processes share has the same interface: it may answer later.
"""

import enum
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from tenantry_service.policy import Keeping

#: What an entry costs beside its answer's bytes, roughly.
ENTRY_BYTES = 512
#: One answer may take this share of what its tenant may keep.
LARGEST_SHARE = 4


class Purpose(enum.Enum):
    """What an answer is kept for."""

    CACHE = "cache"
    IDEMPOTENCY = "idempotency"


class Claim:
    """Asks for the answer to what ``key`` stands for (unique within the tenant and the purpose), or for the right to
    give one. ``fingerprint`` is what has to be equal under an equal key."""

    __slots__ = ("fingerprint", "keeping", "key", "purpose", "tenant")

    def __init__(self, tenant: str, purpose: Purpose, key: bytes, fingerprint: bytes, keeping: Keeping) -> None:
        self.tenant = tenant
        self.purpose = purpose
        self.key = key
        self.fingerprint = fingerprint
        self.keeping = keeping

    @property
    def most_bytes(self) -> int:
        """The largest answer that is kept for it."""
        return self.keeping.max_bytes // LARGEST_SHARE


class KeptAnswer:
    """A whole answer: status, header lines (without those that belong to one request) and body."""

    __slots__ = ("body", "lines", "status")

    def __init__(self, status: int, lines: bytes, body: bytes) -> None:
        self.status = status
        self.lines = lines
        self.body = body


class Verdict(enum.Enum):
    """What becomes of a claim that no answer is kept for."""

    #: Nobody has asked before: go on, and say in the end what was answered.
    GRANTED = "granted"
    #: The same request is under way.
    IN_PROGRESS = "in_progress"
    #: Its key belongs to another request.
    CONFLICT = "conflict"
    #: It was answered, by more than can be kept.
    TOO_LARGE = "too_large"


Recalled = Verdict | KeptAnswer
#: Stands for an answer that was given but is too large to be kept.
TOO_LARGE = KeptAnswer(0, b"", b"")


class AnswerStore(Protocol):
    """Where answers are kept."""

    def claim(self, claim: Claim, now: float, done: Callable[[Recalled], None]) -> None:
        """Look it up, and call ``done`` exactly once, at once or later; ``now`` in monotonic seconds. Who is granted an
        idempotency claim has to :meth:`keep` it exactly once."""

    def keep(self, claim: Claim, answer: KeptAnswer | None, now: float) -> None:
        """End a granted claim; None: there is no answer, the next one who asks may try."""


class _Entry:
    __slots__ = ("answer", "expires", "fingerprint", "size")

    def __init__(self, fingerprint: bytes, answer: KeptAnswer | None, expires: float) -> None:
        self.fingerprint = fingerprint
        #: None while it is being made.
        self.answer = answer
        self.expires = expires
        self.size = ENTRY_BYTES + (0 if answer is None else len(answer.body) + len(answer.lines))


class _Shelf:
    """The entries of one tenant and purpose, the one used longest ago first."""

    __slots__ = ("entries", "size")

    def __init__(self) -> None:
        self.entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.size = 0

    def put(self, key: bytes, entry: _Entry) -> None:
        self.drop(key)
        self.entries[key] = entry
        self.size += entry.size

    def drop(self, key: bytes) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size

    def shrink(self, most: int) -> None:
        # What is being made stays: there are never more of those than requests in flight.
        for key in list(self.entries) if self.size > most else ():
            if self.size <= most:
                return
            if self.entries[key].answer is not None:
                self.drop(key)


class MemoryAnswers:
    """See :class:`AnswerStore`."""

    def __init__(self) -> None:
        self._shelves: dict[tuple[str, Purpose], _Shelf] = {}

    @property
    def size(self) -> int:
        """Bytes that are kept, roughly."""
        return sum(shelf.size for shelf in self._shelves.values())

    def claim(self, claim: Claim, now: float, done: Callable[[Recalled], None]) -> None:
        """Decide at once: ``done`` is called before this returns."""
        done(self._recall(claim, now))

    def _recall(self, claim: Claim, now: float) -> Recalled:
        shelf = self._shelf(claim)
        found = shelf.entries.get(claim.key)
        if found is not None and found.answer is not None and now >= found.expires:
            shelf.drop(claim.key)
            found = None
        if found is None:
            if claim.purpose is Purpose.IDEMPOTENCY:
                shelf.put(claim.key, _Entry(claim.fingerprint, None, 0.0))
            return Verdict.GRANTED
        if found.fingerprint != claim.fingerprint:
            return Verdict.CONFLICT
        if found.answer is None:
            return Verdict.IN_PROGRESS
        if found.answer is TOO_LARGE:
            return Verdict.TOO_LARGE
        shelf.entries.move_to_end(claim.key)
        return found.answer

    def keep(self, claim: Claim, answer: KeptAnswer | None, now: float) -> None:
        """End a granted claim."""
        shelf = self._shelf(claim)
        if answer is None:
            if claim.purpose is Purpose.IDEMPOTENCY:
                shelf.drop(claim.key)
            return
        shelf.put(claim.key, _Entry(claim.fingerprint, answer, now + claim.keeping.ttl_seconds))
        shelf.shrink(claim.keeping.max_bytes)

    def _shelf(self, claim: Claim) -> _Shelf:
        place = (claim.tenant, claim.purpose)
        found = self._shelves.get(place)
        if found is None:
            found = self._shelves[place] = _Shelf()
        return found
