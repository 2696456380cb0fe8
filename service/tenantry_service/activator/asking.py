"""The activator's side of the roster: one question to the operator after the other, and one at once when it matters."""

import asyncio
import logging
import random
import ssl
from pathlib import Path

import aiohttp
import msgspec

from tenantry_service import roster
from tenantry_service.activator.sleepers import Sleepers
from tenantry_service.activator.waiting import Waiting
from tenantry_service.roster import SyncRequest

log = logging.getLogger(__name__)

#: Seconds for an answer; the operator keeps a question open for five.
TIMEOUT = 12.0
#: Seconds until the next attempt after a failure, and between two mentions of tenants that are waited for.
PAUSE, REMIND = 0.3, 2.0
LARGEST = 64 * 1024 * 1024


class Operator:
    """Asks until cancelled. ``trust`` is a directory with the operator's certificate and our token, read each time that
    a connection is made: both may be replaced."""

    def __init__(
        self,
        url: str,
        trust: Path,
        sleepers: Sleepers,
        *,
        instance: str,
        address: str,
        port: int,
    ) -> None:
        self._url, self._trust, self._sleepers = url.rstrip("/") + roster.PATH, trust, sleepers
        self._me = SyncRequest(instance=instance, address=address, port=port)
        self._wanted = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    def urgent(self) -> None:
        """Somebody begins to wait."""
        self._wanted.set()

    async def forever(self, waiting: Waiting) -> None:
        """Ask what is new; and say who is waited for, at once and again as long as it is so."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._call(waiting))

    async def leave(self) -> None:
        """No more requests are to come here."""
        await self._ask(leaving=True)

    async def _listen(self) -> None:
        while True:
            if not await self._ask():
                await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    async def _call(self, waiting: Waiting) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while wake := waiting.tenants():
                heard = await self._ask(wake=wake, at_once=True)
                try:
                    async with asyncio.timeout(REMIND if heard else PAUSE):
                        await self._wanted.wait()
                    self._wanted.clear()
                except TimeoutError:
                    pass

    async def _ask(self, *, wake: tuple[str, ...] = (), at_once: bool = False, leaving: bool = False) -> bool:
        """One question; whether it was answered."""
        sleepers = self._sleepers
        asked = msgspec.structs.replace(
            self._me, epoch=sleepers.epoch, version=sleepers.version, wake=wake, at_once=at_once, leaving=leaving
        )
        try:
            session = self._opened()
            token = (self._trust / "activator-token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(self._url, data=roster.encode(asked), headers=headers) as response:
                if response.status != 200:
                    raise aiohttp.ClientError(f"{response.status} {(await response.text())[:200].strip()}")
                sleepers.take(roster.decode_answer(await response.read()), asked.epoch)
        except (TimeoutError, OSError, aiohttp.ClientError, msgspec.DecodeError) as error:
            log.warning("the operator does not answer: %s", error or type(error).__name__)
            await self.close()
            return False
        return True

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=str(self._trust / "tls.crt"))
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=8),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Close what is open; the next question opens it anew."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
