"""``/healthz``, ``/readyz`` and ``/metrics``.

An operator that answers can still be deaf or stuck; so health asks how long the oldest key has been waiting
and when a watch last said something, not whether the process runs.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tenantry_operator import metrics

#: Seconds. A cold start of 10,000 tenants keeps keys waiting for minutes; that is load, not sickness.
LONGEST_WAIT = 900.0
#: Seconds. Our Lease is renewed, and watched, every 2 s; a broken stream is made anew after 70 s of silence.
LONGEST_SILENCE = 180.0


def _zero() -> float:
    return 0.0


def _nothing(_: Container[str]) -> str:
    return ""


@dataclass(slots=True)
class Vitals:
    """What the probes look at; ``main`` fills it in as the process goes from standing by to leading."""

    leading: bool = False
    synced: bool = False
    started: bool = False
    oldest_wait: Callable[[], float] = _zero
    watch_age: Callable[[], float] = _zero
    #: Text of the metrics that the registry has not got, of those that are named or of all.
    tenants: Callable[[Container[str]], str] = _nothing

    def sickness(self) -> str | None:
        """Why the process should be started anew, or None."""
        if not self.leading:
            return None
        if self.oldest_wait() > LONGEST_WAIT:
            return f"a key has been waiting for {self.oldest_wait():.0f} s"
        if self.synced and self.watch_age() > LONGEST_SILENCE:
            return f"no watch event for {self.watch_age():.0f} s"
        return None

    def unreadiness(self) -> str | None:
        """Why the process cannot do its part yet, or None. Standing by is a part, too."""
        if not self.started:
            return "starting"
        return "reading the cluster" if self.leading and not self.synced else None


async def serve(vitals: Vitals, *, host: str, port: int) -> web.AppRunner:
    """Start the server; ``runner.addresses`` tells the port when 0 was asked for. Raises OSError for a taken port."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(vitals.sickness())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(vitals.unreadiness())

    async def exposition(request: web.Request) -> web.Response:
        # As in the client libraries: ``?name[]=…``, as often as wanted, asks for some only.
        wanted = request.query.getall("name[]", [])
        registry = metrics.REGISTRY.restricted_registry(wanted) if wanted else metrics.REGISTRY
        body = generate_latest(registry) + vitals.tenants(wanted).encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def _answer(problem: str | None) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)
