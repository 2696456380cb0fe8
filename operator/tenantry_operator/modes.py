"""Whether tenants' pods count together, as they say themselves: the operator may reach Redis where a pod cannot.

Every pod is asked now and then, one after the other: what counts is that it is told, not how soon.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from tenantry_operator.live import Live
from tenantry_operator.plan.facts import LimiterMode
from tenantry_operator.pods import Pods
from tenantry_operator.scaling.inflight import InFlight, Scraper

#: Seconds for one round of all pods, ± 20 %: at least, and at most, with some 20 questions a second in between.
SHORTEST, LONGEST, RATE = 10.0, 60.0, 20.0

#: Asks the pod at this address.
Read = Callable[[str], Awaitable[InFlight | None]]


class Modes:
    """Notes in ``Live`` of whom pods do not count together. ``notify(tenant)``: that has changed."""

    def __init__(self, live: Live, pods: Pods, read: Read, notify: Callable[[str], None]) -> None:
        self._live, self._pods, self._read, self._notify = live, pods, read, notify

    async def forever(self) -> None:
        """Ask all of them again and again until cancelled."""
        while True:
            tenants = sorted({pod.tenant for pod in self._pods if pod.serving})
            round_ = min(max(SHORTEST, len(tenants) / RATE), LONGEST) * random.uniform(0.8, 1.2)  # noqa: S311
            for tenant in tenants:
                await asyncio.sleep(round_ / len(tenants))
                await self.ask(tenant)
            for gone in self._live.limiter_modes.keys() - tenants:
                self._note(gone, None)
            if not tenants:
                await asyncio.sleep(round_)

    async def ask(self, tenant: str) -> None:
        """Ask the pods of one tenant. One that does not answer says nothing, good or bad."""
        serving = [pod for pod in self._pods.of(tenant) if pod.serving]
        answers = await asyncio.gather(*(self._read(pod.ip) for pod in serving))
        said = [LimiterMode.of(answer.limiter) for answer in answers if answer is not None]
        if said:
            alone = Counter(mode for mode in said if mode is not None)
            mode, pods = max(alone.items(), default=(None, 0), key=lambda each: each[1])
            self._note(tenant, None if mode is None else (mode, pods, len(said)))

    def _note(self, tenant: str, found: tuple[LimiterMode, int, int] | None) -> None:
        if self._live.limiter_modes.get(tenant) == found:
            return
        if found is None:
            del self._live.limiter_modes[tenant]
        else:
            self._live.limiter_modes[tenant] = found
        self._notify(tenant)


async def follow(live: Live, pods: Pods, notify: Callable[[str], None]) -> None:
    """Ask tenants' pods until cancelled."""
    async with Scraper() as scraper:
        await Modes(live, pods, scraper.read, notify).forever()
