"""Many processes with many connections ask one Redis for more than there is: what is let through is held against what
the limits allow, counted here in other words than the scripts'."""

from __future__ import annotations

import multiprocessing
import random
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import hiredis
from tenantry_service.limits import answers, calls, packed, records
from tenantry_service.limits.bounds import NO_BUDGET, Bounds
from tenantry_service.limits.calls import Batch, Call, Keys
from tenantry_service.limits.connection import pack
from tenantry_service.limits.decisions import Demand, Reservation, Standing

#: Ops of one script run.
BATCH = 64
_NOTE = b"[" + b"0," * 150 + b"0]"


@dataclass(frozen=True)
class Subject:
    """A tenant with one limit that it is driven against, and the sizes of its requests."""

    name: str
    bounds: Bounds
    most_tokens: int
    most_money: int


@dataclass
class Counted:
    """What one tenant was granted."""

    requests: int = 0
    tokens: int = 0
    money: int = 0

    def add(self, other: Counted) -> None:
        self.requests += other.requests
        self.tokens += other.tokens
        self.money += other.money


@dataclass(frozen=True)
class Admitted:
    """The outcome: reserves asked, how much was let through beyond the law, and the least use of what it allows."""

    reserves: int
    over: int
    utilisation: float
    most_slots: dict[str, tuple[int, int]]
    seconds: float


def subjects(seed: int, asked: int) -> list[Subject]:
    """Tenants with random limits, each far below what ``asked`` requests per tenant will want in a few minutes."""
    chance = random.Random(seed)
    made = []
    for number in range(3):
        part = max(2, asked // chance.randint(20, 80))
        made.append(Subject(f"requests-{number}", Bounds(part), 0, 0))
        made.append(Subject(f"tokens-{number}", Bounds(0, part * 200), 400, 0))
        made.append(Subject(f"budget-{number}", Bounds(budget=part * 10**6, daily=bool(number % 2)), 0, 10**6))
        made.append(Subject(f"slots-{number}", Bounds(slots=chance.randint(1, 200)), 0, 0))
    return made


def run(url: str, reserves: int, processes: int, connections: int, seed: int) -> Admitted:
    """Ask for that many reserves in all."""
    tenants = subjects(seed, reserves // 12)
    context = multiprocessing.get_context("spawn")
    admin = _Connection(url)
    for script in calls.SCRIPTS:
        admin.send(pack(b"SCRIPT", b"LOAD", script.text))
        admin.read()
    each = reserves // processes
    started = time.monotonic()
    with context.Pool(processes) as pool:
        running = pool.starmap_async(
            _ask, [(url, tenants, each, connections, f"{seed}-{number}") for number in range(processes)]
        )
        most = _watch_slots(admin, tenants, running.ready)
        found = running.get()
    ended_ms = _server_ms(admin)
    totals = {tenant.name: Counted() for tenant in tenants}
    for counted in found:
        for name, one in counted.items():
            totals[name].add(one)
    over, used = 0, []
    for tenant in tenants:
        admin.send(pack(b"GET", Keys(tenant.name).state))
        state = admin.read()
        assert isinstance(state, bytes)
        # Its first bucket was full when it was first asked.
        beyond, share = judge(tenant, totals[tenant.name], ended_ms - records.read_state(state).born_ms)
        over += beyond
        if tenant.bounds.slots:
            over += max(0, most[tenant.name] - tenant.bounds.slots)
        else:
            used.append(share)
    slots = {tenant.name: (most[tenant.name], tenant.bounds.slots) for tenant in tenants if tenant.bounds.slots}
    return Admitted(each * processes, over, min(used), slots, time.monotonic() - started)


def judge(tenant: Subject, counted: Counted, elapsed_ms: int) -> tuple[int, float]:
    """How much more was granted than the law allows in that time, and which share of it was used: one minute's worth at
    the beginning, and what flowed in since."""
    held = tenant.bounds
    if held.requests:
        allowed = held.requests * (60_000 + elapsed_ms) // 60_000
        return max(0, counted.requests - allowed), counted.requests / allowed
    if held.tokens:
        allowed = held.tokens * (60_000 + elapsed_ms) // 60_000
        return max(0, counted.tokens - allowed), counted.tokens / allowed
    if held.budget != NO_BUDGET:
        return max(0, counted.money - held.budget), counted.money / held.budget
    return 0, 1.0


class _Connection:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = hiredis.Reader()
        self.send(pack(b"AUTH", (parts.password or "").encode()))
        self.read()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> object:
        while (reply := self._replies.gets()) is False:
            self._replies.feed(self._socket.recv(1 << 18))
        if isinstance(reply, hiredis.HiredisError):
            raise reply
        return reply


def _server_ms(admin: _Connection) -> int:
    admin.send(pack(b"TIME"))
    match admin.read():
        case [bytes() as seconds, bytes() as microseconds]:
            return int(seconds) * 1000 + int(microseconds) // 1000
        case answer:
            raise packed.UnreadableError(f"{answer!r}")


def _watch_slots(admin: _Connection, tenants: Sequence[Subject], ready: object) -> dict[str, int]:
    most = {tenant.name: 0 for tenant in tenants}
    assert callable(ready)
    while not ready():
        for tenant in tenants:
            if tenant.bounds.slots:
                admin.send(pack(b"ZCARD", Keys(tenant.name).leases))
                count = admin.read()
                assert isinstance(count, int)
                most[tenant.name] = max(most[tenant.name], count)
        time.sleep(0.001)
    return most


def _ask(url: str, tenants: list[Subject], reserves: int, connections: int, name: str) -> dict[str, Counted]:
    """One process: a batch on each connection, then the answers of all; what was granted goes back in the next."""
    chance = random.Random(name)
    lines = [_Connection(url) for _ in range(connections)]
    counted = {tenant.name: Counted() for tenant in tenants}
    held: list[list[Reservation]] = [[] for _ in lines]
    wanted: list[list[Demand]] = [[] for _ in lines]
    asked, number = 0, 0
    while asked < reserves:
        for place, line in enumerate(lines):
            tenant = tenants[(number + place) % len(tenants)]
            batch = Batch(Keys(tenant.name))
            demands = wanted[place] = [
                Demand(chance.randint(0, tenant.most_tokens), chance.randint(0, tenant.most_money))
                for _ in range(BATCH)
            ]
            for index, demand in enumerate(demands):
                batch.reserve(f"{name}-{asked + index}", "", demand, _NOTE)
            asked += BATCH
            line.send(_command(batch.call(1, tenant.bounds, {}, 2**50)))
        for place, line in enumerate(lines):
            tenant = tenants[(number + place) % len(tenants)]
            answers = _answers(line, BATCH)
            first = asked - BATCH * (len(lines) - place)
            for index, (result, demand) in enumerate(zip(answers, wanted[place], strict=True)):
                if isinstance(result, list) and result[0] == 1:
                    one = counted[tenant.name]
                    one.requests += 1
                    one.tokens += demand.tokens
                    one.money += demand.nano_usd
                    taken = demand.tokens if tenant.bounds.tokens else 0
                    held[place].append(
                        Reservation(
                            f"{name}-{first + index}", demand, taken, int(result[1]), int(result[2]), Standing()
                        )
                    )
        for place, line in enumerate(lines):
            tenant = tenants[(number + place) % len(tenants)]
            if held[place]:
                batch = Batch(Keys(tenant.name))
                for reservation in held[place]:
                    batch.settle(
                        reservation, reservation.demand.tokens, reservation.demand.nano_usd, exact=True, event=b""
                    )
                line.send(_command(batch.call(1, tenant.bounds, {}, 0)))
        for place, line in enumerate(lines):
            if held[place]:
                assert set(_answers(line, len(held[place]))) == {1}
                held[place] = []
        number += connections
    return counted


def _command(call: Call) -> bytes:
    return pack(b"EVALSHA", call.script.sha, len(call.keys), *call.keys, call.argument)


def _answers(line: _Connection, count: int) -> list[object]:
    reply = line.read()
    assert isinstance(reply, bytes)
    return list(answers.read_answers(reply, count).results)
