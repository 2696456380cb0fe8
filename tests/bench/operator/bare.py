"""The yardstick: the same objects, applied by a client that does nothing else, until all Deployments have their pod."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from tests.bench.operator.api import Api, pooled
from tests.bench.operator.fleet import Bodies, Sightings

MANAGER = "tenantry-operator"

#: Tenants under way at a time, and with them up to a tenant's objects of one stage: as many as the operator's default.
TENANTS_IN_FLIGHT = 16
PATIENCE = 600.0


async def _apply(api: Api, wanted: Bodies) -> None:
    for stage in wanted.stages:
        await asyncio.gather(*(api.apply(path, body, MANAGER) for path, body in stage))


async def run(api: Api, everything: Sequence[Bodies], in_flight: int) -> float:
    """Apply everything; the seconds until all are ready."""
    sightings = Sightings()
    watching = asyncio.create_task(sightings.watch_deployments(api))
    try:
        began = time.monotonic()
        await pooled(in_flight, [partial(_apply, api, each) for each in everything])
        await sightings.until(sightings.ready, len(everything), PATIENCE)
        return max(sightings.ready.values()) - began
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
