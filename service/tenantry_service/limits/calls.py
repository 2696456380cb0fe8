"""What is said to Redis about limits: the scripts and their arguments. Pure. (``answers.py`` has what they answer.)

All keys of a tenant begin with ``tn:{<tenant>}:``; the braces put them into one slot of a Redis Cluster (Redis
documentation, "Redis cluster specification", hash tags), and a tenant's Redis user may touch no others.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tenantry_service.limits import decisions
from tenantry_service.limits.bounds import Bounds
from tenantry_service.limits.decisions import Demand, Reservation
from tenantry_service.limits.records import Record, StateView

#: How long a reservation, and the slot that it holds, outlives the last sign of life of its process.
LEASE_MS = 30_000
#: How long a swept reservation is remembered, for the case that its process lives and settles it after all.
SWEPT_KEPT_MS = 7 * 86_400_000
_SCRIPTS = Path(__file__).with_name("scripts")
# Redis' own reader of msgpack knows text but no "bin": JSON travels as text.
_encode = msgspec.msgpack.Encoder().encode


class Script(NamedTuple):
    """A script and the name that Redis knows it by once it is loaded. Each version has its own."""

    text: bytes
    sha: bytes


def _script(name: str) -> Script:
    text = b"".join((_SCRIPTS / part).read_bytes() for part in ("state.lua", name))
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


TRANSACT = _script("transact.lua")
LATE = _script("late.lua")
RENEW = _script("renew.lua")
SWEEP = _script("sweep.lua")
SEED = _script("seed.lua")
CANCEL = _script("cancel.lua")
SCRIPTS = (TRANSACT, LATE, CANCEL, RENEW, SWEEP, SEED)


class Call(NamedTuple):
    """One run of a script. ``EVALSHA sha len(keys) *keys argument``; ``NOSCRIPT`` means that it has to be loaded."""

    script: Script
    keys: tuple[bytes, ...]
    argument: bytes


class Keys:
    """Names of one tenant's keys."""

    __slots__ = ("base", "leases", "processes", "reservations", "state", "usage")

    def __init__(self, tenant: str) -> None:
        self.base = f"tn:{{{tenant}}}:".encode()
        self.state = self.base + b"limits"
        self.leases = self.base + b"leases"
        self.reservations = self.base + b"reservations"
        self.usage = self.base + b"usage"
        self.processes = self.base + b"pods"

    def state_of(self, key_name: str) -> bytes:
        """Of a key with limits of its own; of the tenant if the id is empty."""
        return b"%b:%b" % (self.state, key_name.encode()) if key_name else self.state

    def leases_of(self, key_name: str) -> bytes:
        """Of a key with limits of its own; of the tenant if the id is empty."""
        return b"%b:%b" % (self.leases, key_name.encode()) if key_name else self.leases

    def swept(self, reservation_id: str) -> bytes:
        """Where the note of a swept reservation is."""
        return b"%bswept:%b" % (self.base, reservation_id.encode())


# A pod's calls.


class Batch:
    """Reserves and settlements of one tenant that travel together."""

    __slots__ = ("_key_names", "keys", "ops", "reserves")

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.ops: list[list[object]] = []
        self.reserves = False
        self._key_names: list[str] = []

    def _scope(self, key_name: str) -> int:
        if not key_name:
            return 0
        if key_name not in self._key_names:
            self._key_names.append(key_name)
        return self._key_names.index(key_name) + 2

    def reserve(self, reservation_id: str, key_name: str, demand: Demand, note: bytes) -> None:
        """``key_name`` is empty for a key without limits of its own."""
        self.reserves = True
        self.ops.append([1, reservation_id, self._scope(key_name), demand.tokens, demand.nano_usd, note.decode()])

    def settle(self, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool, event: bytes) -> None:
        """See :func:`tenantry_service.limits.buckets.settle`. Without an event nothing is billed."""
        self.ops.append(
            [
                2,
                reservation.id,
                self._scope(reservation.key_name),
                *_correction(reservation, tokens, nano_usd, exact),
                event.decode(),
            ]
        )

    def call(self, generation: int, tenant: Bounds, keys: Mapping[str, Bounds], deadline_ms: int) -> Call:
        """``deadline_ms``: the server's time after which no reserve is wanted any more."""
        scopes: list[object] = [_bounds("", tenant)]
        names = [self.keys.state, self.keys.leases, self.keys.reservations, self.keys.usage]
        for key_name in self._key_names:
            held = keys.get(key_name)
            scopes.append(False if held is None else _bounds(key_name, held))
            names += (self.keys.state_of(key_name), self.keys.leases_of(key_name))
        argument = [deadline_ms if self.reserves else 0, LEASE_MS, generation, scopes, self.ops]
        return Call(TRANSACT, tuple(names), _encode(argument))


def _bounds(key_name: str, held: Bounds) -> list[object]:
    return [key_name, held.requests, held.tokens, held.slots, held.budget, int(held.daily), int(held.refuses)]


def _correction(reservation: Reservation, tokens: int, nano_usd: int, exact: bool) -> list[object]:
    """What was used, as much of it as a double can hold, and what it takes the place of."""
    return [
        min(tokens, decisions.MOST_TOKENS),
        min(nano_usd, decisions.MOST_MONEY),
        exact,
        reservation.tokens_taken,
        reservation.key_tokens_taken,
        reservation.demand.nano_usd,
        reservation.day,
        reservation.month,
    ]


def late(
    keys: Keys,
    reservation: Reservation,
    tokens: int,
    nano_usd: int,
    *,
    exact: bool,
    event: bytes,
    occurred_ms: int,
    first: bool,
) -> Call:
    """A settlement whose reservation is not there. ``first``: it was never sent before, so this is no repetition."""
    names = [keys.state, keys.usage, keys.swept(reservation.id)]
    if reservation.key_name:
        names.append(keys.state_of(reservation.key_name))
    argument = [first, occurred_ms, *_correction(reservation, tokens, nano_usd, exact), event.decode()]
    return Call(LATE, tuple(names), _encode(argument))


def cancel(keys: Keys, reservation_id: str, key_name: str) -> Call:
    """Give back what a reserve took whose answer never came. Answers 1, or 0 if it had taken nothing. To be sent once
    the reserve's deadline has passed."""
    names = [keys.state, keys.leases, keys.reservations]
    if key_name:
        names += (keys.state_of(key_name), keys.leases_of(key_name))
    return Call(CANCEL, tuple(names), reservation_id.encode())


def renew(keys: Keys, process: str, held: Mapping[str, Sequence[str]]) -> Call:
    """Say that a process lives. ``held``: its reservations' ids, all of them under ``""``, and once more those of keys
    with limits of their own under the key's id."""
    names = [keys.leases, keys.processes]
    parts: list[object] = [LEASE_MS, process]
    for key_name, ids in held.items():
        if key_name:
            names.append(keys.leases_of(key_name))
        parts.append([len(names) if key_name else 1, list(ids)])
    return Call(RENEW, tuple(names), _encode(parts))


# The sweeper's and the ledger's calls.


def sweep(keys: Keys, records: Mapping[str, Record], before_ms: int) -> Call:
    """Bill reservations as reserved, those whose lease ended not after ``before_ms`` (server's time). Answers how many
    there were; those that were renewed or settled meanwhile are left alone."""
    names = [keys.leases, keys.reservations, keys.usage]
    parts: list[object] = [before_ms, SWEPT_KEPT_MS]
    for reservation_id, record in records.items():
        names += (keys.swept(reservation_id), keys.leases_of(record.key_name))
        parts.append([reservation_id, record.note.decode()])
    return Call(SWEEP, tuple(names), _encode(parts))


def seed(keys: Keys, key_name: str, state: StateView, day_nano_usd: int, month_nano_usd: int) -> Call:
    """Add what was spent in the state's windows before it was born. Answers 1, or 0 if somebody else has done it."""
    argument = [state.born_ms, state.day, day_nano_usd, state.month, month_nano_usd]
    return Call(SEED, (keys.state_of(key_name),), _encode(argument))
