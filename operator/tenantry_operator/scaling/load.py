"""Asks the pods of those tenants whose load matters now, and marks the pod that is to go first.

What an HPA reads is asked for when it reads it (``freshen``), every 15 s: asked all the time, the pods of a thousand
tenants that have nothing to do would cost the operator half a core. A tenant with one pod that never sleeps is not
asked beyond that; nor is one that sleeps.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from tenantry_operator import metrics
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import PODS
from tenantry_operator.plan import names
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling.cost import marks
from tenantry_operator.scaling.inflight import InFlight, Scraper
from tenantry_operator.scaling.noted import Noted
from tenantry_operator.scaling.readings import Reading, Readings

log = logging.getLogger(__name__)

#: Seconds between two questions to a pod: where an HPA may take one away, so that the idlest is to be known; where a
#: tenant is about to sleep; and, as a share of ``idleAfter`` within bounds, where it may sleep one day.
FOR_MARKS, FOR_SLEEP = 2.0, 1.0
IDLE_SHARE, SELDOM = 6.0, 10.0
#: Seconds for which what a pod said is good enough for who reads it now.
RECENT = 1.0
#: Seconds between two looks at who is due.
TICK = 0.5
#: Seconds between two changes of a tenant's marks.
MARKS = 15.0


def period(tenant: Noted, *, covered: bool, pods: int) -> float | None:
    """Seconds between two questions to a tenant's pods; None: there is no need to ask."""
    if tenant.hands_off:
        return None
    if tenant.may_sleep and covered:
        return FOR_SLEEP
    if tenant.scales and pods > tenant.least:
        return FOR_MARKS
    return min(SELDOM, max(FOR_MARKS, tenant.idle_after / IDLE_SHARE)) if tenant.may_sleep else None


class Loads:
    """Puts what pods say into ``readings``. ``noted`` and ``covered`` tell of tenants."""

    def __init__(
        self,
        client: Client,
        scraper: Scraper,
        pods: Pods,
        readings: Readings,
        noted: Mapping[str, Noted],
        covered: Callable[[str], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._scraper, self._pods, self._readings = client, scraper, pods, readings
        self._noted, self._covered, self._clock = noted, covered, clock
        self._due: dict[str, float] = {}
        self._marked: dict[str, float] = {}
        pods.listeners.append(self._seen)

    def ask(self, tenant: str, *, soon: bool = False) -> None:
        """There is a new reason to ask this tenant's pods (``soon``: at once), or none any more."""
        if self._period(tenant) is None or not self._pods.of(tenant):
            self._due.pop(tenant, None)
            self._marked.pop(tenant, None)
        elif soon:
            self._due[tenant] = self._clock()
        else:
            self._due.setdefault(tenant, self._clock())

    def _period(self, tenant: str) -> float | None:
        known = self._noted.get(tenant)
        if known is None:
            return None
        return period(known, covered=self._covered(tenant), pods=len(self._active(tenant)))

    def _active(self, tenant: str) -> list[Pod]:
        return [each for each in self._pods.of(tenant) if each.pool == names.ACTIVE and not each.terminating]

    def _seen(self, pod: Pod, gone: bool) -> None:
        if gone:
            self._readings.forget(pod.uid)
        self.ask(pod.tenant)

    async def forever(self) -> None:
        """Ask whoever is due until cancelled."""
        while True:
            now = self._clock()
            due = [tenant for tenant, at in self._due.items() if at <= now]
            for tenant in due:
                pause = self._period(tenant)
                if pause is None:
                    self._due.pop(tenant, None)
                else:
                    self._due[tenant] = now + pause
            await asyncio.gather(*(self._read(pod) for tenant in due for pod in self._pods.of(tenant) if _talks(pod)))
            await asyncio.gather(*(self._mark(tenant) for tenant in due))
            await asyncio.sleep(TICK)

    async def freshen(self, tenant: str) -> None:
        """Ask those of the tenant's pods that have not said anything for a moment."""
        moment = self._clock() - RECENT
        stale = [pod for pod in self._pods.of(tenant) if self._readings.since([pod.uid], moment) is None]
        await asyncio.gather(*(self._read(pod) for pod in stale if _talks(pod)))

    async def _read(self, pod: Pod) -> None:
        load = await self._scraper.read(pod.ip)
        metrics.SCRAPES.labels("failed" if load is None else "ok").inc()
        if load is not None and not self._is_gone(pod):
            self._readings.put(pod.uid, Reading(load, self._clock(), datetime.now(UTC)))

    def _is_gone(self, pod: Pod) -> bool:
        return all(each.uid != pod.uid for each in self._pods.of(pod.tenant))

    async def _mark(self, tenant: str) -> None:
        """Only while an HPA may take a pod away, and not often."""
        known, now = self._noted.get(tenant), self._clock()
        pods = self._active(tenant)
        if known is None or not known.scales or len(pods) <= known.least:
            return
        if now - self._marked.get(tenant, float("-inf")) < MARKS:
            return
        loads: dict[str, InFlight] = {}
        for pod in pods:
            reading = self._readings.fresh(pod.uid, now)
            if reading is not None:
                loads[pod.uid] = reading.load
        changes = marks(pods, loads)
        if not changes:
            return
        self._marked[tenant] = now
        for pod in pods:
            if pod.name in changes:
                await self._write(pod, changes[pod.name])

    async def _write(self, pod: Pod, cost: int | None) -> None:
        note = {names.DELETION_COST: None if cost is None else str(cost)}
        body = {"metadata": {"uid": pod.uid, "annotations": note}}
        try:
            await self._client.merge_patch(PODS, pod.name, body, namespace=pod.namespace, into=Nothing)
        except errors.KubeError as error:
            log.info("pod not marked: %s", error, extra={"pod": pod.name})


def _talks(pod: Pod) -> bool:
    return bool(pod.ip) and pod.phase == "Running" and not pod.terminating
