"""The control routes: health, readiness, metrics. ``/v1`` never comes here."""

import json
from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy.engine import Engine
from tenantry_service.usage_report import Source, report

_JSON = "application/json"


def build(engine: Engine, usage: Source | None = None) -> FastAPI:
    """The ASGI application over one engine. ``usage``: where it is known what tenants have used."""
    app = FastAPI(title="tenantry", openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> Response:
        """Alive: the event loop answers."""
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        """Ready for new requests; otherwise what is missing."""
        missing = engine.not_ready()
        if missing:
            return Response("\n".join(missing) + "\n", status_code=503, media_type="text/plain")
        return Response("ready\n", media_type="text/plain")

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(engine.telemetry.render(), headers={"content-type": CONTENT_TYPE_LATEST})

    @app.get("/tenantry/v1/inflight")
    async def inflight() -> Response:
        """What there is to do now, for whoever scales this or moves it elsewhere."""
        load = engine.load()
        body = {
            "requests": load.requests,
            "streams": load.streams,
            "draining": load.draining,
            "idleSeconds": round(load.idle_seconds, 3),
            "limiter": next((mode for mode, tenants in engine.limiter_modes().items() if tenants), None),
        }
        return Response(json.dumps(body), media_type=_JSON)

    @app.get("/tenantry/v1/usage")
    async def used(request: Request) -> Response:
        """What the key's tenant has used, and what is left."""
        now = datetime.now(UTC)
        credential = request.headers.get("authorization")
        caller = engine.snapshot.authenticate(None if credential is None else credential.encode(), now.timestamp())
        if isinstance(caller, ApiError):
            return Response(caller.body(), status_code=caller.status, media_type=_JSON)
        if usage is None:
            return Response(errors.INTERNAL.body(), status_code=errors.INTERNAL.status, media_type=_JSON)
        body = await report(caller.view.policy, caller.key, usage, now)
        return Response(body, media_type=_JSON, headers={"cache-control": "no-store"})

    @app.exception_handler(404)
    async def not_found(request: Request, _: Exception) -> Response:
        error = errors.route_not_found(request.method, request.url.path)
        return Response(error.body(), status_code=404, media_type=_JSON)

    @app.exception_handler(405)
    async def not_allowed(request: Request, _: Exception) -> Response:
        error = errors.method_not_allowed(request.method, request.url.path, "GET")
        return Response(error.body(), status_code=405, media_type=_JSON, headers={"allow": "GET"})

    return app
