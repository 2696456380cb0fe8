"""What platform teams write: tiers and credentials. The only file that knows Kopf, and it knows nothing of a tenant.

Kopf keeps the streams alive (reconnects, bookmarks, expired versions); its handlers here put what they are given into
``Live`` and, if that was news, the tenant's name into the queue. They never fail, wait or write, so its ordering,
retries and finalizers do not matter to us. Two operators in one process, because Secrets and our Lease are watched in
the platform's namespace only, and tiers across the cluster. Tenants are many: see ``tenants``.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import kopf
import msgspec

from tenantry_operator import metrics
from tenantry_operator.api.decode import decode_meta
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.apply.kinds import TIERS
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.resources import LEASES, SECRETS, Resource
from tenantry_operator.live import Live
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import version
from tenantry_operator.queue import Lane, WorkQueue
from tenantry_operator.resync import CredentialSecret

log = logging.getLogger(__name__)

Raw = Mapping[str, object]


@dataclass(slots=True)
class Intake:
    """Where events go."""

    live: Live
    queue: WorkQueue
    relisted: Callable[[], None] = lambda: None
    tier_changed: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.clock()
        metrics.WATCH_AGE_SECONDS.labels(LEASES.kind).set_function(self.age)

    def age(self) -> float:
        """Seconds since the last event. Our own Lease is watched too and renewed every 2 s: silence means deafness."""
        return self.clock() - self._last

    def tier(self, gone: bool, raw: Raw) -> bool:
        """A TenantTier: news for its roll-out; for every Tenant that names it if it came, went or became unreadable."""
        meta = decode_meta(raw)
        name = meta.name
        news = (
            self.live.drop_tier(name, version(meta.resource_version)) if gone else self.live.put_tier(raw) is not None
        )
        if news:
            self.tier_changed()
            if name not in self.live.decisions or not isinstance(self.live.tiers.get(name), TenantTier):
                self._fan_out(self.live.tenants_of_tier(name))  # else each is woken when its wave comes
        return news

    def credential(self, gone: bool, raw: Raw) -> bool:
        """A credentials Secret: news for every Tenant with an upstream that names it."""
        facts = msgspec.convert(raw, CredentialSecret).facts()
        news = self.live.drop_credential(facts.name, facts.version) if gone else self.live.put_credential(facts)
        if news:
            self._fan_out(self.live.tenants_using(facts.name))
        return news

    def heard(self, kind: str, news: bool, *, listed: bool) -> None:
        """Note that the streams are alive, and that one of them has begun with a new list."""
        self._last = self.clock()
        if listed:
            self.relisted()
        metrics.WATCH_EVENTS.labels(kind, "yes" if news else "no").inc()

    def _fan_out(self, tenants: list[str]) -> None:
        for name in tenants:
            self.queue.add(name, Lane.CHANGE)


def _subscribe(
    registry: kopf.OperatorRegistry, resource: Resource, intake: Intake, take: Callable[[bool, Raw], bool]
) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)
    async def on_event(event: kopf.RawEvent, **_: object) -> None:
        news = take(event["type"] == "DELETED", event["object"])
        intake.heard(resource.kind, news, listed=event["type"] is None)


def _login(registry: kopf.OperatorRegistry, access: Access) -> None:
    @kopf.on.login(registry=registry)
    async def login(**_: object) -> kopf.ConnectionInfo:
        # Kopf calls this again after a 401: then the cached token is what was refused.
        access.tokens.invalidate()
        return kopf.ConnectionInfo(
            server=access.server,
            ca_data=access.ca,
            insecure=access.insecure,
            certificate_data=access.certificate,
            private_key_data=access.key,
            token=await access.tokens.token(),
        )


def settings() -> kopf.OperatorSettings:
    """Kopf's settings: watch, and nothing else."""
    chosen = kopf.OperatorSettings()
    chosen.process.ultimate_exiting_timeout = None
    chosen.peering.standalone = True  # the Lease decides who runs
    chosen.posting.enabled = False  # we write our own Events
    chosen.scanning.disabled = True  # our kinds are installed first and stay
    chosen.watching.server_timeout, chosen.watching.client_timeout = 300, 310
    chosen.watching.connect_timeout = 5
    chosen.watching.chunk_size = 500
    chosen.networking.connect_timeout, chosen.networking.request_timeout = 5, 30
    chosen.networking.enforce_retry_after = True
    # A limit here would let one slow object hold a place for its idle time; our own queue bounds the work.
    chosen.queueing.worker_limit, chosen.queueing.idle_timeout = None, 0.5
    return chosen


async def watch(
    access: Access,
    intake: Intake,
    *,
    platform_namespace: str,
    lease: str,
    started: Callable[[], None],
) -> None:
    """Run all watches until cancelled. Raises whatever ends a stream for good: then the process should end, too.

    ``started`` is called once Kopf's tasks exist; Kopf takes the process's signal handlers, and the caller
    will want them back.
    """
    cluster, cluster_settings = kopf.OperatorRegistry(), settings()
    _login(cluster, access)
    _subscribe(cluster, TIERS, intake, intake.tier)

    platform, platform_settings = kopf.OperatorRegistry(), settings()
    _login(platform, access)
    _subscribe(platform, SECRETS, intake, intake.credential)
    _subscribe(platform, LEASES, intake, lambda _gone, _raw: False)
    watching = platform_settings.watching
    watching.label_selectors[SECRETS.group, SECRETS.version, SECRETS.plural] = names.CREDENTIALS_SELECTOR
    watching.field_selectors[LEASES.group, LEASES.version, LEASES.plural] = f"metadata.name={lease}"

    tasks: list[asyncio.Task[object]] = []
    try:
        tasks += await kopf.spawn_tasks(registry=cluster, settings=cluster_settings, clusterwide=True)
        tasks += await kopf.spawn_tasks(registry=platform, settings=platform_settings, namespaces=[platform_namespace])
        started()
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError("the watches ended by themselves")
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
