"""Carries out what ``sleep.step`` says, for every tenant for which something may have to be done.

A tenant that rests (asleep, or awake for good) costs nothing but a look a minute: what may change for it (its
Deployment, its slice, an activator that asks for it) stirs it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from msgspec import Struct
from tenantry_service.roster import Sleeper

from tenantry_operator import metrics
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import DEPLOYMENTS, ENDPOINT_SLICES
from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import Ref
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling import inflight
from tenantry_operator.scaling.covers import Covers, LiveSlice, cover
from tenantry_operator.scaling.noted import Noted
from tenantry_operator.scaling.readings import Readings
from tenantry_operator.scaling.roster import Roster
from tenantry_operator.scaling.sleep import COVERED, LINGER, Situation, Step, step
from tenantry_operator.scaling.slices import endpoint_slice

log = logging.getLogger(__name__)

#: Seconds between two looks at those that are not at rest, and at all of them.
TICK, ROUND = 1.0, 60.0
#: Steps carried out at a time.
AT_A_TIME = 16
#: Seconds that a change of a Deployment gets to come back by the watch before the next step is asked for.
ECHO = 2.0
#: Seconds for which what a pod said counts when it is asked how long it has been idle: it is asked every 10 s at most.
STALE = 15.0


class _Trace(Struct):
    """What is remembered of one tenant between two steps, and can be lost."""

    uncovered: float = float("-inf")
    held_until: float = 0.0


class Sleepers:
    """See the module."""

    def __init__(
        self,
        client: Client,
        live: Live,
        pods: Pods,
        readings: Readings,
        covers: Covers,
        roster: Roster,
        noted: Mapping[str, Noted],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._live, self._pods, self._readings = client, live, pods, readings
        self._covers, self._roster, self._noted, self._clock = covers, roster, noted, clock
        self._lively: set[str] = set()
        self._traces: dict[str, _Trace] = {}
        self._places: frozenset[str] = frozenset()
        self._nudge = asyncio.Event()
        self._turn = asyncio.Semaphore(AT_A_TIME)
        pods.listeners.append(self._seen)
        roster.stirred = self.stir
        roster.complete = lambda: all(roster.announced(tenant) for tenant in covers.tenants())

    def stir(self, tenant: str) -> None:
        """Something has changed for this tenant."""
        if tenant in self._noted:
            self._lively.add(tenant)
            self._nudge.set()

    def asleep(self) -> int:
        """How many sleep now."""
        return sum(self._wanted(tenant) == 0 for tenant in self._covers.tenants())

    def _seen(self, pod: Pod, gone: bool) -> None:
        known = self._noted.get(pod.tenant)
        if known is not None and (known.may_sleep or self._roster.announced(pod.tenant)):
            self._tell(pod.tenant)
            self.stir(pod.tenant)

    async def forever(self) -> None:
        """Look and act until cancelled."""
        round_at = self._clock()
        while True:
            now = self._clock()
            places = self._roster.places()
            if places != self._places or now >= round_at:
                self._places, round_at = places, now + ROUND
                self._lively.update(self._noted)
            await asyncio.gather(*(self._work(tenant) for tenant in list(self._lively)))
            self._nudge.clear()
            try:
                async with asyncio.timeout(TICK):
                    await self._nudge.wait()
            except TimeoutError:
                pass

    async def _work(self, tenant: str) -> None:
        if self._clock() < self._trace(tenant).held_until:
            return
        situation = self._look(tenant)
        if situation is None:
            self._lively.discard(tenant)
            return
        wanted = step(situation)
        if wanted is Step.NOTHING:
            if _at_rest(situation):
                self._lively.discard(tenant)
            return
        async with self._turn:
            try:
                await self._carry_out(wanted, tenant)
            except errors.KubeError as error:
                log.warning("%s put off: %s", wanted.name.lower(), error, extra={"tenant": tenant})
                self._trace(tenant).held_until = self._clock() + ECHO

    def _look(self, tenant: str) -> Situation | None:
        known, wanted, now = self._noted.get(tenant), self._wanted(tenant), self._clock()
        trace = self._trace(tenant)
        if known is None or wanted is None:
            return None
        pods = [each for each in self._pods.of(tenant) if not each.terminating and each.pool == names.ACTIVE]
        uids, covered = [each.uid for each in pods], self._covers.of(tenant)
        since = float("inf") if covered is None else covered.since + COVERED / 2
        return Situation(
            may_sleep=known.may_sleep,
            idle_after=known.idle_after,
            hands_off=known.hands_off,
            frozen=known.frozen,
            deserted_for=self._roster.silent_for(),
            wanted=wanted,
            serving=sum(each.serving for each in pods),
            idle_for=self._idle(uids, now - STALE),
            idle_since_covered=self._idle(uids, since),
            covered_by=None if covered is None else covered.addresses,
            covered_for=0.0 if covered is None else now - covered.since,
            activators=self._roster.places(),
            announced=self._roster.announced(tenant),
            known=self._roster.known(tenant),
            demanded=self._roster.demanded(tenant),
            uncovered_for=now - trace.uncovered,
        )

    def _idle(self, uids: list[str], since: float) -> float | None:
        """For how long all of these pods have been idle, by what each said since."""
        loads = self._readings.since(uids, since) if uids else None
        return min((each.idle_seconds for each in loads), default=None) if loads else None

    def _wanted(self, tenant: str) -> int | None:
        found = self._live.child(tenant, Ref(DEPLOYMENTS.group_kind, namespace_of(tenant), names.WORKLOAD))
        return None if found is None or found.workload is None or found.terminating else found.workload.wanted

    def _trace(self, tenant: str) -> _Trace:
        return self._traces.setdefault(tenant, _Trace())

    async def _carry_out(self, wanted: Step, tenant: str) -> None:
        space = namespace_of(tenant)
        match wanted:
            case Step.ANNOUNCE:
                self._tell(tenant, first=True)
            case Step.WITHDRAW:
                self._roster.withdraw(tenant)
            case Step.COVER:
                body = endpoint_slice(
                    names.ACTIVATOR_SLICE,
                    names.WORKLOAD,
                    space,
                    list(self._roster.places()),
                    port_name="http",
                    port=self._roster.port(),
                )
                made = await self._client.apply(
                    ENDPOINT_SLICES, names.ACTIVATOR_SLICE, body, namespace=space, into=LiveSlice
                )
                self._covers.changed(cover(made), False)
            case Step.UNCOVER:
                with contextlib.suppress(errors.NotFound):
                    await self._client.delete(ENDPOINT_SLICES, names.ACTIVATOR_SLICE, namespace=space)
                trace = self._trace(tenant)
                trace.uncovered = self._clock()
                trace.held_until = trace.uncovered + ECHO
            case Step.SLEEP | Step.WAKE:
                await self._scale(tenant, 0 if wanted is Step.SLEEP else 1)

    async def _scale(self, tenant: str, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        await self._client.merge_patch(DEPLOYMENTS, names.WORKLOAD, body, namespace=namespace_of(tenant), into=Nothing)
        self._trace(tenant).held_until = self._clock() + ECHO
        (metrics.WAKES if replicas else metrics.SLEEPS).inc()
        log.info("woken up" if replicas else "put to sleep", extra={"tenant": tenant})

    def _tell(self, tenant: str, *, first: bool = False) -> None:
        """What the activators have to know of it now, if they are to know it at all."""
        known = self._noted.get(tenant)
        if known is None or not (first or self._roster.announced(tenant)):
            return
        pods = [each for each in self._pods.of(tenant) if each.ip and not each.terminating]
        serving = [each for each in pods if each.serving]
        # A pod that has an address takes requests a moment before its probe says so; who finds it closed tries again.
        chosen = serving or [each for each in pods if each.phase == "Running" and each.serve == names.SERVING]
        addresses = [f"[{each.ip}]" if ":" in each.ip else each.ip for each in chosen]
        self._roster.announce(
            Sleeper(
                tenant=tenant,
                keys=known.keys,
                budget_spent=known.budget_spent,
                addresses=tuple(sorted(f"{address}:{inflight.PORT}" for address in addresses)),
            )
        )

    def noted(self, tenant: str) -> None:
        """What is known of the tenant has changed, or was looked at again."""
        if self._noted.get(tenant) is None:
            self._roster.withdraw(tenant)
            self._traces.pop(tenant, None)
        self._tell(tenant)
        self.stir(tenant)


def _at_rest(now: Situation) -> bool:
    """Whether only an event can change anything."""
    if now.demanded or (now.announced and not now.known):
        return False
    if now.wanted == 0:
        return now.covered_by == now.activators or not now.activators or now.hands_off
    return not now.may_sleep and now.covered_by is None and not now.announced and now.uncovered_for > LINGER
