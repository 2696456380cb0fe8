"""What leaves the process beside its answers, by a thread of its own: spans, lines of the access log.

The event loop only appends to a bounded queue; what does not fit, or cannot be sent, is dropped and counted. Nothing
that anybody pays for goes this way.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

#: Things that may wait: a few seconds of a busy process.
QUEUE_LIMIT = 20_000
BATCH = 512
BATCH_SECONDS = 1.0

log = logging.getLogger(__name__)

Thing = TypeVar("Thing")


class Outbox(Generic[Thing]):
    """``send`` is called in the thread with some things at a time; an ``OSError`` of it loses them."""

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Thing]], None],
        limit: int = QUEUE_LIMIT,
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        self.name = name
        self._send = send
        self._limit = limit
        self._seconds = batch_seconds
        self._queue: deque[Thing] = deque()
        self._closing = threading.Event()
        self._failing = False
        #: Read by the metrics.
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, thing: Thing) -> None:
        """Take one thing; never blocks."""
        if len(self._queue) < self._limit:
            self._queue.append(thing)
        else:
            self.dropped += 1

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what is left, as far as time allows."""
        self._closing.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._closing.wait(self._seconds):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            try:
                self._send(batch)
            except OSError as error:
                self.dropped += len(batch)
                if not self._failing:
                    # An outage is logged when it begins and not once per second.
                    log.warning("%s: cannot be sent, dropped while that lasts", self.name, extra={"reason": str(error)})
                self._failing = True
            else:
                self._failing = False
