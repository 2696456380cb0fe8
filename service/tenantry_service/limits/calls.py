"""What is said to Redis about limits: the scripts, their arguments and what their answers mean. Pure.

All keys of a tenant begin with ``tn:{<tenant>}:``; the braces put them into one slot of a Redis Cluster (Redis
documentation, "Redis cluster specification", hash tags), and a tenant's Redis user may touch no others.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tenantry_service.limits import buckets
from tenantry_service.limits.bounds import Bounds
from tenantry_service.limits.buckets import Demand, Refusal, Reservation, State

#: How long a reservation, and the slot that it holds, outlives the last sign of life of its process.
LEASE_MS = 30_000
#: How long a swept reservation is remembered, for the case that its process lives and settles it after all.
SWEPT_KEPT_MS = 7 * 86_400_000
#: Members of a packed state, see ``scripts/state.lua``.
_MEMBERS = 19
_PACKED = struct.Struct(f"<{_MEMBERS}d")

_SCRIPTS = Path(__file__).with_name("scripts")
# Redis' own reader of msgpack knows text but no "bin": JSON travels as text.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


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


class UnreadableError(Exception):
    """Redis answered something that no script of ours says."""


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
                *_used(tokens, nano_usd),
                exact,
                reservation.tokens_taken,
                reservation.key_tokens_taken,
                reservation.demand.nano_usd,
                reservation.day,
                reservation.month,
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


def _used(tokens: int, nano_usd: int) -> tuple[int, int]:
    """As much of it as a double can hold."""
    return min(tokens, buckets.MOST_TOKENS), min(nano_usd, buckets.MOST_MONEY)


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
    argument = [
        first,
        occurred_ms,
        *_used(tokens, nano_usd),
        exact,
        reservation.tokens_taken,
        reservation.key_tokens_taken,
        reservation.demand.nano_usd,
        reservation.day,
        reservation.month,
        event.decode(),
    ]
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


class Record(NamedTuple):
    """A reservation as it is kept. ``note``: the usage event to bill if its process dies."""

    key_name: str
    demand: Demand
    tokens_taken: int
    key_tokens_taken: int
    day: int
    month: int
    note: bytes


def read_record(data: bytes) -> Record:
    """Read a value of the reservations' hash.

    Raises:
        UnreadableError: it is none of ours.
    """
    match _unpacked(data):
        case [
            int(),
            str() as key_name,
            int() as tokens,
            int() as nano_usd,
            int() as taken,
            int() as key_taken,
            int() as day,
            int() as month,
            str() as note,
            *_,
        ]:
            return Record(key_name, Demand(tokens, nano_usd), taken, key_taken, day, month, note.encode())
        case _:
            raise UnreadableError("a reservation's record")


def sweep(keys: Keys, records: Mapping[str, Record], before_ms: int) -> Call:
    """Bill reservations as reserved, those whose lease ended not after ``before_ms`` (server's time). Answers how many
    there were; those that were renewed or settled meanwhile are left alone."""
    names = [keys.leases, keys.reservations, keys.usage]
    parts: list[object] = [before_ms, SWEPT_KEPT_MS]
    for reservation_id, record in records.items():
        names += (keys.swept(reservation_id), keys.leases_of(record.key_name))
        parts.append([reservation_id, record.note.decode()])
    return Call(SWEEP, tuple(names), _encode(parts))


class StateView(NamedTuple):
    """What others than the scripts may know of a packed state. Windows in Unix seconds, money in nano-USD. A state
    that is not ``seeded`` does not know what was spent before ``born_ms``."""

    born_ms: int
    seeded: bool
    day: int
    day_nano_usd: int
    month: int
    month_nano_usd: int


def read_state(data: bytes) -> StateView:
    """Read the value of a state's key.

    Raises:
        UnreadableError: it is none of ours.
    """
    if len(data) < _PACKED.size:
        raise UnreadableError("a state")
    state = [int(member) for member in _PACKED.unpack_from(data)]
    return StateView(state[1], state[2] == 1, state[14], state[16], state[17], state[18])


def seed(keys: Keys, key_name: str, state: StateView, day_nano_usd: int, month_nano_usd: int) -> Call:
    """Add what was spent in the state's windows before it was born. Answers 1, or 0 if somebody else has done it."""
    argument = [state.born_ms, state.day, day_nano_usd, state.month, month_nano_usd]
    return Call(SEED, (keys.state_of(key_name),), _encode(argument))


# Answers.


class Late:
    """The reserve came after its deadline and did nothing."""

    __slots__ = ()


class Done:
    """A settlement was carried out."""

    __slots__ = ()


LATE_ANSWER = Late()
DONE = Done()


class Granted(NamedTuple):
    """A reservation, and what its tenant has spent with it in the present day and month (nano-USD)."""

    reservation: Reservation
    day_spent: int
    month_spent: int


class Answers(NamedTuple):
    """Of a batch: the server's time (Unix ms; 0 if nothing was to be reserved), and what came of each op."""

    now_ms: int
    results: Sequence[object]


def read_answers(data: bytes, expected: int) -> Answers:
    """Read what a batch brought.

    Raises:
        UnreadableError: it is no answer to a batch of that many ops.
    """
    match _unpacked(data):
        case [int() as now, *results] if len(results) == expected:
            return Answers(now, results)
        case _:
            raise UnreadableError("an answer to reserves and settlements")


def read_decision(
    result: object, now_ms: int, reservation_id: str, key_name: str, demand: Demand
) -> Granted | Refusal | Late:
    """What a reserve's result means.

    Raises:
        UnreadableError: it is none.
    """
    match result:
        case [1, *granted]:
            return _granted(_integers(granted, 12 if key_name else 8), reservation_id, key_name, demand)
        case [0, list() as state, int() as slots]:
            return _refused(_state(state, slots), None, demand, now_ms)
        case [0, list() as state, int() as slots, list() as of_key, int() as key_slots]:
            return _refused(_state(state, slots), _state(of_key, key_slots), demand, now_ms)
        case [2]:
            return LATE_ANSWER
        case _:
            raise UnreadableError("an answer to a reserve")


def _granted(said: list[int], reservation_id: str, key_name: str, demand: Demand) -> Granted:
    tenant = _levels(*said[2:6])
    key = _levels(*said[8:12]) if key_name else None
    reservation = Reservation(
        reservation_id,
        demand,
        demand.tokens if tenant.bounds.tokens else buckets.NOT_LIMITED,
        said[0],
        said[1],
        buckets.standing(tenant, key),
        key_name,
        demand.tokens if key is not None and key.bounds.tokens else buckets.NOT_LIMITED,
    )
    return Granted(reservation, said[6], said[7])


def _refused(tenant: State, key: State | None, demand: Demand, now_ms: int) -> Refusal:
    refused = buckets.refusal(tenant, key, demand, now_ms)
    if refused is None:
        raise UnreadableError("a refusal for which there is no reason")
    return refused


def _levels(requests_limit: int, requests: int, tokens_limit: int, tokens: int) -> State:
    state = State()
    state.bounds = Bounds(requests_limit, tokens_limit)
    state.requests, state.tokens = requests, tokens
    return state


def _state(members: list[object], slots_used: int) -> State:
    s = _integers(members, _MEMBERS)
    state = State()
    state.bounds = Bounds(s[6], s[7], s[8], s[9], bool(s[10]), bool(s[11]))
    state.updated_ms, state.requests, state.tokens = s[3], s[12], s[13]
    state.day, state.day_ends_ms, state.day_spent = s[14], s[15], s[16]
    state.month, state.month_spent = s[17], s[18]
    state.in_flight = slots_used
    return state


class Renewed(NamedTuple):
    """The server's time (Unix ms), processes of the tenant alive, and how many reservations are not there any more."""

    now_ms: int
    processes: int
    gone: int


def read_renewed(data: bytes) -> Renewed:
    """Read the answer to :func:`renew`.

    Raises:
        UnreadableError: it is none.
    """
    return Renewed(*_integers(_unpacked(data), 3))


def _integers(values: object, count: int) -> list[int]:
    if isinstance(values, list) and len(values) == count:
        found = [value for value in values if isinstance(value, int)]
        if len(found) == count:
            return found
    raise UnreadableError(f"{count} numbers")


def _unpacked(data: bytes) -> object:
    try:
        found: object = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error
    return found
