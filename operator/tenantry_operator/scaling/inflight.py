"""What tenants' pods have to do right now, asked of the pods themselves: ``GET /tenantry/v1/inflight``."""

import asyncio

import aiohttp
import msgspec
from msgspec import Struct

from tenantry_operator.connected import Connected

#: The port of a tenant's pod.
PORT = 8000
PATH = "/tenantry/v1/inflight"
#: Seconds for one answer. A pod whose event loop needs longer has more urgent things to do, and is asked again soon.
TIMEOUT = 1.0
#: Pods that are asked at a time: those that do not answer must not hold up the others by much.
AT_A_TIME = 64
#: An answer is some 80 bytes.
LARGEST = 4096


class InFlight(Struct, frozen=True, rename="camel"):
    """One pod's answer."""

    requests: int
    #: Those among ``requests`` whose answer comes in pieces.
    streams: int = 0
    draining: bool = False
    #: Since the last admitted request ended; 0 while there is one.
    idle_seconds: float = 0.0
    #: How it counts: ``shared``, ``memory`` (where nothing is shared), ``refusing`` or ``local_share``.
    limiter: str = ""


_decode = msgspec.json.Decoder(InFlight).decode


class Scraper(Connected):
    """Asks pods. Use as an async context manager.

    ``proxy``: the URL of an HTTP proxy through which pods are reached, for an operator outside of the cluster.
    """

    def __init__(self, *, proxy: str | None = None, timeout: float = TIMEOUT, at_a_time: int = AT_A_TIME) -> None:
        self._proxy, self._timeout = proxy, timeout
        self._turn = asyncio.Semaphore(at_a_time)

    def _open(self) -> aiohttp.ClientSession:
        # Addresses only, so no resolver; and no kept connections, which would be one for each pod.
        connector = aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def read(self, address: str, port: int = PORT) -> InFlight | None:
        """What the pod at this address says; None when it does not answer, or not in these words."""
        host = f"[{address}]" if ":" in address else address
        async with self._turn:
            try:
                async with self._session.get(f"http://{host}:{port}{PATH}", proxy=self._proxy) as response:
                    if response.status != 200:
                        return None
                    return _decode(await response.content.read(LARGEST))
            except (TimeoutError, aiohttp.ClientError, msgspec.DecodeError):
                return None
