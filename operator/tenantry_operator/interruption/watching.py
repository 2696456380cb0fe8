"""All channels by which a node's end may be heard of, and the hand-overs that follow, as one task."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tenantry_operator.aws.sqs import Queue
from tenantry_operator.interruption.events import Events
from tenantry_operator.interruption.evictions import Evictions
from tenantry_operator.interruption.loop import Handovers
from tenantry_operator.interruption.queue_reader import QueueReader
from tenantry_operator.kube.client import Client
from tenantry_operator.live import Live
from tenantry_operator.pods import Pods
from tenantry_operator.scaling.inflight import Scraper


@dataclass(frozen=True, slots=True)
class Settings:
    """How interruptions are heard of, and how pods are reached."""

    #: Of the interruption queue; empty for none.
    queue_url: str = ""
    #: An HTTP proxy through which pods are reached.
    pod_proxy: str | None = None


async def hand_over(
    client: Client,
    live: Live,
    pods: Pods,
    pods_known: asyncio.Event,
    changed: Callable[[str], None],
    evictions: Evictions,
    settings: Settings,
) -> None:
    """Hear of nodes that go away, and hand their pods over, until cancelled.

    ``pods_known``: set once all pods are in ``pods``. ``changed``: see ``Handovers``. Raises ValueError for a queue
    whose region cannot be told.
    """
    queue_url = settings.queue_url
    await pods_known.wait()
    async with AsyncExitStack() as held:
        scraper = await held.enter_async_context(Scraper(proxy=settings.pod_proxy))
        queue = await held.enter_async_context(Queue(queue_url, os.environ)) if queue_url else None
        handovers = Handovers(client, live, pods, scraper, changed, evictions)
        async with asyncio.TaskGroup() as group:
            group.create_task(handovers.run())
            await handovers.nodes.synced.wait()  # what is about an unknown node is not kept, or not for long
            group.create_task(Events(client, handovers.hear).reflector.run())
            if queue is not None:
                group.create_task(QueueReader(queue, handovers.report).run())
