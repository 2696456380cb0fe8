"""The tenants' streams: finding them, reading what is there, deleting what is safe in PostgreSQL.

One writer watches all of them. What costs per stream is one XLEN in a pipeline (about a microsecond of Redis' time),
as often as :data:`BUSY_SHARE` allows; only streams that hold something are read. Nothing blocks on thousands of keys,
nothing has to be configured in Redis, and nothing but the entries themselves says what is still to be done: a writer
that dies, or a Redis that comes back from its file, leaves no state behind that has to be put right.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tenantry_service.ledger.link import Link, RedisRefused, checked, pack

#: Entries of one round: some 4 MB, and a commit of a tenth of a second.
BATCH_ENTRIES = 8_000
#: What one stream is given of a round, however many others wait: whole nodes of a stream hold 100 entries.
LEAST_PER_STREAM = 100
_SCAN_COUNT = 2_000
_TENANT = re.compile(rb"tn:\{([a-z0-9-]{1,63})\}:")


class Entry(NamedTuple):
    """One entry of a tenant's stream."""

    tenant: str
    id: bytes
    #: What field ``e`` holds; empty if there is none.
    payload: bytes


def stream_of(tenant: str) -> str:
    """The key of a tenant's stream."""
    return f"tn:{{{tenant}}}:usage"


async def scan(link: Link, pattern: str) -> set[bytes]:
    """All keys of a pattern (SCAN).

    Raises:
        RedisGone, RedisRefused: Redis cannot be asked.
    """
    found: set[bytes] = set()
    cursor: object = b"0"
    while True:
        answer = await link.one("SCAN", _bytes(cursor), "MATCH", pattern, "COUNT", _SCAN_COUNT)
        assert isinstance(answer, list)
        cursor = answer[0]
        found.update(answer[1])
        if cursor == b"0":
            return found


async def tenants(link: Link) -> list[str]:
    """All tenants that have keys in Redis, sorted."""
    return sorted({match[1].decode() for key in await scan(link, "tn:{*}:*") if (match := _TENANT.match(key))})


class Streams:
    """Reads rounds of entries. ``watch`` says whose streams there are."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tenants: list[str] = []
        self._lengths = b""
        #: Whose turn it is: rounds that cannot hold all go on where the last one ended.
        self._first = ""
        #: Entries that waited when it was last looked, and the age of the oldest (Unix milliseconds of its id).
        self.waiting = 0
        self.oldest_ms: int | None = None

    def watch(self, tenants: Sequence[str]) -> None:
        """From now on look at these tenants' streams."""
        in_order = sorted(tenants)
        at = bisect_left(in_order, self._first)
        wanted = [*in_order[at:], *in_order[:at]]
        if wanted != self._tenants:
            self._tenants = wanted
            self._lengths = b"".join(pack(("XLEN", stream_of(tenant))) for tenant in wanted)

    async def read(self, beyond: Mapping[str, bytes]) -> list[Entry]:
        """What waits, at most about ``BATCH_ENTRIES``, fairly shared. ``beyond``: by tenant, the last entry of a batch
        that is being written and so still there; such a stream is read from there on.

        Raises:
            RedisGone: Redis cannot be asked.
        """
        answers = await self._link.send(self._lengths, len(self._tenants)) if self._tenants else []
        filled = [(tenant, n) for tenant, n in zip(self._tenants, answers, strict=True) if isinstance(n, int) and n]
        self.waiting = sum(n for _, n in filled)
        if not filled:
            self.oldest_ms = None
            return []
        share = max(LEAST_PER_STREAM, BATCH_ENTRIES // len(filled))
        chosen: list[tuple[str, int]] = []
        expected = 0
        for tenant, waiting in filled:
            if expected >= BATCH_ENTRIES:
                # This one and those behind it come first the next time.
                self._first = tenant
                self.watch(self._tenants)
                break
            chosen.append((tenant, waiting))
            expected += min(waiting, share)
        replies = await self._link.call(
            ("XRANGE", stream_of(tenant), b"(" + beyond[tenant] if tenant in beyond else b"-", b"+", "COUNT", share)
            for tenant, _ in chosen
        )
        found: list[Entry] = []
        oldest: list[bytes] = []
        for (tenant, _), reply in zip(chosen, replies, strict=True):
            if isinstance(reply, list) and reply:
                oldest.append(reply[0][0])
                found += [Entry(tenant, id_, _payload(fields)) for id_, fields in reply]
        self.oldest_ms = min(map(_milliseconds, oldest), default=self.oldest_ms)
        return found

    async def forget(self, entries: Sequence[Entry]) -> None:
        """Delete exactly these entries (not "all up to": after a fail-over, ids may come that are older than ids seen).

        Raises:
            RedisGone: Redis cannot be asked; they come again.
        """
        by_tenant: dict[str, list[bytes]] = {}
        for entry in entries:
            by_tenant.setdefault(entry.tenant, []).append(entry.id)
        for answer in await self._link.call(("XDEL", stream_of(tenant), *ids) for tenant, ids in by_tenant.items()):
            checked(answer)


def _payload(fields: object) -> bytes:
    if isinstance(fields, list):
        if len(fields) == 2 and fields[0] == b"e" and isinstance(fields[1], bytes):
            return fields[1]
        for name, value in zip(fields[::2], fields[1::2], strict=False):
            if name == b"e" and isinstance(value, bytes):
                return value
    return b""


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise RedisRefused(f"not a cursor: {value!r}")
    return value
