"""Limits in Redis, for all replicas of a tenant together.

What one loop iteration brings of a tenant, reserves and settlements, is one run of one script. A reservation is durable
with its lease: if this process dies, the slot is free when the lease ends, and the sweeper bills what was reserved.
A settlement is kept until Redis has answered it, and repeated on the next connection if it has not; Redis knows each
reservation once, so a repetition changes no limit, and the ledger knows each event once.

While Redis does not answer, a tenant's requests are refused or held to this replica's share, as its policy says.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import hiredis

from tenantry_service.limits import calls
from tenantry_service.limits.backlog import Backlog
from tenantry_service.limits.bounds import Bounds, Held
from tenantry_service.limits.buckets import Demand, Refusal, Reservation
from tenantry_service.limits.calls import Batch, Call, Granted, Keys, UnreadableError
from tenantry_service.limits.connection import Asker, Reply, pack
from tenantry_service.limits.limiter import Decision, Mode, Unknown
from tenantry_service.limits.link import TIMEOUT_SECONDS, Link
from tenantry_service.limits.settlement import Settlement
from tenantry_service.limits.stand_in import StandIn
from tenantry_service.policy import Policy, WhenUnavailable

#: Ops of one script run: at some 10 us each it keeps Redis from others for a millisecond at most.
MOST_OPS = 64
#: Settlements that Redis has answered are said again to the next Redis for this long: a replica that is promoted, or an
#: AOF synced every second, may not have the last of them.
SAID_AGAIN_SECONDS = 2.5
RENEW_SECONDS = calls.LEASE_MS / 3000
#: Ids of one renewal.
_RENEWED_AT_ONCE = 500
#: A tenant that has been quiet for so long needs no sign of life of this process.
_QUIET_SECONDS = 120.0

log = logging.getLogger(__name__)

Done = Callable[[Decision], None]


class _Reserve:
    """A reserve under way."""

    __slots__ = ("again", "demand", "done", "id", "key_name", "limited_key", "note")

    def __init__(
        self,
        key_name: str,
        limited_key: str,
        id: str,  # noqa: A002
        demand: Demand,
        note: bytes,
        done: Done,
    ) -> None:
        self.key_name = key_name
        #: The same if that key has limits of its own, else empty.
        self.limited_key = limited_key
        self.id = id
        self.demand = demand
        self.note = note
        self.done = done
        self.again = False


class _Tenant:
    """One tenant as this process sees it. ``held`` is None for one whose settlements a dead process left."""

    def __init__(self, name: str, held: Held | None) -> None:
        self.name = name
        self.keys = Keys(name)
        self.held = held
        self.waiting: list[_Reserve | Settlement] = []
        #: Reservations that are not settled, with the id of the key if that has limits: in order of their age.
        self.live: dict[str, tuple[str, float]] = {}
        self.used_at = 0.0
        self.replicas = 1
        self.day_spent = 0
        self.month_spent = 0


class RedisLimiter:
    """See the module, and :class:`tenantry_service.limits.limiter.Limiter`. Belongs to the loop's thread."""

    def __init__(self, file: Path, journal: Path | None = None) -> None:
        """``file`` holds Redis' address; ``journal`` is a directory that outlives this process, if there is one."""
        self._loop = asyncio.get_running_loop()
        self._link = Link(file, self)
        self._tenants: dict[str, _Tenant] = {}
        self._dirty: list[_Tenant] = []
        self._backlog = Backlog(journal)
        self._answered: deque[tuple[float, Settlement]] = deque()
        self._stand_in = StandIn()
        self._process = secrets.token_hex(8)
        #: The server's Unix time less our loop's time, in ms.
        self._clock_ms = 0
        self._reason = "Redis has not answered yet"
        self._settlements = 0
        self._absences = 0

    # What the service calls.

    @property
    def accepting(self) -> bool:
        """False while the backlog is full."""
        return not self._backlog.full

    @property
    def records(self) -> bool:
        """Events travel with the settlements."""
        return True

    def figures(self) -> tuple[int, int, int]:
        """Settlements that wait for Redis, those that it has, and how often it was lost."""
        return len(self._backlog), self._settlements, self._absences

    def mode(self, policy: Policy) -> Mode:
        """How this tenant's limits are counted now."""
        if self._link.up:
            return Mode.SHARED
        local = policy.limits.when_unavailable is WhenUnavailable.LOCAL_SHARE
        return Mode.LOCAL_SHARE if local else Mode.REFUSING

    def reserve(
        self, policy: Policy, key_name: str, reservation_id: str, demand: Demand, note: bytes, done: Done
    ) -> None:
        """Ask with all others of this loop iteration."""
        tenant = self._tenant(policy)
        tenant.used_at = self._loop.time()
        assert tenant.held is not None
        asked = _Reserve(key_name, key_name if key_name in tenant.held.keys else "", reservation_id, demand, note, done)
        if self._link.up:
            self._put(tenant, asked)
        else:
            self._decide_alone(tenant, asked)

    def settle(
        self, policy: Policy, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool, event: bytes
    ) -> None:
        """Tell Redis, now or when it is back."""
        tenant = self._tenant(policy)
        tenant.live.pop(reservation.id, None)
        if reservation.local:
            self._stand_in.settle(reservation, tokens, nano_usd, exact=exact)
        settlement = Settlement(
            policy.tenant, reservation, tokens, nano_usd, exact, event, self._clock_ms + int(self._loop.time() * 1000)
        )
        if self._link.up:
            self._put(tenant, settlement)
        else:
            self._backlog.add(settlement)

    async def run(self) -> None:
        """Keep in touch with Redis for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            tasks.create_task(self._renew())

    async def started(self, timeout_seconds: float) -> None:
        """Wait for the first answer, but no longer than that."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._link.tried.wait()
        except TimeoutError:
            log.warning("Redis has not answered yet")

    async def finish(self, timeout_seconds: float) -> int:
        """Wait until all is settled; returns what is not."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._backlog or self._dirty or self._link.busy:
                    await self._link.idle()
        except TimeoutError:
            log.warning("Redis does not take all that was used", extra={"settlements": len(self._backlog)})
        return self._backlog.close()

    # One loop iteration's worth.

    def _tenant(self, policy: Policy) -> _Tenant:
        """Under the newest policy that any request came with, see ``limits/memory.py``."""
        tenant = self._named(policy.tenant)
        held = tenant.held
        if held is None or (policy is not held.policy and held.older_than(policy)):
            tenant.held = Held(policy)
        return tenant

    def _named(self, name: str) -> _Tenant:
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(name, None)
        return tenant

    def _put(self, tenant: _Tenant, what: "_Reserve | Settlement") -> None:
        if not tenant.waiting:
            if not self._dirty:
                self._loop.call_soon(self._flush)
            self._dirty.append(tenant)
        tenant.waiting.append(what)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for tenant in dirty:
            waiting, tenant.waiting = tenant.waiting, []
            for start in range(0, len(waiting), MOST_OPS):
                self._send(tenant, waiting[start : start + MOST_OPS], replayed=False)

    def _send(self, tenant: _Tenant, ops: "list[_Reserve | Settlement]", *, replayed: bool) -> None:
        if not self._link.up:
            self._take_back(tenant, ops)
            return
        batch = Batch(tenant.keys)
        for op in ops:
            if isinstance(op, _Reserve):
                if op.limited_key and (tenant.held is None or op.limited_key not in tenant.held.keys):
                    # A newer policy came in the same loop iteration.
                    op.limited_key = ""
                batch.reserve(op.id, op.limited_key, op.demand, op.note)
            else:
                batch.settle(op.reservation, op.tokens, op.nano_usd, exact=op.exact, event=op.event)
        held = tenant.held
        if held is None:
            call = batch.call(0, Bounds(), {}, 0)
        else:
            deadline = self._clock_ms + int((self._loop.time() + TIMEOUT_SECONDS) * 1000)
            call = batch.call(held.generation, held.tenant, held.keys, deadline)
        flight = _Flight(tenant, ops, call, replayed)
        self._link.send(_command(call), (self._asker(flight),))

    def _asker(self, flight: "_Flight") -> Asker:
        return Asker(partial(self._answered_batch, flight), partial(self._lost_batch, flight))

    # What comes back.

    def _answered_batch(self, flight: "_Flight", reply: Reply) -> None:
        if isinstance(reply, hiredis.HiredisError) and str(reply).startswith("NOSCRIPT") and self._link.up:
            # Somebody has flushed the scripts.
            loaded = pack(b"SCRIPT", b"LOAD", flight.call.script.text)
            self._link.send(loaded + _command(flight.call), (_NOBODY, self._asker(flight)))
            return
        try:
            if not isinstance(reply, bytes):
                raise UnreadableError(f"{reply!r}")
            answers = calls.read_answers(reply, len(flight.ops))
            results = [
                self._read(op, result, answers.now_ms) for op, result in zip(flight.ops, answers.results, strict=True)
            ]
        except UnreadableError as error:
            self._lost_batch(flight, f"Redis refuses: {error}")
            self._link.fail(f"Redis refuses: {error}")
            return
        if answers.now_ms:
            self._clock_ms = answers.now_ms - int(self._loop.time() * 1000)
        for op, result in zip(flight.ops, results, strict=True):
            if isinstance(op, Settlement):
                self._settled(flight.tenant, op, known=result is not None)
            else:
                self._reserved(flight.tenant, op, result)
        if flight.replayed:
            self._replay()

    def _read(self, op: "_Reserve | Settlement", result: object, now_ms: int) -> "_Said":
        if isinstance(op, _Reserve):
            return calls.read_decision(result, now_ms, op.id, op.limited_key, op.demand)
        return calls.LATE_ANSWER if result == 1 else None

    def _reserved(self, tenant: _Tenant, asked: _Reserve, decision: "_Said") -> None:
        if isinstance(decision, Granted):
            tenant.day_spent, tenant.month_spent = decision.day_spent, decision.month_spent
            tenant.live[asked.id] = (asked.limited_key, self._loop.time())
            asked.done(decision.reservation)
        elif isinstance(decision, Refusal):
            asked.done(decision)
        elif asked.again:
            asked.done(Unknown("Redis' clock runs away"))
        else:
            # Its clock has stepped forward: now we know the time.
            asked.again = True
            self._put(tenant, asked)

    def _settled(self, tenant: _Tenant, settlement: Settlement, *, known: bool) -> None:
        if known:
            self._kept(settlement)
        else:
            self._settle_late(tenant, settlement)

    def _settle_late(self, tenant: _Tenant, settlement: Settlement) -> None:
        call = calls.late(
            tenant.keys,
            settlement.reservation,
            settlement.tokens,
            settlement.nano_usd,
            exact=settlement.exact,
            event=settlement.event,
            occurred_ms=settlement.occurred_ms,
            first=not settlement.sent,
        )
        if self._link.up:
            self._link.send(
                _command(call), (Asker(partial(self._answered_late, settlement), partial(self._lost_late, settlement)),)
            )
        else:
            self._backlog.add(settlement)

    def _answered_late(self, settlement: Settlement, reply: Reply) -> None:
        if isinstance(reply, int):
            self._kept(settlement)
        else:
            self._lost_late(settlement, "")
            self._link.fail(f"Redis refuses: {reply!r}")

    def _lost_late(self, settlement: Settlement, reason: str) -> None:
        settlement.sent = True
        self._backlog.add(settlement)

    def _kept(self, settlement: Settlement) -> None:
        now = self._loop.time()
        self._settlements += 1
        self._backlog.done(settlement)
        answered = self._answered
        answered.append((now, settlement))
        while answered[0][0] < now - SAID_AGAIN_SECONDS:
            answered.popleft()

    def _lost_batch(self, flight: "_Flight", reason: str) -> None:
        self._reason = reason
        for op in flight.ops:
            if isinstance(op, Settlement):
                op.sent = True
            else:
                # Perhaps it was taken; it is given back once its deadline is past.
                self._loop.call_later(2 * TIMEOUT_SECONDS, self._cancel, flight.tenant, op)
        self._take_back(flight.tenant, flight.ops)

    def _take_back(self, tenant: _Tenant, ops: "list[_Reserve | Settlement]") -> None:
        """They could not be sent, or were not answered."""
        for op in ops:
            if isinstance(op, Settlement):
                self._backlog.add(op)
            else:
                self._decide_alone(tenant, op)

    def _cancel(self, tenant: _Tenant, asked: _Reserve, _: object = None) -> None:
        if not self._link.up:
            self._loop.call_later(2 * TIMEOUT_SECONDS, self._cancel, tenant, asked)
            return
        call = calls.cancel(tenant.keys, asked.id, asked.limited_key)
        self._link.send(_command(call), (Asker(_ignore, partial(self._cancel, tenant, asked)),))

    # Without Redis.

    def _decide_alone(self, tenant: _Tenant, asked: _Reserve) -> None:
        assert tenant.held is not None
        policy = tenant.held.policy
        if policy.limits.when_unavailable is not WhenUnavailable.LOCAL_SHARE:
            asked.done(Unknown(self._reason))
            return
        decision = self._stand_in.reserve(
            policy, tenant.replicas, tenant.day_spent, tenant.month_spent, asked.key_name, asked.id, asked.demand
        )
        if isinstance(decision, Reservation):
            self._backlog.begin(tenant.name, asked.id, asked.note)
        asked.done(decision)

    def link_down(self, reason: str) -> None:
        """Redis does not answer."""
        self._reason = reason
        self._absences += 1
        self._stand_in = StandIn()

    def link_up(self, now_ms: int, *, again: bool) -> None:
        """Redis answers."""
        self._clock_ms = now_ms - int(self._loop.time() * 1000)
        if again:
            since = self._loop.time() - SAID_AGAIN_SECONDS
            for at, settlement in self._answered:
                if at >= since and settlement.event:
                    settlement.sent = True
                    self._backlog.add(settlement)
            self._answered.clear()
        self._renew_now(0.0)
        self._replay()

    def _replay(self) -> None:
        """Send some of the backlog; what they bring sends the next."""
        taken = self._backlog.take(MOST_OPS)
        if taken:
            self._send(self._named(taken[0].tenant), [*taken], replayed=True)

    # Signs of life.

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if self._link.up:
                self._renew_now(RENEW_SECONDS / 2)

    def _renew_now(self, older_than_seconds: float) -> None:
        """Renew what has been reserved for so long, and say that we live."""
        now = self._loop.time()
        for tenant in self._tenants.values():
            if not tenant.live and now - tenant.used_at > _QUIET_SECONDS:
                continue
            old = now - older_than_seconds
            ids = [name for name, (_, since) in tenant.live.items() if since <= old]
            for start in range(0, max(1, len(ids)), _RENEWED_AT_ONCE):
                held: dict[str, list[str]] = {"": ids[start : start + _RENEWED_AT_ONCE]}
                for reservation_id in held[""]:
                    key_name = tenant.live[reservation_id][0]
                    if key_name:
                        held.setdefault(key_name, []).append(reservation_id)
                call = calls.renew(tenant.keys, self._process, held)
                self._link.send(_command(call), (Asker(partial(self._renewed, tenant), _ignore),))

    def _renewed(self, tenant: _Tenant, reply: Reply) -> None:
        try:
            if not isinstance(reply, bytes):
                raise UnreadableError(f"{reply!r}")
            tenant.replicas = max(1, calls.read_renewed(reply).processes)
        except UnreadableError as error:
            self._link.fail(f"Redis refuses: {error}")


class _Flight(NamedTuple):
    """A batch under way. ``replayed``: it comes from the backlog."""

    tenant: _Tenant
    ops: "list[_Reserve | Settlement]"
    call: Call
    replayed: bool


_Said = Granted | Refusal | calls.Late | None


def _ignore(_: object) -> None:
    """Nobody waits for this."""


_NOBODY = Asker(_ignore, _ignore)


def _command(call: Call) -> bytes:
    return pack(b"EVALSHA", call.script.sha, len(call.keys), *call.keys, call.argument)
