"""The demo's talk with a tenant's endpoint, held by kind/demo/ask.py with the real OpenAI SDK."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, StepLog

#: Seconds that the whole talk may take.
TIMEOUT = 120.0


@dataclass(frozen=True)
class Answer:
    """What came through the endpoint: a whole answer, `seconds` after the Tenant was applied, and a stream."""

    endpoint: str
    model: str
    text: str
    seconds: float
    streamed: tuple[str, ...]

    @property
    def pieces(self) -> int:
        return len(self.streamed)


class Conversation:
    """The child process, started before there is anybody to talk to: importing the SDK takes a second of its own."""

    def __init__(self, checkout: Checkout, log: StepLog) -> None:
        self._log = log
        python = checkout.root / ".venv" / "bin" / "python"
        argv = [str(python), str(checkout.root / "kind" / "demo" / "ask.py")]
        log.say(f"$ {' '.join(argv)}")
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        self._wait_for_import()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def hold(self, endpoint: str, key: str, model: str, began: float) -> Answer:
        """Ask, and return what was answered. `began` is the monotonic time from which seconds count.

        Raises `ProgramFailed` when no answer comes; what the SDK said is in the step's log.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"base_url": endpoint, "api_key": key, "model": model}) + "\n")
        process.stdin.flush()
        text, served_by, seconds = "", "", 0.0
        streamed: list[str] = []
        for line in process.stdout:
            said = _parsed(line)
            if said is None:
                self._log.say(line.rstrip())
            elif "answer" in said:
                text, served_by, seconds = said["answer"], said["model"], time.monotonic() - began
            else:
                streamed.append(said["piece"])
        if process.wait(TIMEOUT) != 0 or not text or not streamed:
            raise ProgramFailed(["ask.py"], "did not get an answer and a stream", "see what the tenant's pods say")
        return Answer(endpoint, served_by, text, seconds, tuple(streamed))

    def _wait_for_import(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            self._log.say(line.rstrip())
            if line.startswith("ready"):
                return
        raise ProgramFailed(["ask.py"], "cannot import the OpenAI SDK", "make the virtual environment anew: make clean")


def _parsed(line: str) -> dict[str, str] | None:
    """Return one of ask.py's JSON lines, or `None` for anything else that it printed."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
