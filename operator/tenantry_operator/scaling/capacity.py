"""All of scaling, put together: what ``main`` starts, and what ``reconcile`` tells."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web
from tenantry_service import roster as contract

from tenantry_operator import metrics
from tenantry_operator.kube.client import Client
from tenantry_operator.live import Live
from tenantry_operator.plan.facts import Assessment, Facts
from tenantry_operator.pods import Pods
from tenantry_operator.scaling import covers as covering
from tenantry_operator.scaling.covers import Covers
from tenantry_operator.scaling.inflight import Scraper
from tenantry_operator.scaling.load import Loads
from tenantry_operator.scaling.metrics_api import MetricsApi
from tenantry_operator.scaling.noted import Noted, noted
from tenantry_operator.scaling.readings import Readings
from tenantry_operator.scaling.roster import Roster
from tenantry_operator.scaling.serving import Caller, Serving, caller
from tenantry_operator.scaling.sleepers import Sleepers

#: Seconds for which people are shown what a pod said: an HPA has it asked every 15 s.
SHOWN = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process is reached, and how it reaches pods."""

    namespace: str
    service_account: str
    #: Its own address, for others. Empty: neither metrics nor wake-ups are served, and nobody is put to sleep.
    address: str = ""
    listen: str = "0.0.0.0"  # noqa: S104
    port: int = 8443
    #: An HTTP proxy through which pods are reached.
    pod_proxy: str | None = None


class Capacity:
    """Run it while leading. ``routes``: puts further handlers into the leader's server."""

    def __init__(
        self,
        client: Client,
        live: Live,
        pods: Pods,
        settings: Settings,
        routes: Callable[[web.Application], None] = lambda _: None,
    ) -> None:
        self._client, self._settings, self._further_routes = client, settings, routes
        self._noted: dict[str, Noted] = {}
        self._readings, self._covers, self._roster = Readings(), Covers(), Roster()
        self._pods = pods
        self._scraper = Scraper(proxy=settings.pod_proxy)
        self._loads = Loads(
            client, self._scraper, pods, self._readings, self._noted, lambda tenant: self._covers.of(tenant) is not None
        )
        self._sleepers = Sleepers(client, live, pods, self._readings, self._covers, self._roster, self._noted)
        self._covers.stirred = self._covered
        self._watch = covering.followed(client, self._covers)
        metrics.ASLEEP.set_function(self._sleepers.asleep)

    def age(self) -> float:
        """Seconds since our own watch was heard of."""
        return self._watch.age()

    def in_flight(self, tenant: str) -> int | None:
        """Requests that the tenant's pods are serving, as they said last; None if none of them is asked."""
        moment = time.monotonic() - SHOWN
        said = [load for pod in self._pods.of(tenant) for load in self._readings.since([pod.uid], moment) or ()]
        return sum(load.requests for load in said) if said else None

    def tell(self, facts: Facts, assessment: Assessment) -> None:
        """A tenant was looked at."""
        name, fresh = facts.meta.name, noted(facts, assessment)
        if fresh is not None:
            if fresh.may_sleep or fresh.scales or fresh.hands_off or name in self._noted:
                self._noted[name] = fresh
            self._changed(name)

    def forget(self, tenant: str) -> None:
        """It is gone."""
        if self._noted.pop(tenant, None) is not None:
            self._changed(tenant)

    def _covered(self, tenant: str) -> None:
        self._sleepers.stir(tenant)
        self._loads.ask(tenant, soon=True)

    def _changed(self, tenant: str) -> None:
        self._sleepers.noted(tenant)
        self._loads.ask(tenant)

    async def run(self) -> None:
        """Until cancelled."""
        chosen = self._settings
        async with self._scraper, asyncio.TaskGroup() as group:
            group.create_task(self._loads.forever())
            if not chosen.address:
                return
            group.create_task(self._watch.run())
            await self._watch.synced.wait()
            serving = Serving(
                self._client,
                namespace=chosen.namespace,
                account=chosen.service_account,
                address=chosen.address,
                listen=chosen.listen,
                port=chosen.port,
                routes=self._routes,
            )
            group.create_task(serving.run())
            group.create_task(self._sleepers.forever())

    def _routes(self, app: web.Application) -> None:
        MetricsApi(self._pods, self._readings, self._loads.freshen).add_to(app)
        app.router.add_post(contract.PATH, self._sync)
        self._further_routes(app)

    async def _sync(self, request: web.Request) -> web.Response:
        if caller(request) is not Caller.ACTIVATOR:
            return web.Response(status=401, text="the activator's token is asked for here\n")
        try:
            said = contract.decode_request(await request.read())
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"{error}\n")
        answer = await self._roster.answer(said)
        return web.Response(body=contract.encode(answer), content_type="application/json")
