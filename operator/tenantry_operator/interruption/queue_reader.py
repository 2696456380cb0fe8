"""The interruption queue: read at least once, noted on Nodes, and only then deleted.

Whoever is killed in between reads the message again; noting it twice changes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from tenantry_operator import metrics
from tenantry_operator.aws.sqs import Message, Queue, QueueError
from tenantry_operator.interruption.messages import PoisonError, signals
from tenantry_operator.interruption.signals import Signal

log = logging.getLogger(__name__)

#: Seconds until the queue is asked again after a failure; they double.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Of a message that nobody can make sense of, so much goes to the log.
QUOTED = 500


class QueueReader:
    """Reads one queue. ``report`` notes signals on Nodes and says whether that has been done."""

    def __init__(self, queue: Queue, report: Callable[[Sequence[Signal]], Awaitable[bool]]) -> None:
        self._queue, self._report = queue, report
        self._answered = time.monotonic()
        metrics.QUEUE_READ_AGE.set_function(lambda: time.monotonic() - self._answered)

    async def run(self) -> None:
        """Read until cancelled. A queue that cannot be read is told of and tried again: there are other channels."""
        pause = FIRST_PAUSE
        while True:
            try:
                messages = await self._queue.receive()
                self._answered, pause = time.monotonic(), FIRST_PAUSE
                await asyncio.gather(*(self._handle(message) for message in messages))
            except QueueError as error:
                log.warning("interruption queue: %s", error)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)

    async def _handle(self, message: Message) -> None:
        try:
            found = signals(message.body, datetime.now(UTC))
        except PoisonError as error:
            # Set aside: in the log, where somebody may look at it, and out of the way of those behind it.
            metrics.MESSAGES_SET_ASIDE.inc()
            log.error("message set aside: %s", error, extra={"body": message.body[:QUOTED], "id": message.message_id})
            await self._queue.delete(message)
            return
        if await self._report(found):
            await self._queue.delete(message)
