"""A user in Redis for each tenant: there before its pods, put back when Redis has forgotten it, gone with the Tenant.

Passwords change without a gap: a new one is let in beside the old one, then handed to the pods, and the old one is
shut out a while after that. Two passwords in Redis are all the state that this needs: killed anywhere, the next process
finds them and goes on.

What a deleted tenant leaves in Redis (its limits, and events that are not in the ledger yet) outlives its user until
the ledger has taken the events in; that it is to go is noted in Redis itself.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator

from tenantry_operator import metrics
from tenantry_operator.api.conditions import Reason
from tenantry_operator.live import Live
from tenantry_operator.plan.store import Store, prefix, user
from tenantry_operator.redis import acl
from tenantry_operator.redis.connection import Answer, Command, Connection, StoreError

log = logging.getLogger(__name__)

#: Seconds between two looks at whether Redis is there and still the process that it was (a restart may cost all users).
BEAT = 2.0
#: Seconds between two looks at all users, ± 20 %.
PERIOD = 60.0
#: Seconds without an answer after which tenants are told: a restart of Redis or a fail-over is over by then.
PATIENCE = 10.0
#: Commands in one round trip.
BATCH = 200

#: Names of tenants that are gone and whose keys are still there.
RETIRED = "tenantry:retired"

#: Deletes what is left of a tenant, unless there are events or reservations that are still to be billed.
_FORGET = """\
if redis.call('XLEN', KEYS[1]) > 0 or redis.call('HLEN', KEYS[2]) > 0 then return 0 end
for i = 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""


class Accounts:
    """The users of all tenants. ``notify(tenant)``: something about the tenant's user or about Redis is news."""

    def __init__(
        self,
        connection: Connection,
        live: Live,
        store: Store,
        notify: Callable[[str], None],
        *,
        overlap: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._live, self._store, self._notify = connection, live, store, notify
        self._overlap, self._clock = overlap, clock
        #: What each user was seen like when it was right, to know it again without reading it.
        self._right: dict[str, tuple[str, int]] = {}
        #: Tenants with a second password, and since when their pods have had the first.
        self._changing: dict[str, float | None] = {}
        self._silent_since: float | None = None

    async def ensure(self, tenant: str, uid: str) -> None:
        """Let the tenant's present password in, before its pods get it. Redis may be away: then it is made up for."""
        if self._right.get(tenant, ("", 0))[0] == uid:
            return
        digest = self._store.digest(tenant, uid)
        try:
            await self._connection.ask(("SREM", RETIRED, tenant), acl.granted(tenant, digest))
        except StoreError as error:
            log.warning("user put off: %s", error)
            return
        metrics.REDIS_USERS.labels("granted").inc()

    def delivered(self, tenant: str) -> None:
        """The tenant's Secret and pods have the present password."""
        if tenant in self._changing and self._changing[tenant] is None:
            self._changing[tenant] = self._clock()

    async def retire(self, tenant: str) -> None:
        """Take the user of a deleted Tenant away, and note that its keys are to go. Raises StoreError."""
        await self._connection.ask(("SADD", RETIRED, tenant), acl.removed(tenant))
        self._right.pop(tenant, None)
        self._changing.pop(tenant, None)
        metrics.REDIS_USERS.labels("removed").inc()

    async def forever(self) -> None:
        """Look after all of it until cancelled."""
        process, due = "", 0.0
        while True:
            try:
                found = await self._process()
                if found != process or self._clock() >= due:
                    await self.resync()
                    await self.forget_retired()
                    pause = min(PERIOD, max(BEAT, self._overlap)) if self._changing else PERIOD
                    process, due = found, self._clock() + pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                self._said(None)
            except StoreError as error:
                self._said(error)
            await asyncio.sleep(BEAT)

    async def resync(self) -> None:
        """Compare all users with what they should be; one request, and one more for each batch that differs.

        Raises StoreError.
        """
        found = {}
        for number, line in enumerate(_texts((await self._connection.ask(("ACL", "LIST")))[0])):
            name = line.split(" ", 2)[1]
            if name.startswith(user("")):
                found[name] = line
            if number % 500 == 499:
                await asyncio.sleep(0)
        changes: list[Command] = []
        for number, (tenant, record) in enumerate(list(self._live.tenants.items())):
            if record.meta.deletion_timestamp is None:
                changes += self._changes(tenant, record.meta.uid, found.get(user(tenant)))
            if number % 500 == 499:
                await asyncio.sleep(0)
        for start in range(0, len(changes), BATCH):
            await self._connection.ask(*changes[start : start + BATCH])

    def _changes(self, tenant: str, uid: str, line: str | None) -> Iterator[Command]:
        """What is to be done about one user."""
        if line is not None and self._right.get(tenant) == (uid, hash(line)):
            return
        self._right.pop(tenant, None)
        digest, present = self._store.digest(tenant, uid), acl.seen(line) if line is not None else None
        if present is None or not acl.is_right(present, tenant, digest):
            log.info("user put right in Redis", extra={"tenant": tenant, "missing": present is None})
            metrics.REDIS_USERS.labels("granted").inc()
            yield acl.granted(tenant, digest)
        if present is None:
            return
        assert line is not None
        others = present.digests - {digest}
        if not others:
            self._changing.pop(tenant, None)
            if acl.is_right(present, tenant, digest):
                self._right[tenant] = uid, hash(line)
            return
        since = self._changing.setdefault(tenant, None)
        if since is None:
            self._notify(tenant)  # who has been reconciled with the present password is ``delivered``
        elif self._clock() - since >= self._overlap:
            log.info("former password shut out", extra={"tenant": tenant})
            metrics.REDIS_USERS.labels("narrowed").inc()
            yield acl.narrowed(tenant, others)

    async def forget_retired(self) -> None:
        """Delete the keys of deleted tenants of which everything is billed. Raises StoreError."""
        for tenant in _texts((await self._connection.ask(("SMEMBERS", RETIRED)))[0]):
            record = self._live.tenants.get(tenant)
            if record is not None and record.meta.deletion_timestamp is None:
                await self._connection.ask(("SREM", RETIRED, tenant))  # there is one of that name again
            elif record is None and await self._forget(tenant):
                await self._connection.ask(("SREM", RETIRED, tenant))
                log.info("nothing left in Redis", extra={"tenant": tenant})

    async def _forget(self, tenant: str) -> bool:
        left = [f"{prefix(tenant)}usage", f"{prefix(tenant)}reservations"]
        cursor = "0"
        while True:
            (answer,) = await self._connection.ask(("SCAN", cursor, "MATCH", f"{prefix(tenant)}*", "COUNT", "1000"))
            assert isinstance(answer, list)
            cursor = str(answer[0])
            left += [key for key in _texts(answer[1]) if key not in left[:2]]
            if cursor == "0":
                break
        (done,) = await self._connection.ask(("EVAL", _FORGET, str(len(left)), *left))
        return bool(done)

    async def _process(self) -> str:
        (answer,) = await self._connection.ask(("INFO", "server"))
        return next((line for line in str(answer).splitlines() if line.startswith("run_id:")), "")

    def _said(self, error: StoreError | None) -> None:
        """Tell everybody once Redis has been away for a while, and once it is back."""
        metrics.REDIS_UP.set(error is None)
        if error is None:
            self._silent_since = None
            problem = None
        else:
            if self._silent_since is None:
                log.warning("%s", error)
                self._silent_since = self._clock()
            if self._clock() - self._silent_since < PATIENCE:
                return
            problem = (Reason.LIMITS_UNREACHABLE, f"{error}; see that it runs and that the operator may reach it")
        if (problem is None) != (self._live.store_problem is None):
            self._live.store_problem = problem
            for tenant in self._live.tenants:
                self._notify(tenant)


def _texts(answer: Answer) -> list[str]:
    assert isinstance(answer, list)
    return [each for each in answer if isinstance(each, str)]
