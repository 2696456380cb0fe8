"""The keyed work queue: what is to be looked at next, by whom, and when again after a failure.

``Schedule`` decides, with the time passed in; ``WorkQueue`` runs workers on it. The rules:

- A key is worked on by one worker at a time. Added while it waits, it waits once; added while it is worked on, it
  comes back once when that is done. However many events, no more than one run behind the current one.
- Lanes: deletions and users' changes go before the progress of pods, and that before periodic looks. Of a lane whose
  first key has waited for ``FAIRNESS`` seconds comes every second turn, so that none starves: while a thousand new
  tenants wait for their objects, those whose pods have come up turn Ready.
- A failed key comes back after a pause that doubles, with jitter. Events of other objects do not cut the pause short
  (often they are the echo of our own failing attempts); a user's change does.
- A key that was worked on too often in a short time (somebody fights us over an object) has its circuit opened: it
  runs every ``OPEN_PAUSE`` seconds at most, until it has been quiet. It cannot take the others' turns.
"""

import asyncio
import heapq
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial

from tenantry_operator import metrics
from tenantry_operator.kube.errors import KubeError, WritesForbidden

log = logging.getLogger(__name__)

#: Seconds; 0.25, 0.5, 1 … 300: quick for hiccups, and a broken tenant costs 12 attempts an hour.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 300.0
FAIRNESS = 10.0
#: One turn in so many goes to an aged key of a less urgent lane: thousands of those must not hold up a user.
AGED_SHARE = 2

#: The circuit: a bucket of runs for each key. A normal create takes some 10 runs in its first seconds.
BUCKET, REFILL_SECONDS = 60.0, 2.0
OPEN_PAUSE = 30.0
#: Buckets that are kept without a look at which of them are full.
SWEEP = 500


class Lane(IntEnum):
    """Who goes first. A key keeps the most urgent lane that it was added with since its last run."""

    DELETION = 0
    CHANGE = 1
    PROGRESS = 2
    RESYNC = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """How a key comes to be worked on.

    ``attempt`` counts from the last success; ``throttled``: the key is held back because it changes too often;
    ``recheck``: nothing was news, look also at what no watch reports.
    """

    attempt: int = 1
    throttled: bool = False
    recheck: bool = False


@dataclass(slots=True)
class _Bucket:
    runs: float = BUCKET
    at: float = 0.0


@dataclass(slots=True)
class Schedule:
    """All decisions of the queue. Every method takes the current time in seconds of a monotonic clock."""

    jitter: Callable[[], float] = random.random
    _ready: dict[Lane, OrderedDict[str, float]] = field(default_factory=lambda: {lane: OrderedDict() for lane in Lane})
    _later: list[tuple[float, int, str]] = field(default_factory=list)
    _due: dict[str, tuple[float, Lane]] = field(default_factory=dict)  # what the heap's entries are good for
    _running: dict[str, Lane] = field(default_factory=dict)
    _again: dict[str, Lane] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)
    _sequence: int = 0
    _takes: int = 0
    _sweep_at: int = 0

    def add(self, key: str, lane: Lane, now: float) -> None:
        """Something about the key is new."""
        if key in self._running:
            self._again[key] = min(lane, self._again.get(key, lane))
            return
        due = self._due.get(key)
        if due is not None:
            if lane > Lane.CHANGE and (key in self._failures or key in self._open):
                return  # it is put off on purpose
            del self._due[key]
            lane = min(lane, due[1])
        for other in Lane:
            waiting_since = self._ready[other].get(key)
            if waiting_since is not None:
                if lane < other:
                    del self._ready[other][key]
                    self._ready[lane][key] = waiting_since
                return
        self._ready[lane][key] = now

    def add_later(self, key: str, lane: Lane, now: float, pause: float) -> None:
        """Look at the key in ``pause`` seconds, unless it is looked at before that anyway."""
        waiting = any(key in queued for queued in self._ready.values())
        due = self._due.get(key)
        if waiting or key in self._running or (due is not None and due[0] <= now + pause):
            return
        self._sequence += 1
        self._due[key] = (now + pause, lane)
        heapq.heappush(self._later, (now + pause, self._sequence, key))

    def take(self, now: float) -> tuple[str, Lane, Turn, float] | None:
        """The next key to work on, with its turn and the seconds that it waited; None when there is none yet."""
        self._wake(now)
        lane = self._next_lane(now)
        if lane is None:
            return None
        key, since = self._ready[lane].popitem(last=False)
        self._running[key] = lane
        if self._spend(key, now) <= 0:
            self._open.add(key)
        attempt = self._failures.get(key, 0) + 1
        turn = Turn(attempt=attempt, throttled=key in self._open, recheck=lane is Lane.RESYNC)
        return key, lane, turn, now - since

    def _next_lane(self, now: float) -> Lane | None:
        heads = {lane: next(iter(queued.values())) for lane, queued in self._ready.items() if queued}
        if not heads:
            return None
        self._takes += 1
        first = min(heads)
        aged = [lane for lane, since in heads.items() if lane > first and now - since > FAIRNESS]
        return min(aged, key=lambda lane: heads[lane]) if aged and self._takes % AGED_SHARE == 0 else first

    def done(self, key: str, now: float, *, again_in: float | None, failed: bool) -> None:
        """The key was worked on."""
        lane = self._running.pop(key)
        newer = self._again.pop(key, None)
        if failed:
            count = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(count - 1, 20))
            again_in = pause * (0.5 + self.jitter())  # 50-150 %, so that those who failed together do not come together
        else:
            self._failures.pop(key, None)
        urgent = newer is not None and newer <= Lane.CHANGE
        if key in self._open and not urgent:
            if newer is None and not failed:
                self._open.discard(key)  # a whole pause without an event: quiet again
            else:
                self.add_later(key, lane, now, max(OPEN_PAUSE, again_in or 0.0))
                return
        if newer is not None and (urgent or not failed):
            self.add(key, newer, now)
        elif again_in is not None:
            self.add_later(key, lane if failed else Lane.RESYNC, now, again_in)

    def _spend(self, key: str, now: float) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._sweep(now)
            bucket = self._buckets[key] = _Bucket(at=now)
        bucket.runs = min(BUCKET, bucket.runs + (now - bucket.at) / REFILL_SECONDS) - 1
        bucket.at = now
        return bucket.runs

    def _sweep(self, now: float) -> None:
        """Drop buckets that are full again: what has none has a full one."""
        full = [key for key, each in self._buckets.items() if each.runs + (now - each.at) / REFILL_SECONDS >= BUCKET]
        for key in full:
            del self._buckets[key]
        self._sweep_at = max(SWEEP, 2 * len(self._buckets))

    def forget(self, key: str) -> None:
        """The object is gone; so are its failures."""
        self._failures.pop(key, None)
        self._buckets.pop(key, None)
        self._open.discard(key)

    def _wake(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            at, _, key = heapq.heappop(self._later)
            due = self._due.get(key)
            if due is not None and due[0] == at:
                del self._due[key]
                self._ready[due[1]][key] = at

    def next_due(self) -> float | None:
        """When the earliest delayed key is due; None when there is none."""
        while self._later and self._due.get(self._later[0][2], (None,))[0] != self._later[0][0]:
            heapq.heappop(self._later)  # brought forward meanwhile
        return self._later[0][0] if self._later else None

    def oldest_wait(self, now: float) -> float:
        """Seconds that the longest-waiting key has been due."""
        heads = [next(iter(queued.values())) for queued in self._ready.values() if queued]
        return max(0.0, now - min(heads)) if heads else 0.0

    def depth(self, lane: Lane) -> int:
        """Keys of this lane that could be worked on now."""
        return len(self._ready[lane])

    @property
    def parked(self) -> int:
        """Keys with an open circuit."""
        return len(self._open)


async def _nobody(_key: str, _turn: Turn, _error: Exception) -> None:
    """Nobody wants to know."""


class WorkQueue:
    """Workers on a schedule. ``work`` gives the seconds until the key wants to be looked at again, or None.

    ``unforeseen`` is told of errors that are no ``KubeError``: bugs, which the status should show.
    """

    def __init__(
        self,
        work: Callable[[str, Turn], Awaitable[float | None]],
        *,
        workers: int = 16,
        unforeseen: Callable[[str, Turn, Exception], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._workers, self._clock = work, workers, clock
        self._unforeseen = unforeseen or _nobody
        self._schedule = Schedule()
        self._nudge = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        for lane in Lane:
            metrics.QUEUE_DEPTH.labels(lane.name.lower()).set_function(partial(self._schedule.depth, lane))
        metrics.QUEUE_OLDEST_SECONDS.set_function(self.oldest_wait)
        metrics.QUEUE_PARKED.set_function(lambda: self._schedule.parked)

    def add(self, key: str, lane: Lane) -> None:
        """Look at the key soon. Never blocks; call it from the loop's own thread."""
        self._schedule.add(key, lane, self._clock())
        self._nudge.set()

    def add_later(self, key: str, lane: Lane, pause: float) -> None:
        """Look at the key in ``pause`` seconds, if nothing happens before."""
        self._schedule.add_later(key, lane, self._clock(), pause)
        self._nudge.set()

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._schedule.forget(key)

    def oldest_wait(self) -> float:
        """Seconds that the longest-waiting key has been due: the measure of whether we keep up at all."""
        return self._schedule.oldest_wait(self._clock())

    async def run(self) -> None:
        """Work until cancelled; then what is under way is cancelled, too. ``drain`` first for a clean end."""
        try:
            while True:
                self._nudge.clear()
                while len(self._tasks) < self._workers and (taken := self._schedule.take(self._clock())) is not None:
                    key, lane, turn, waited = taken
                    metrics.QUEUE_WAIT_SECONDS.labels(lane.name.lower()).observe(waited)
                    task = asyncio.create_task(self._run_one(key, turn), name=f"reconcile {key}")
                    self._tasks.add(task)
                    task.add_done_callback(self._ended)
                due = self._schedule.next_due()
                try:
                    async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                        await self._nudge.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()
            # The Lease is given back after this: by then none of them may still be writing.
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self, limit: float) -> bool:
        """Start nothing new and wait up to ``limit`` seconds for what is under way; whether all of it ended."""
        self._workers = 0
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit)
        return not self._tasks

    async def _run_one(self, key: str, turn: Turn) -> None:
        began, again_in, failed = self._clock(), None, True
        try:
            again_in = await self._work(key, turn)
            failed = False
        except WritesForbidden as error:
            log.warning("not reconciled: %s", error, extra={"tenant": key})
        except KubeError as error:
            metrics.QUEUE_RETRIES.inc()
            log.warning("put off: %s", error, extra={"tenant": key, "attempt": turn.attempt})
        except Exception as error:  # the one place where an unforeseen error may not end the process
            metrics.QUEUE_RETRIES.inc()
            log.exception("failed", extra={"tenant": key, "attempt": turn.attempt})
            await self._tell(key, turn, error)
        finally:
            metrics.RECONCILE_SECONDS.labels("failed" if failed else "ok").observe(self._clock() - began)
            self._schedule.done(key, self._clock(), again_in=again_in, failed=failed)

    async def _tell(self, key: str, turn: Turn, error: Exception) -> None:
        try:
            await self._unforeseen(key, turn, error)
        except Exception:  # telling of one error must not be the end of the worker
            log.exception("not reported", extra={"tenant": key})

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Only now is the worker's place free; woken any earlier, ``run`` would still find it taken and wait for ever.
        self._tasks.discard(task)
        self._nudge.set()
