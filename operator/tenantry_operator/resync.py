"""Complete lists of tiers and credentials, read into ``Live``: at the start, and now and then against what Kopf misses.

A watch that was cut off and starts from a new list does not tell what went away in between; a list does. So a missed
event costs at most a period, whatever the reason. All of it is reads, and what has not changed wakes nobody.
"""

import asyncio
import logging
import random
from collections.abc import Callable

import msgspec

from tenantry_operator.apply.credentials import content_digest
from tenantry_operator.apply.kinds import TIERS
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.errors import KubeError
from tenantry_operator.kube.resources import SECRETS
from tenantry_operator.live import Credential, Live
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import LiveMeta, version
from tenantry_operator.queue import Lane

log = logging.getLogger(__name__)

#: Seconds between two complete lists, each ± 20 % so that two operators of two clusters do not beat in time.
PERIOD = 600.0
#: Seconds from the first sign of a watch's new list until we read our own: its other kinds follow within a moment.
SETTLE = 3.0
#: Seconds after the start for one more look, for kinds whose last object went before their watch began.
LATE = 30.0
#: Seconds over which the tenants are spread when all of them are to be looked at.
SPREAD = 300.0

Notify = Callable[[str, Lane, float], None]


class CredentialSecret(msgspec.Struct, frozen=True):
    """A credentials Secret; its content is looked at and dropped."""

    metadata: LiveMeta
    data: dict[str, str] = {}

    def facts(self) -> Credential:
        """What is kept of it."""
        meta, value = self.metadata, self.data.get(names.SECRET_FIELD)
        content = content_digest(meta.uid, value) if value else ""
        return Credential(meta.name, meta.uid, version(meta.resource_version), content)


class Resync:
    """Reads everything. ``notify(tenant, lane, pause)`` is called for whom something was news."""

    def __init__(self, client: Client, live: Live, notify: Notify, *, platform_namespace: str) -> None:
        self._client, self._live, self._notify = client, live, notify
        self._platform_namespace = platform_namespace
        self._wanted = asyncio.Event()

    def soon(self) -> None:
        """A watch has begun with a new list: whatever went away before that, it will never tell. Read everything."""
        self._wanted.set()

    async def everything(self) -> None:
        """Read all of them. Raises KubeError."""
        await asyncio.gather(self._tiers(), self._credentials())

    async def forever(self) -> None:
        """Once the watches have begun, when one begins anew, and each period. Runs until cancelled."""
        self.soon()
        pause = LATE
        while True:
            asked = await self._asked_within(pause)
            try:
                await self.everything()
            except KubeError as error:
                log.warning("resync put off: %s", error)
                asked = True
            if not asked:
                self._spread_all()
                pause = PERIOD * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    async def _asked_within(self, pause: float) -> bool:
        try:
            async with asyncio.timeout(pause):
                await self._wanted.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(SETTLE)
        self._wanted.clear()
        return True

    def _spread_all(self) -> None:
        """Each tenant is looked at now and then even if nothing was news: for what is neither watched nor listed."""
        for name in self._live.tenants:
            self._notify(name, Lane.RESYNC, random.uniform(0, SPREAD))  # noqa: S311

    async def _tiers(self) -> None:
        present, as_of = set(), 0
        async for page in self._client.pages(TIERS, into=dict[str, object]):
            as_of = version(page.metadata.resource_version)
            for raw in page.items:
                name = self._live.put_tier(raw)
                present.add(_name(raw))
                if name and name not in self._live.decisions:
                    self._changed(self._live.tenants_of_tier(name))
        for name in set(self._live.tiers) - present:
            if self._live.drop_tier(name, as_of):
                self._changed(self._live.tenants_of_tier(name))

    async def _credentials(self) -> None:
        present, as_of = set(), 0
        pages = self._client.pages(
            SECRETS,
            namespace=self._platform_namespace,
            labels=names.CREDENTIALS_SELECTOR,
            into=CredentialSecret,
        )
        async for page in pages:
            as_of = version(page.metadata.resource_version)
            for secret in page.items:
                present.add(secret.metadata.name)
                if self._live.put_credential(secret.facts()):
                    self._changed(self._live.tenants_using(secret.metadata.name))
        for name in set(self._live.credentials) - present:
            if self._live.drop_credential(name, as_of):
                self._changed(self._live.tenants_using(name))

    def _changed(self, tenants: list[str]) -> None:
        for name in tenants:
            self._notify(name, Lane.CHANGE, 0.0)


def _name(raw: dict[str, object]) -> str:
    return msgspec.convert(raw["metadata"], LiveMeta).name
