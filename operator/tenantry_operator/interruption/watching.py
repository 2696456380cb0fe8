"""All channels by which a node's end may be heard of, and the hand-overs that follow, as one task."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack

from tenantry_operator.aws.sqs import Queue
from tenantry_operator.interruption.events import Events
from tenantry_operator.interruption.loop import Handovers
from tenantry_operator.interruption.queue_reader import QueueReader
from tenantry_operator.kube.client import Client
from tenantry_operator.live import Live
from tenantry_operator.pods import Pods
from tenantry_operator.scaling.inflight import Scraper


async def hand_over(
    client: Client, live: Live, pods: Pods, pods_known: asyncio.Event, changed: Callable[[str], None], queue_url: str
) -> None:
    """Hear of nodes that go away, and hand their pods over, until cancelled.

    ``pods_known``: set once all pods are in ``pods``. ``changed``: see ``Handovers``. ``queue_url``: of the
    interruption queue; empty for none. Raises ValueError for a queue whose region cannot be told.
    """
    await pods_known.wait()
    async with AsyncExitStack() as held:
        scraper = await held.enter_async_context(Scraper())
        queue = await held.enter_async_context(Queue(queue_url, os.environ)) if queue_url else None
        handovers = Handovers(client, live, pods, scraper, changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(handovers.run())
            group.create_task(Events(client, handovers.hear).reflector.run())
            if queue is not None:
                await handovers.nodes.synced.wait()  # what is about an unknown node is not kept for long
                group.create_task(QueueReader(queue, handovers.report).run())
