"""A pod that is to leave its node: told by its own labels and annotations, which are mounted as files.

So nothing has to reach the pod over the network, and it ends its streams properly also when whoever told it to leave is
gone by then. The kubelet writes the files anew within a fraction of a second of a change (a downwardAPI volume,
https://kubernetes.io/docs/concepts/workloads/pods/downward-api/); they are looked at four times a second.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tenantry_service.proxy.engine import Engine

POLL_SECONDS = 0.25

#: The label ``tenantry.dev/serve``: "no" once the pod is out of its Service.
SERVE = "serve"
#: The annotation ``tenantry.dev/streams-end-at``: an RFC 3339 time, or nothing.
STREAMS_END_AT = "streams-end-at"

log = logging.getLogger(__name__)


class Leaving:
    """The files of one directory; those that are not there say nothing."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._directory, self._now = directory, now
        self._ended = False

    def look(self, engine: Engine) -> None:
        """Do what the files say now.

        Out of the Service: every answer says ``Connection: close``, so that clients with connections of their own find
        another pod with their next request; they are still served. At the end of streams: what is open gets a
        well-formed end, and nothing new is taken.
        """
        leaves = self._read(SERVE) == "no"
        if leaves != engine.leaving:
            engine.leaving = leaves
            log.info("leaving" if leaves else "staying after all", extra={"in_flight": engine.telemetry.in_flight})
        end = _moment(self._read(STREAMS_END_AT))
        if end is not None and self._now() >= end and not self._ended:
            self._ended = True
            log.warning("the node's end is near: ending what is left", extra={"in_flight": engine.telemetry.in_flight})
            engine.end_all()

    async def watch(self, engine: Engine) -> None:
        """Look for ever."""
        while True:
            self.look(engine)
            await asyncio.sleep(POLL_SECONDS)

    def _read(self, name: str) -> str:
        try:
            return (self._directory / name).read_text("ascii").strip()
        except (OSError, ValueError):
            return ""


def _moment(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.timestamp() if found is not None and found.tzinfo is not None else None
