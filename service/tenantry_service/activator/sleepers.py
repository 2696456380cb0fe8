"""The tenants that requests may come for, as the operator tells of them. Memory only: no I/O, no clock of its own."""

import asyncio
from collections.abc import Callable

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy.snapshot import is_key, presented
from tenantry_service.roster import Sleeper, SleeperKey, SyncAnswer

#: Seconds without an answer of the operator after which nobody is refused for a key that is not known here.
FRESH = 15.0

UNKNOWN_KEY = ApiError(
    status=503,
    error_type=errors.ErrorType.TENANTRY_OVERLOADED,
    message="Whether this key is good cannot be told at the moment; repeat the request shortly.",
    type="service_unavailable_error",
    code="key_unknown",
    headers=errors.RETRY_SOON,
)


class Sleepers:
    """See the module. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tenants: dict[str, Sleeper] = {}
        self._keys: dict[str, tuple[str, SleeperKey]] = {}
        self._answered = float("-inf")
        self._news: dict[str, asyncio.Event] = {}
        self._told_by: dict[str, str] = {}
        self.epoch, self.version, self.complete = "", 0, False

    def __len__(self) -> int:
        return len(self._tenants)

    def fresh(self) -> bool:
        """Whether the operator has told of all sleepers, and lately: who is not among them is none."""
        return self.complete and self._clock() - self._answered <= FRESH

    def take(self, answer: SyncAnswer, asked_epoch: str) -> None:
        """What the operator has answered to a question about the roster ``asked_epoch``.

        What another operator has told before stays until the new one's roster is complete.
        """
        if answer.epoch != self.epoch:
            if answer.epoch == asked_epoch:
                return  # an old operator's late answer
            self.epoch, self.version = answer.epoch, 0
        self._answered = self._clock()
        for sleeper in answer.sleepers:
            known = self._tenants.get(sleeper.tenant)
            if known is None or self._told_by[sleeper.tenant] != self.epoch or known.version < sleeper.version:
                self._drop(sleeper.tenant)
                if not sleeper.gone:
                    self._put(sleeper)
        if answer.complete:
            for tenant in [name for name, epoch in self._told_by.items() if epoch != self.epoch]:
                self._drop(tenant)
        self.complete = answer.complete
        self.version = max(self.version, answer.version)

    def _put(self, sleeper: Sleeper) -> None:
        self._tenants[sleeper.tenant] = sleeper
        self._told_by[sleeper.tenant] = self.epoch
        for key in sleeper.keys:
            self._keys[key.id] = (sleeper.tenant, key)

    def _drop(self, tenant: str) -> None:
        known = self._tenants.pop(tenant, None)
        self._told_by.pop(tenant, None)
        for key in known.keys if known is not None else ():
            if self._keys.get(key.id, ("",))[0] == tenant:
                del self._keys[key.id]
        news = self._news.pop(tenant, None)
        if news is not None:
            news.set()

    def find(self, tenant: str) -> Sleeper | None:
        """What is known of a tenant."""
        return self._tenants.get(tenant)

    def news(self, tenant: str) -> asyncio.Event:
        """Set with the next change of what is known of the tenant."""
        return self._news.setdefault(tenant, asyncio.Event())

    def admit(self, authorization: bytes | None, now: float) -> Sleeper | ApiError:
        """Whose request this is, at ``now`` (Unix seconds), or why it is refused: before anybody is woken up for it."""
        if not authorization:
            return errors.MISSING_KEY
        shown = presented(authorization)
        if shown is None:
            return errors.MISSING_KEY
        key_id, key = shown
        tenant, record = self._keys.get(key_id, ("", None))
        if record is None:
            return errors.WRONG_KEY if self.fresh() else UNKNOWN_KEY
        if not is_key(key, record.sha256):
            return errors.WRONG_KEY
        if record.expires_at is not None and now >= record.expires_at.timestamp():
            return errors.EXPIRED_KEY
        sleeper = self._tenants[tenant]
        return errors.BUDGET_EXHAUSTED if sleeper.budget_spent else sleeper
