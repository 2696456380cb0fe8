"""Named steps that run side by side as far as their prerequisites allow, each with its own log file.

A step prints one line when it starts and one when it ends, with the seconds since the start of the whole run and its
own. What its programs print goes to `<log_dir>/<name>.log`; of that, a failing step shows the end.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Lines of a failed step's log that are shown: enough for the error and what led to it, short enough to be read.
TAIL_LINES = 25


class Refusal(Exception):  # noqa: N818 - says what happened
    """Something about this machine or this request keeps us from going on; `remedy` says what the user can do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class StepFailed(Exception):  # noqa: N818 - says what happened
    """A step ended with an error. `tail` holds the last lines of its log, `remedy` may be empty."""

    def __init__(self, step: str, reason: str, log: Path, tail: str, remedy: str = "") -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason
        self.log = log
        self.tail = tail
        self.remedy = remedy


class ProgramFailed(Exception):  # noqa: N818 - says what happened
    """A program that a step ran ended with a status other than 0 (or hit its timeout)."""

    def __init__(self, argv: Sequence[str], why: str, remedy: str = "") -> None:
        super().__init__(f"`{' '.join(argv[:4])}{' ...' if len(argv) > 4 else ''}` {why}")
        self.remedy = remedy


class StepLog:
    """Where one step's output goes, and the way it runs programs. Used by one thread, closed by `run_steps`."""

    def __init__(self, path: Path, stopping: threading.Event | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("wb", buffering=0)
        self._stopping = stopping or threading.Event()
        self._note = ""

    def say(self, text: str) -> None:
        """Write a line to the log."""
        self._file.write(text.encode() + b"\n")

    def note(self, text: str) -> None:
        """Set what the step's last progress line says in parentheses, such as "reused" or a size."""
        self._note = text
        self.say(text)

    @property
    def last_note(self) -> str:
        return self._note

    def run(
        self,
        argv: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        input: str | bytes | None = None,  # noqa: A002 - the name that subprocess.run gives it
        timeout: float | None = None,
        check: bool = True,
        interruptible: bool = True,
        remedy: str = "",
    ) -> int:
        """Run a program with its output in the log and return its status.

        Each of `argv` is made a string. `env` is added to our own environment. `timeout` is in seconds. A program that
        is not `interruptible` (a package manager) is left to end when another step fails. Raises `ProgramFailed` when
        `check` and the status is not 0.
        """
        return self._execute(argv, env, cwd, input, timeout, check, interruptible, remedy, capture=False)[0]

    def output(
        self,
        argv: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        input: str | bytes | None = None,  # noqa: A002 - see run
        timeout: float | None = None,
        check: bool = True,
    ) -> str:
        """Like `run`, but return what the program wrote to its standard output (it is not logged; errors are)."""
        return self._execute(argv, env, cwd, input, timeout, check, True, "", capture=True)[1]

    def until(
        self, argv: Sequence[object], timeout: float, *, env: Mapping[str, str] | None = None, pause: float = 0.3
    ) -> None:
        """Run a program again and again until it ends with 0. Raises `ProgramFailed` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.run(argv, env=env, check=False) != 0:
            if time.monotonic() > deadline:
                raise ProgramFailed([str(word) for word in argv], f"did not succeed within {timeout:.0f} s")
            time.sleep(pause)

    def _execute(
        self,
        argv: Sequence[object],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        given: str | bytes | None,
        timeout: float | None,
        check: bool,
        interruptible: bool,
        remedy: str,
        *,
        capture: bool,
    ) -> tuple[int, str]:
        words = [str(word) for word in argv]
        self.say(f"$ {' '.join(words)}")
        with (
            tempfile.TemporaryFile() as source,
            subprocess.Popen(
                words,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                # A file and no pipe: who waits in short turns, as below, would have to go on writing in each of them.
                stdin=subprocess.DEVNULL if given is None else _written(source, given),
                stdout=subprocess.PIPE if capture else self._file,
                stderr=self._file,
            ) as process,
        ):
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                try:
                    written, _ = process.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    late = deadline is not None and time.monotonic() > deadline
                    if late or (interruptible and self._stopping.is_set()):
                        process.terminate()
                        try:
                            process.wait(10)
                        except subprocess.TimeoutExpired:
                            process.kill()
                        why = f"did not end within {timeout:.0f} s" if late and timeout else "was stopped"
                        raise ProgramFailed(words, why, remedy) from None
                except BaseException:
                    process.kill()
                    raise
        if check and process.returncode != 0:
            raise ProgramFailed(words, f"ended with status {process.returncode}", remedy)
        return process.returncode, (written or b"").decode(errors="replace")

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of the log."""
        text = self.path.read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def close(self) -> None:
        self._file.close()


def _written(source: IO[bytes], given: str | bytes) -> IO[bytes]:
    source.write(given.encode() if isinstance(given, str) else given)
    source.seek(0)
    return source


@dataclass(frozen=True)
class Step:
    """One piece of work. `after` names the steps of the same run that have to end well before this one starts."""

    name: str
    run: Callable[[StepLog], None]
    after: tuple[str, ...] = ()
    remedy: str = ""


class Progress:
    """Prints one line per event; the first column is seconds since the run began."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def line(self, mark: str, text: str) -> None:
        with self._lock:
            print(f"{time.monotonic() - self._began:7.1f}s  {mark:<5} {text}", file=self._out, flush=True)


def check_graph(steps: Sequence[Step]) -> None:
    """Raise `ValueError` for a name that occurs twice, a prerequisite that no step has, or a circle."""
    names = [step.name for step in steps]
    if len(set(names)) != len(names):
        raise ValueError(f"step names must differ: {names}")
    waiting = {step.name: set(step.after) for step in steps}
    unknown = {name for after in waiting.values() for name in after} - set(names)
    if unknown:
        raise ValueError(f"no step is called {sorted(unknown)}")
    while waiting:
        free = [name for name, after in waiting.items() if not after & waiting.keys()]
        if not free:
            raise ValueError(f"steps wait for each other: {sorted(waiting)}")
        for name in free:
            del waiting[name]


def run_steps(steps: Sequence[Step], log_dir: Path, progress: Progress | None = None) -> None:
    """Run all steps, each as soon as its prerequisites have ended.

    When one fails, no further step starts, the programs of the running ones are stopped, and the first failure is
    raised: a `Refusal` as it is, anything else as `StepFailed` with the step's exception as its cause.
    """
    check_graph(steps)
    log_dir.mkdir(parents=True, exist_ok=True)
    progress = progress or Progress()
    stopping = threading.Event()
    waiting = list(steps)
    done: set[str] = set()
    running: dict[Future[None], tuple[Step, StepLog]] = {}
    failure: tuple[Step, StepLog, BaseException] | None = None
    with ThreadPoolExecutor(max_workers=max(1, len(steps))) as pool:
        try:
            while running or (waiting and failure is None):
                if failure is None:
                    for step in [s for s in waiting if done.issuperset(s.after)]:
                        waiting.remove(step)
                        log = StepLog(log_dir / f"{file_name(step.name)}.log", stopping)
                        running[pool.submit(_timed, step, log, progress)] = (step, log)
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    step, log = running.pop(future)
                    log.close()
                    error = future.exception()
                    if error is None:
                        done.add(step.name)
                    elif failure is None:
                        failure = (step, log, error)
                        stopping.set()
        except BaseException:
            stopping.set()  # Ctrl-C: the pool waits for its threads, and they for their programs
            raise
    if failure is not None:
        step, log, error = failure
        if isinstance(error, Refusal):
            raise error
        remedy = error.remedy if isinstance(error, ProgramFailed) and error.remedy else step.remedy
        raise StepFailed(step.name, str(error) or type(error).__name__, log.path, log.tail(), remedy) from error


def file_name(step: str) -> str:
    """Return a step's name as it may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", step).strip("-").lower() or "step"


def _timed(step: Step, log: StepLog, progress: Progress) -> None:
    progress.line("start", step.name)
    began = time.monotonic()
    ended_well = False
    try:
        step.run(log)
        ended_well = True
    finally:
        took = f"{time.monotonic() - began:.1f} s"
        note = f" ({log.last_note})" if log.last_note and ended_well else ""
        progress.line("done" if ended_well else "FAIL", f"{step.name}: {took}{note}")
