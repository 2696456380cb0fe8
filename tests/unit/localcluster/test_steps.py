"""Steps run side by side, stop at the first failure, and show what went wrong."""

import io
import sys
import threading
from pathlib import Path

import pytest
from localcluster.steps import ProgramFailed, Progress, Refusal, Step, StepFailed, StepLog, check_graph, run_steps

PYTHON = sys.executable


def quiet() -> Progress:
    return Progress(io.StringIO())


def test_independent_steps_run_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=60)

    def meet(_: StepLog) -> None:
        together.wait()

    run_steps([Step("one", meet), Step("two", meet)], tmp_path, quiet())
    assert not together.broken


def test_a_step_starts_after_the_steps_it_names(tmp_path: Path) -> None:
    seen: list[str] = []
    steps = [
        Step("last", lambda _: seen.append("last"), after=("first", "second")),
        Step("second", lambda _: seen.append("second"), after=("first",)),
        Step("first", lambda _: seen.append("first")),
    ]
    run_steps(steps, tmp_path, quiet())
    assert seen == ["first", "second", "last"]


def test_progress_has_a_line_for_start_and_end_with_the_note(tmp_path: Path) -> None:
    out = io.StringIO()
    run_steps([Step("node image", lambda log: log.note("reused"))], tmp_path, Progress(out))
    start, end = out.getvalue().splitlines()
    assert "start node image" in start
    assert "done  node image: " in end
    assert end.endswith("(reused)")


def test_a_failing_program_is_reported_with_the_end_of_its_output_and_the_remedy(tmp_path: Path) -> None:
    def fail(log: StepLog) -> None:
        log.run([PYTHON, "-c", "print('the reason'); raise SystemExit(3)"], remedy="do this")

    with pytest.raises(StepFailed) as failed:
        run_steps([Step("broken", fail)], tmp_path, quiet())
    assert failed.value.step == "broken"
    assert "status 3" in failed.value.reason
    assert "the reason" in failed.value.tail
    assert failed.value.remedy == "do this"
    assert failed.value.log == tmp_path / "broken.log"


def test_a_failure_stops_running_programs_and_starts_nothing_more(tmp_path: Path) -> None:
    long_one_runs = threading.Event()
    later: list[str] = []

    def wait_long(log: StepLog) -> None:
        long_one_runs.set()
        log.run([PYTHON, "-c", "import time; time.sleep(600)"])

    def fail(_: StepLog) -> None:
        long_one_runs.wait(60)
        raise ProgramFailed(["it"], "broke")

    steps = [Step("long", wait_long), Step("bad", fail), Step("later", lambda _: later.append("ran"), after=("bad",))]
    with pytest.raises(StepFailed, match="bad"):
        run_steps(steps, tmp_path, quiet())
    assert later == []


def test_a_refusal_comes_through_as_it_is(tmp_path: Path) -> None:
    def refuse(_: StepLog) -> None:
        raise Refusal("port 30080 is taken", "free it")

    with pytest.raises(Refusal, match="taken") as refused:
        run_steps([Step("ports", refuse)], tmp_path, quiet())
    assert refused.value.remedy == "free it"


def test_a_program_that_overruns_its_time_is_ended(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "slow.log")
    with pytest.raises(ProgramFailed, match="did not end within 0 s"):
        log.run([PYTHON, "-c", "import time; time.sleep(600)"], timeout=0.1)
    log.close()


def test_output_is_returned_and_errors_are_logged(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "out.log")
    code = "import sys; print(sys.stdin.read().upper()); print('hidden', file=sys.stderr)"
    assert log.output([PYTHON, "-c", code], input="quiet").strip() == "QUIET"
    assert "hidden" in log.tail()
    assert "QUIET" not in log.tail()
    log.close()


def test_a_program_that_reads_late_gets_all_of_a_long_input(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "late.log")
    code = "import sys, time; time.sleep(0.5); print(len(sys.stdin.read()))"  # more than one of our looks at it
    assert log.output([PYTHON, "-c", code], input="x" * 1_000_000, timeout=60).strip() == "1000000"
    log.close()


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([Step("a", print), Step("a", print)], "differ"),
        ([Step("a", print, after=("b",))], "no step is called"),
        ([Step("a", print, after=("b",)), Step("b", print, after=("a",))], "wait for each other"),
    ],
)
def test_a_graph_that_cannot_run_is_refused_before_anything_starts(steps: list[Step], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_graph(steps)
