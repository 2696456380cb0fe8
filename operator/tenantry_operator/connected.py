"""What every HTTP client here is: a session that is open for as long as its context."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import aiohttp


class Connected(ABC):
    """Use as an async context manager."""

    _opened: aiohttp.ClientSession | None = None

    @abstractmethod
    def _open(self) -> aiohttp.ClientSession:
        """A new session, with the time limits and connections that this client needs."""

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._opened is not None, f"use {type(self).__name__} as a context manager"
        return self._opened

    async def __aenter__(self) -> Self:
        self._opened = self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None


def plain(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A session with nothing but a time limit; cookies are nobody's business here."""
    return aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
