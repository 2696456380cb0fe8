"""What the scripts answer, and what that means. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from tenantry_service.limits import buckets, decisions, packed
from tenantry_service.limits.bounds import Bounds
from tenantry_service.limits.buckets import State
from tenantry_service.limits.decisions import Demand, Refusal, Reservation
from tenantry_service.limits.packed import UnreadableError


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
    match packed.unpacked(data):
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
            return _granted(packed.integers(granted, 12 if key_name else 8), reservation_id, key_name, demand)
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
        demand.tokens if tenant.bounds.tokens else decisions.NOT_LIMITED,
        said[0],
        said[1],
        buckets.standing(tenant, key),
        key_name,
        demand.tokens if key is not None and key.bounds.tokens else decisions.NOT_LIMITED,
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
    s = packed.integers(members, packed.MEMBERS)
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
    return Renewed(*packed.integers(packed.unpacked(data), 3))
