"""The sleepers that activators are told of, and the activators that there are. Memory only: all of it is told again."""

import asyncio
import secrets
import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace
from tenantry_service.roster import Sleeper, SyncAnswer, SyncRequest

#: Seconds for which a question is kept open when there is nothing to tell.
POLL = 5.0
#: Seconds of silence after which an activator counts as gone, and a tenant as not asked for any more.
SILENCE = 12.0
#: Seconds between two mentions of a tenant for which it is still asked for: a question every ``POLL``.
DEMAND = 7.0


class _Activator(Struct):
    address: str
    port: int
    version: int
    seen: float


class Roster:
    """See the module. ``stirred`` is called for a tenant that an activator asks for, or that all of them now know."""

    def __init__(
        self, stirred: Callable[[str], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stirred, self._clock = stirred, clock
        #: Whether all tenants are told of whose Services lead to activators.
        self.complete: Callable[[], bool] = lambda: True
        self._heard_at = clock()
        self._epoch, self._version = secrets.token_hex(6), 0
        self._entries: dict[str, Sleeper] = {}
        self._activators: dict[str, _Activator] = {}
        self._asked: dict[str, float] = {}
        self._changed = asyncio.Event()

    # What the operator decides.

    def announce(self, sleeper: Sleeper) -> None:
        """Tell of a tenant, or of what has changed of it."""
        known = self._entries.get(sleeper.tenant)
        if known is not None and replace(sleeper, version=known.version) == known:
            return
        self._put(sleeper)

    def withdraw(self, tenant: str) -> None:
        """The tenant is awake, and requests go to its pods."""
        known = self._entries.get(tenant)
        if known is not None and not known.gone:
            self._put(Sleeper(tenant=tenant, gone=True))

    def _put(self, sleeper: Sleeper) -> None:
        self._version += 1
        self._entries[sleeper.tenant] = replace(sleeper, version=self._version)
        self._changed.set()
        self._changed = asyncio.Event()

    def announced(self, tenant: str) -> bool:
        """Whether it is on the list."""
        known = self._entries.get(tenant)
        return known is not None and not known.gone

    # What activators say.

    def places(self) -> frozenset[str]:
        """Where the activators are."""
        return frozenset(each.address for each in self._alive())

    def silent_for(self) -> float:
        """Seconds since any activator was heard of (or since we began)."""
        return self._clock() - self._heard_at

    def port(self) -> int:
        """Where they take requests; all of them at the same port, by their Deployment."""
        return next((each.port for each in self._alive()), 0)

    def known(self, tenant: str) -> bool:
        """Whether every activator knows all that there is to know of the tenant."""
        entry, alive = self._entries.get(tenant), self._alive()
        return entry is not None and bool(alive) and all(each.version >= entry.version for each in alive)

    def demanded(self, tenant: str) -> bool:
        """Whether an activator holds requests for it."""
        return self._clock() - self._asked.get(tenant, float("-inf")) <= DEMAND

    async def answer(self, request: SyncRequest) -> SyncAnswer:
        """What an activator does not know yet; waits a while for something when it knows all."""
        version = self._heard(request)
        if version == self._version and not (request.at_once or request.leaving):
            changed = self._changed
            try:
                async with asyncio.timeout(POLL):
                    await changed.wait()
            except TimeoutError:
                pass
            self._heard(request)
        self._prune()
        told = tuple(each for each in self._entries.values() if each.version > version)
        return SyncAnswer(epoch=self._epoch, version=self._version, complete=self.complete(), sleepers=told)

    def _heard(self, request: SyncRequest) -> int:
        now = self._heard_at = self._clock()
        version = request.version if request.epoch == self._epoch else 0
        before = self._activators.get(request.instance)
        self._activators[request.instance] = _Activator(request.address, request.port, version, now)
        if request.leaving:
            del self._activators[request.instance]
        for tenant in request.wake:
            self._asked[tenant] = now
            self.stirred(tenant)
        if before is None or before.version != version:
            for entry in self._entries.values():
                if before is None or before.version < entry.version <= version:
                    self.stirred(entry.tenant)
        return version

    def _alive(self) -> list[_Activator]:
        now = self._clock()
        for instance in [name for name, each in self._activators.items() if now - each.seen > SILENCE]:
            del self._activators[instance]
        return list(self._activators.values())

    def _prune(self) -> None:
        """Forget those that are gone and of whom everybody knows it."""
        alive, now = self._alive(), self._clock()
        for entry in [each for each in self._entries.values() if each.gone]:
            if all(each.version >= entry.version for each in alive):
                del self._entries[entry.tenant]
        for tenant in [name for name, at in self._asked.items() if now - at > DEMAND]:
            del self._asked[tenant]
