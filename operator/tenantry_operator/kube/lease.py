"""Leader election on a ``coordination.k8s.io`` Lease: at most one operator writes.

A candidate never compares the Lease's times with its own wall clock. It remembers, on its monotonic clock, when it
last saw the Lease change, and takes it over after a full ``duration`` without change (as client-go does). The holder
counts from *before* it sent its last successful renewal, and stops writing at ``deadline``, which is shorter than
``duration``: also with clocks that drift by a percent, it has stopped before anybody else starts.
https://kubernetes.io/docs/concepts/architecture/leases/
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import LEASES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. Hand-over after kill -9 takes at most ``duration`` + ``retry``; a clean exit, ``retry``."""

    duration: float = 8.0
    deadline: float = 5.0
    renew: float = 2.0
    retry: float = 1.0


class LeaseLost(errors.KubeError):
    """We do not hold the Lease any more. The process must end: its work in memory may be stale."""


class Owner(msgspec.Struct, rename="camel"):
    """An object in the Lease's namespace. When it is deleted, garbage collection takes the Lease."""

    api_version: str
    kind: str
    name: str
    uid: str


class _Meta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    resource_version: str | None = None
    owner_references: list[Owner] | None = None


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct, rename="camel"):
    metadata: _Meta
    spec: _Spec
    api_version: str = LEASES.api_version
    kind: str = LEASES.kind


class Lease:
    """One Lease, seen from one candidate.

    ``client`` must not itself be gated by this Lease. ``identity`` must be unique for each process. While this
    candidate holds the Lease, it belongs to ``owner``, if there is one.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing | None = None,
        owner: Owner | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self.namespace, self.name, self.identity = namespace, name, identity
        self._timing = timing or Timing()
        self._owners = [owner] if owner else None
        self._monotonic, self._now = monotonic, now
        self._seen: tuple[str, float] = ("", 0.0)  # resourceVersion last seen, and when
        self._held: _Lease | None = None
        self._valid_until = 0.0

    def holds(self) -> bool:
        """Whether we may write now. Cheap; ask before each write."""
        return self._held is not None and self._monotonic() < self._valid_until

    async def acquire(self) -> None:
        """Wait until the Lease is ours, however long that takes. An unreachable API server is waited out, too."""
        while True:
            try:
                if await self.try_acquire():
                    return
            except (errors.ApiError, errors.Unreachable) as error:
                log.warning("lease %s/%s: %s", self.namespace, self.name, error)
            await asyncio.sleep(self._timing.retry)

    async def try_acquire(self, *, force: bool = False) -> bool:
        """One try. ``force`` takes the Lease even from a living holder, who then ends: for the uninstall hook."""
        began = self._monotonic()
        lease = await self._client.find(LEASES, self.name, namespace=self.namespace, into=_Lease)
        try:
            if lease is None:
                meta = _Meta(self.name, self.namespace, owner_references=self._owners)
                fresh = _Lease(metadata=meta, spec=self._spec(transitions=0))
                self._hold(await self._client.create(LEASES, fresh, namespace=self.namespace, into=_Lease), began)
                return True
            if not force and not self._is_free(lease):
                return False
            lease.metadata.owner_references = self._owners
            lease.spec = self._spec(transitions=(lease.spec.lease_transitions or 0) + 1)
            self._hold(await self._put(lease), began)
        except errors.Conflict:
            return False  # another candidate was quicker
        return True

    def _is_free(self, lease: _Lease) -> bool:
        if not lease.spec.holder_identity or lease.spec.holder_identity == self.identity:
            return True
        version = lease.metadata.resource_version or ""
        if version != self._seen[0]:
            self._seen = (version, self._monotonic())
        patience = lease.spec.lease_duration_seconds or self._timing.duration
        return self._monotonic() - self._seen[1] > patience

    async def keep(self) -> None:
        """Renew until cancelled. Raises LeaseLost when somebody else has it, or no renewal got through in time."""
        while True:
            await asyncio.sleep(self._timing.renew)
            began = self._monotonic()
            try:
                async with asyncio.timeout(max(self._valid_until - began, 0.01)):
                    await self._renew(began)
            except errors.Conflict:
                await self._look_again()
            except (TimeoutError, errors.ApiError, errors.Unreachable) as error:
                log.warning("lease %s/%s: renewal failed: %s", self.namespace, self.name, error or "no answer")
            if not self.holds():
                raise LeaseLost(f"lease {self.namespace}/{self.name}: no renewal within {self._timing.deadline:.0f} s")

    async def _look_again(self) -> None:
        """A renewal whose answer got lost has moved the version on: that is no loss, as long as the holder is us."""
        lease = await self._client.find(LEASES, self.name, namespace=self.namespace, into=_Lease)
        if lease is None or lease.spec.holder_identity != self.identity:
            raise LeaseLost(f"lease {self.namespace}/{self.name} was taken by another operator")
        self._held = lease

    async def _renew(self, began: float) -> None:
        assert self._held is not None
        self._held.spec.renew_time = self._stamp()
        self._hold(await self._put(self._held), began)

    async def release(self) -> None:
        """Give the Lease back, so that the next operator need not wait. Failure is harmless: it runs out."""
        held, self._held = self._held, None
        if held is None:
            return
        held.spec = _Spec(
            lease_duration_seconds=1, renew_time=self._stamp(), lease_transitions=held.spec.lease_transitions
        )
        try:
            await self._put(held)
        except errors.KubeError as error:
            log.info("lease %s/%s not released: %s", self.namespace, self.name, error)

    async def _put(self, lease: _Lease) -> _Lease:
        # A PUT with the resourceVersion that we read is a compare-and-swap: of two candidates one gets a Conflict.
        return await self._client.replace(LEASES, self.name, lease, namespace=self.namespace, into=_Lease)

    def _hold(self, lease: _Lease, began: float) -> None:
        self._held = lease
        self._valid_until = began + self._timing.deadline

    def _spec(self, *, transitions: int) -> _Spec:
        stamp = self._stamp()
        return _Spec(
            holder_identity=self.identity,
            lease_duration_seconds=max(1, round(self._timing.duration)),
            acquire_time=stamp,
            renew_time=stamp,
            lease_transitions=transitions,
        )

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # MicroTime
