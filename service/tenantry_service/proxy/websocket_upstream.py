"""The upstream's side of a WebSocket: HTTP until it has switched protocols, then bytes."""

import asyncio
from typing import Protocol, cast

import httptools

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import handshake
from tenantry_service.proxy.messages import HeaderList, RequestHead
from tenantry_service.proxy.session import SWITCHING_PROTOCOLS, Session
from tenantry_service.proxy.sides import HIGH_WATER

#: The most of its answer to the handshake.
MAX_HEAD_BYTES = 64 * 1024


class Owner(Protocol):
    """The client's side."""

    session: Session

    def accepted(self, answer: bytes) -> None:
        """The upstream has switched protocols; ``answer`` is for the client."""

    def from_upstream(self, data: bytes) -> None:
        """Bytes for the client."""

    def upstream_full(self, *, full: bool) -> None:
        """It reads slowly, or has caught up."""

    def failed(self, error: ApiError) -> None:
        """It cannot serve this connection."""

    def upstream_gone(self) -> None:
        """It has closed."""


class Upstream(asyncio.Protocol):
    """The connection to the upstream: HTTP until it has switched, then bytes."""

    def __init__(self, owner: Owner, head: RequestHead) -> None:
        self._owner = owner
        self._head = head
        self.transport: asyncio.Transport
        #: From when it is connected until it has switched or is lost: parsers hold whom they tell.
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: HeaderList = []
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """The answer to the handshake, then whatever the upstream says."""
        if self._parser is None:
            self._owner.from_upstream(data)
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._switched(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._owner.failed(errors.UPSTREAM_INVALID)
            return
        if self._size > MAX_HEAD_BYTES:
            self._owner.failed(errors.UPSTREAM_INVALID)

    def _switched(self, rest: bytes) -> None:
        self._parser = None
        answer = handshake.accepted(self._headers, self._head, self._owner.session.request_id)
        if answer is None:
            self._owner.failed(errors.UPSTREAM_INVALID)
            return
        self._owner.accepted(answer)
        if rest:
            self._owner.from_upstream(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        # So that reference counts alone free both.
        self._parser = None
        self._owner.upstream_gone()

    def pause_writing(self) -> None:
        """It reads slowly."""
        self._owner.upstream_full(full=True)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._owner.upstream_full(full=False)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The answer's head. Anything but 101 is a refusal."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status == SWITCHING_PROTOCOLS:
            return
        if status >= 200:
            self._owner.failed(_refusal(status))
        else:
            self._headers = []


def _refusal(status: int) -> ApiError:
    """What an upstream's refusal of a handshake is to the caller."""
    if status == errors.WRONG_KEY.status:
        return errors.UPSTREAM_CREDENTIALS
    if status < 500:
        return errors.upstream_refused(status)
    return errors.UPSTREAM_INVALID
