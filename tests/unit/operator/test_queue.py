"""The queue's decisions, with the clock as a number, and its workers with real tasks."""

import asyncio

import pytest
from tenantry_operator.kube.errors import Unreachable, WritesForbidden
from tenantry_operator.queue import (
    AGED_SHARE,
    BUCKET,
    FAIRNESS,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    OPEN_PAUSE,
    REFILL_SECONDS,
    SWEEP,
    Lane,
    Schedule,
    Turn,
    WorkQueue,
)


def schedule() -> Schedule:
    """A schedule whose jitter is exactly none."""
    return Schedule(jitter=lambda: 0.5)


def keys(queue: Schedule, now: float) -> list[str]:
    """Everything that can be taken now, in order."""
    taken = []
    while (one := queue.take(now)) is not None:
        taken.append(one[0])
    return taken


def fail(queue: Schedule, key: str, now: float) -> float:
    """Take the key, let it fail, and say how long it is put off."""
    assert queue.take(now) is not None
    queue.done(key, now, again_in=None, failed=True)
    due = queue.next_due()
    assert due is not None
    return due - now


def test_a_key_added_many_times_waits_once() -> None:
    queue = schedule()
    for moment in range(5):
        queue.add("acme", Lane.PROGRESS, float(moment))
    assert keys(queue, 5.0) == ["acme"]


def test_a_key_is_never_worked_on_twice_at_a_time_and_comes_back_once() -> None:
    queue = schedule()
    queue.add("acme", Lane.CHANGE, 0.0)
    assert keys(queue, 0.0) == ["acme"]
    queue.add("acme", Lane.CHANGE, 0.1)
    queue.add("acme", Lane.PROGRESS, 0.2)
    assert keys(queue, 0.3) == []
    queue.done("acme", 0.4, again_in=None, failed=False)
    assert keys(queue, 0.4) == ["acme"]
    queue.done("acme", 0.5, again_in=None, failed=False)
    assert keys(queue, 0.5) == []


def test_deletions_and_changes_go_before_progress_and_periodic_looks() -> None:
    queue = schedule()
    for lane in reversed(Lane):
        queue.add(lane.name, lane, 0.0)
    assert keys(queue, 1.0) == ["DELETION", "CHANGE", "PROGRESS", "RESYNC"]


def test_a_waiting_key_moves_up_when_something_more_urgent_happens_to_it() -> None:
    queue = schedule()
    queue.add("slow", Lane.RESYNC, 0.0)
    queue.add("other", Lane.PROGRESS, 0.0)
    queue.add("slow", Lane.CHANGE, 0.5)
    assert keys(queue, 1.0) == ["slow", "other"]


def test_no_lane_starves() -> None:
    queue = schedule()
    queue.add("patient", Lane.RESYNC, 0.0)
    late = FAIRNESS + 1
    urgent = [f"urgent-{number}" for number in range(6)]
    for key in urgent:
        queue.add(key, Lane.CHANGE, late)
    taken = keys(queue, late)
    assert taken.index("patient") < AGED_SHARE
    assert taken[0] == urgent[0], "an aged key does not hold up everybody"


def test_a_wish_for_a_later_look_at_a_key_under_way_does_not_double_it() -> None:
    queue = schedule()
    queue.add("acme", Lane.CHANGE, 0.0)
    assert keys(queue, 0.0) == ["acme"]
    queue.add_later("acme", Lane.RESYNC, 0.0, 1.0)
    assert keys(queue, 5.0) == []
    queue.done("acme", 5.0, again_in=None, failed=False)
    assert keys(queue, 9.0) == []


def test_the_pause_after_failures_doubles_up_to_its_cap_and_a_success_forgets_them() -> None:
    queue, now, pauses = schedule(), 0.0, []
    queue.add("acme", Lane.CHANGE, now)
    for _ in range(14):
        pauses.append(fail(queue, "acme", now))
        now += pauses[-1]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert queue.take(now) is not None
    queue.done("acme", now, again_in=None, failed=False)
    queue.add("acme", Lane.CHANGE, now)
    assert fail(queue, "acme", now) == FIRST_PAUSE


def test_jitter_spreads_those_who_failed_together() -> None:
    draws = iter([0.0, 1.0])
    queue = Schedule(jitter=lambda: next(draws))
    for key in ("a", "b"):
        queue.add(key, Lane.CHANGE, 0.0)
    for key in keys(queue, 0.0):
        queue.done(key, 0.0, again_in=None, failed=True)
    assert keys(queue, 0.6 * FIRST_PAUSE) == ["a"]
    assert keys(queue, 1.5 * FIRST_PAUSE) == ["b"]


def test_the_echo_of_a_failing_attempt_does_not_cut_its_pause_short_but_a_user_does() -> None:
    queue = schedule()
    queue.add("acme", Lane.CHANGE, 0.0)
    fail(queue, "acme", 0.0)
    queue.add("acme", Lane.PROGRESS, 0.01)
    assert keys(queue, 0.02) == []
    queue.add("acme", Lane.CHANGE, 0.03)
    assert keys(queue, 0.03) == ["acme"]


def test_the_turn_counts_the_attempts() -> None:
    queue = schedule()
    queue.add("acme", Lane.CHANGE, 0.0)
    fail(queue, "acme", 0.0)
    taken = queue.take(FIRST_PAUSE)
    assert taken is not None
    assert taken[2] == Turn(attempt=2)


def test_a_wished_look_comes_in_time_and_an_event_makes_it_unnecessary() -> None:
    queue = schedule()
    queue.add("acme", Lane.CHANGE, 0.0)
    assert keys(queue, 0.0) == ["acme"]
    queue.done("acme", 0.0, again_in=60.0, failed=False)
    assert queue.next_due() == 60.0
    assert keys(queue, 59.9) == []
    queue.add("acme", Lane.PROGRESS, 30.0)
    assert keys(queue, 30.0) == ["acme"]
    queue.done("acme", 30.0, again_in=None, failed=False)
    assert queue.next_due() is None
    assert keys(queue, 61.0) == []


def test_the_earlier_of_two_wished_looks_counts() -> None:
    queue = schedule()
    queue.add_later("acme", Lane.RESYNC, 0.0, 100.0)
    queue.add_later("acme", Lane.RESYNC, 0.0, 10.0)
    queue.add_later("acme", Lane.RESYNC, 0.0, 50.0)
    assert keys(queue, 10.0) == ["acme"]
    queue.done("acme", 10.0, again_in=None, failed=False)
    assert keys(queue, 200.0) == []


def churn(queue: Schedule, key: str, now: float, times: int) -> float:
    """Events for the key as fast as it is worked on."""
    queue.add(key, Lane.PROGRESS, now)
    for _ in range(times):
        if queue.take(now) is None:
            break
        queue.add(key, Lane.PROGRESS, now)
        now += 0.01
        queue.done(key, now, again_in=None, failed=False)
    return now


def test_a_key_that_never_settles_is_spaced_out_and_others_get_their_turn() -> None:
    queue = schedule()
    now = churn(queue, "fought-over", 0.0, int(BUCKET) + 20)
    assert queue.parked == 1
    queue.add("fought-over", Lane.PROGRESS, now)
    queue.add("quiet", Lane.PROGRESS, now)
    assert keys(queue, now) == ["quiet"]
    taken = queue.take(now + OPEN_PAUSE + 1)
    assert taken is not None
    assert taken[0] == "fought-over"
    assert taken[2].throttled


def test_the_circuit_closes_after_a_quiet_run() -> None:
    queue = schedule()
    now = churn(queue, "acme", 0.0, int(BUCKET) + 20) + OPEN_PAUSE * 4
    assert keys(queue, now) == ["acme"]
    queue.done("acme", now, again_in=None, failed=False)
    assert queue.parked == 0


def test_a_users_change_gets_through_an_open_circuit() -> None:
    queue = schedule()
    now = churn(queue, "acme", 0.0, int(BUCKET) + 20)
    queue.add("acme", Lane.CHANGE, now)
    assert keys(queue, now) == ["acme"]


def test_what_is_gone_is_forgotten() -> None:
    queue = schedule()
    queue.add("acme", Lane.CHANGE, 0.0)
    fail(queue, "acme", 0.0)
    queue.forget("acme")
    taken = queue.take(FIRST_PAUSE)
    assert taken is not None
    assert taken[2].attempt == 1


def test_the_oldest_wait_is_that_of_the_longest_waiting_key_in_any_lane() -> None:
    queue = schedule()
    assert queue.oldest_wait(5.0) == 0.0
    queue.add("old", Lane.RESYNC, 1.0)
    queue.add("new", Lane.DELETION, 4.0)
    assert queue.oldest_wait(5.0) == 4.0


class Worker:
    """Records what it is given; each key is worked on until its gate is opened."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.busy: set[str] = set()
        self.overlapped = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers: list[BaseException | float | None] = []

    async def __call__(self, key: str, turn: Turn) -> float | None:
        self.overlapped |= key in self.busy
        self.busy.add(key)
        self.begun.append(key)
        await asyncio.sleep(0)
        await self.gate.wait()
        self.busy.discard(key)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


async def until(condition: object) -> None:
    """Let the loop run until the condition holds."""
    assert callable(condition)
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition has no event to wait for
            await asyncio.sleep(0.005)


async def test_workers_are_bounded_and_keys_never_overlap() -> None:
    worker = Worker()
    worker.gate.clear()
    queue = WorkQueue(worker, workers=2)
    running = asyncio.create_task(queue.run())
    for key in ("a", "b", "c", "a", "b"):
        queue.add(key, Lane.CHANGE)
    await until(lambda: len(worker.begun) == 2)
    queue.add("a", Lane.CHANGE)
    await asyncio.sleep(0.02)
    assert len(worker.begun) == 2
    worker.gate.set()
    await until(lambda: sorted(worker.begun) == ["a", "a", "b", "c"])
    assert not worker.overlapped
    running.cancel()


@pytest.mark.parametrize("error", [Unreachable("gone"), WritesForbidden("no Lease"), ZeroDivisionError("a bug")])
async def test_no_error_loses_the_key_or_ends_the_queue(error: Exception) -> None:
    worker = Worker()
    worker.answers = [error]
    queue = WorkQueue(worker)
    running = asyncio.create_task(queue.run())
    queue.add("acme", Lane.CHANGE)
    await until(lambda: worker.begun == ["acme", "acme"])
    assert not running.done()
    running.cancel()


async def test_drain_lets_work_under_way_end_and_starts_nothing_new() -> None:
    worker = Worker()
    worker.gate.clear()
    queue = WorkQueue(worker)
    running = asyncio.create_task(queue.run())
    queue.add("a", Lane.CHANGE)
    await until(lambda: worker.begun == ["a"])
    draining = asyncio.create_task(queue.drain(60.0))
    await asyncio.sleep(0)
    queue.add("b", Lane.CHANGE)
    await asyncio.sleep(0.02)
    worker.gate.set()
    assert await draining
    assert worker.begun == ["a"]
    running.cancel()


async def test_cancelling_the_queue_cancels_what_is_under_way() -> None:
    worker = Worker()
    worker.gate.clear()
    queue = WorkQueue(worker)
    running = asyncio.create_task(queue.run())
    queue.add("a", Lane.CHANGE)
    await until(lambda: worker.begun == ["a"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await queue.drain(60.0)


async def test_a_bug_is_told_and_telling_of_it_can_fail_too() -> None:
    told: list[tuple[str, int]] = []

    async def tell(key: str, turn: Turn, error: Exception) -> None:
        told.append((key, turn.attempt))
        raise error

    worker = Worker()
    worker.answers = [ZeroDivisionError("a bug"), Unreachable("no bug")]
    queue = WorkQueue(worker, unforeseen=tell)
    running = asyncio.create_task(queue.run())
    queue.add("acme", Lane.CHANGE)
    await until(lambda: len(worker.begun) == 3)
    assert told == [("acme", 1)]
    running.cancel()


def test_those_whose_pods_have_come_up_turn_ready_while_others_still_wait_for_their_first_look() -> None:
    queue = schedule()
    for number in range(10):
        queue.add(f"new-{number}", Lane.CHANGE, 0.0)
        queue.add(f"begun-{number}", Lane.PROGRESS, 0.0)
    taken = keys(queue, FAIRNESS + 1)
    assert sum(key.startswith("begun") for key in taken[:10]) == 10 // AGED_SHARE
    assert taken[0] == "new-0"


def test_what_is_remembered_of_keys_that_were_quiet_for_long_goes() -> None:
    queue = schedule()
    for number in range(SWEEP):
        queue.add(f"gone-{number}", Lane.CHANGE, 0.0)
    for key in keys(queue, 0.0):
        queue.done(key, 0.0, again_in=None, failed=False)
    queue.add("acme", Lane.CHANGE, BUCKET * REFILL_SECONDS)
    assert keys(queue, BUCKET * REFILL_SECONDS) == ["acme"]
    assert list(queue._buckets) == ["acme"]
