"""Carries to Redis what each loop iteration asks for and what has been used, and back what became of it.

Whatever Redis does not answer comes back to the sender, who keeps settlements until it does.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import hiredis

from tenantry_service.limits import answers, calls
from tenantry_service.limits.answers import Granted, Late
from tenantry_service.limits.bounds import Bounds
from tenantry_service.limits.calls import Batch, Call
from tenantry_service.limits.connection import Asker, Reply, pack
from tenantry_service.limits.decisions import Refusal
from tenantry_service.limits.link import TIMEOUT_SECONDS, Link
from tenantry_service.limits.packed import UnreadableError
from tenantry_service.limits.settlement import Settlement
from tenantry_service.limits.tenant import Asked, Op, Tenant

#: Ops of one script run: at some 10 us each it keeps Redis from others for a millisecond at most.
MOST_OPS = 64
#: How long a settlement waits for a reserve to travel with, in its order before it. Alone it would cost Redis, and us,
#: about as much as both do together.
LINGER_SECONDS = 0.002


Answered = Callable[[Reply], None]
Lost = Callable[[str], None]


class Sender(Protocol):
    """Who has something to be carried."""

    def granted(self, tenant: Tenant, asked: Asked, granted: Granted) -> None:
        """A reserve was granted."""

    def kept(self, settlement: Settlement) -> None:
        """Redis has a settlement."""

    def unanswered(self, tenant: Tenant, ops: Sequence[Op], reason: str) -> None:
        """Redis did not answer. It may have carried them out."""

    def unsent(self, tenant: Tenant, ops: Sequence[Op]) -> None:
        """There is no way to Redis."""

    def replayed(self) -> None:
        """What came from the backlog was answered."""


#: What an op's result means; of a settlement: None if there is no such reservation.
_Said = Granted | Refusal | Late | answers.Done | None


class _Flight(NamedTuple):
    """A batch under way."""

    tenant: Tenant
    ops: list[Op]
    call: Call
    from_backlog: bool


class Courier:
    """See the module. Belongs to the loop's thread."""

    def __init__(self, link: Link, sender: Sender) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._sender = sender
        self._dirty: list[Tenant] = []
        #: A reserve waits for the end of this loop iteration; settlements linger.
        self._flushing = False
        self._lingering = False
        #: The server's Unix time less our loop's time, in ms.
        self._clock_ms = 0

    @property
    def now_ms(self) -> int:
        """The server's time, as far as we know."""
        return self._clock_ms + int(self._loop.time() * 1000)

    def set_clock(self, now_ms: int) -> None:
        """Take over the server's time."""
        self._clock_ms = now_ms - int(self._loop.time() * 1000)

    def put(self, tenant: Tenant, op: Op) -> None:
        """Send a reserve at the end of this loop iteration, with all that waits; a settlement with the next reserve, or
        soon."""
        if not tenant.waiting:
            self._dirty.append(tenant)
        tenant.waiting.append(op)
        if self._flushing:
            return
        if isinstance(op, Asked):
            self._flushing = True
            self._loop.call_soon(self.flush)
        elif not self._lingering:
            self._lingering = True
            self._loop.call_later(LINGER_SECONDS, self._linger_no_more)

    def _linger_no_more(self) -> None:
        self._lingering = False
        self.flush()

    def flush(self) -> None:
        """Send all that waits."""
        self._flushing = False
        dirty, self._dirty = self._dirty, []
        for tenant in dirty:
            waiting, tenant.waiting = tenant.waiting, []
            for start in range(0, len(waiting), MOST_OPS):
                self.send(tenant, waiting[start : start + MOST_OPS])

    def send(self, tenant: Tenant, ops: list[Op], *, from_backlog: bool = False) -> None:
        """Send now, in one script run."""
        if not self._link.up:
            self._sender.unsent(tenant, ops)
            return
        batch, held = Batch(tenant.keys), tenant.held
        for op in ops:
            if isinstance(op, Asked):
                op.limited_key = op.key_name if held is not None and op.key_name in held.keys else ""
                batch.reserve(op.id, op.limited_key, op.demand, op.note)
            else:
                batch.settle(op.reservation, op.tokens, op.nano_usd, exact=op.exact, event=op.event)
        if held is None:
            call = batch.call(0, Bounds(), {}, 0)
        else:
            call = batch.call(held.generation, held.tenant, held.keys, self.now_ms + int(TIMEOUT_SECONDS * 1000))
        self._fly(_Flight(tenant, ops, call, from_backlog))

    def _fly(self, flight: _Flight) -> None:
        self.run(flight.call, partial(self._answered, flight), partial(self._lost, flight))

    def run(self, call: Call, answered: Answered, lost: Lost) -> None:
        """Run a script; only while the link is up. One that Redis does not know is loaded and run again."""

        def heard(reply: Reply) -> None:
            if isinstance(reply, hiredis.HiredisError) and str(reply).startswith("NOSCRIPT") and self._link.up:
                # Somebody has flushed the scripts.
                self._link.send(pack(b"SCRIPT", b"LOAD", call.script.text), (_NOBODY,))
                self._link.send(_command(call), (Asker(answered, lost),))
            else:
                answered(reply)

        self._link.send(_command(call), (Asker(heard, lost),))

    # Batches.

    def _answered(self, flight: _Flight, reply: Reply) -> None:
        try:
            if not isinstance(reply, bytes):
                raise UnreadableError(f"{reply!r}")
            now_ms, results = answers.read_answers(reply, len(flight.ops))
            said = [_read(op, result, now_ms) for op, result in zip(flight.ops, results, strict=True)]
        except UnreadableError as error:
            self._refused(flight, error)
            return
        if now_ms:
            self.set_clock(now_ms)
        tenant = flight.tenant
        for op, meaning in zip(flight.ops, said, strict=True):
            if isinstance(op, Asked):
                self._reserved(tenant, op, meaning)
            elif meaning is None:
                self._settle_late(tenant, op)
            else:
                self._sender.kept(op)
        if flight.from_backlog:
            self._sender.replayed()

    def _refused(self, flight: _Flight, error: UnreadableError) -> None:
        reason = f"Redis refuses: {error}"
        self._link.fail(reason)
        self._lost(flight, reason)

    def _lost(self, flight: _Flight, reason: str) -> None:
        for op in flight.ops:
            if isinstance(op, Settlement):
                op.sent = True
            else:
                # Perhaps it was taken; it is given back once its deadline is past.
                self._loop.call_later(2 * TIMEOUT_SECONDS, self._cancel, flight.tenant, op)
        self._sender.unanswered(flight.tenant, flight.ops, reason)

    def _reserved(self, tenant: Tenant, asked: Asked, meaning: _Said) -> None:
        if isinstance(meaning, Granted):
            self._sender.granted(tenant, asked, meaning)
        elif isinstance(meaning, Refusal):
            asked.done(meaning)
        elif asked.again:
            # Twice too late: it, the network or this process stands still. That is no answer either.
            self._sender.unanswered(tenant, [asked], "Redis' clock runs away, or answers come too late")
        else:
            # Its clock has stepped forward: now we know the time.
            asked.again = True
            self.put(tenant, asked)

    # What is rare.

    def _settle_late(self, tenant: Tenant, settlement: Settlement) -> None:
        """There was no reservation: see ``late.lua`` for why that may be."""
        if not self._link.up:
            self._sender.unsent(tenant, [settlement])
            return
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
        settlement.sent = True
        lost = partial(self._sender.unanswered, tenant, [settlement])

        def answered(reply: Reply) -> None:
            if isinstance(reply, int):
                self._sender.kept(settlement)
            else:
                self._link.fail(f"Redis refuses: {reply!r}")
                lost(f"Redis refuses: {reply!r}")

        self.run(call, answered, lost)

    def _cancel(self, tenant: Tenant, asked: Asked, _: object = None) -> None:
        if not self._link.up:
            self._loop.call_later(2 * TIMEOUT_SECONDS, self._cancel, tenant, asked)
            return
        call = calls.cancel(tenant.keys, asked.id, asked.limited_key)
        self.run(call, _ignore, partial(self._cancel, tenant, asked))


def _read(op: Op, result: object, now_ms: int) -> _Said:
    if isinstance(op, Asked):
        return answers.read_decision(result, now_ms, op.id, op.limited_key, op.demand)
    return answers.DONE if result == 1 else None


def _command(call: Call) -> bytes:
    return pack(b"EVALSHA", call.script.sha, len(call.keys), *call.keys, call.argument)


def _ignore(_: object) -> None:
    """Nobody waits for this."""


_NOBODY = Asker(_ignore, _ignore)
