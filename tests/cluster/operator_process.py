"""The operator as a real process against a real API server."""

import functools
import http.client
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from localcluster import renderhelper
from localcluster.machine import architecture
from localcluster.paths import Checkout
from localcluster.steps import StepLog

from tests.cluster.cluster import eventually

#: Seconds without a write after which an operator is done: it keeps a status back for ten, a tier's counts for five.
SETTLED = 12.0
#: As many of them count at most between two looks: on a machine that stands still nobody writes either.
GLANCE = 0.5
#: The end of what an operator says that has lost its Lease.
LEASE_LOST = "this process ends, another takes over"


@dataclass
class Operator:
    """One operator process.

    ``again`` starts it anew, which is done when it has lost its Lease: on a machine that stands still for some seconds
    it cannot renew it. None: it stays as it has ended.
    """

    process: subprocess.Popen[bytes]
    log: Path
    again: Callable[[], subprocess.Popen[bytes]] | None = None
    _born: int = 0  # where in the log its present life begins
    _port: int = 0  # of the present life; 0: not known yet
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def look_after(self) -> None:
        """What the kubelet does, until somebody ends it. Whatever else it may end of is its end."""
        while True:
            time.sleep(0.2)
            with self._turn:
                if self.again is None:
                    return
                if self.process.poll() is None:
                    continue
                if not any(line["message"].endswith(LEASE_LOST) for line in self.lines()):
                    self.again = None
                    return
                self._born, self._port = self.log.stat().st_size, 0
                self.process = self.again()

    def let_be(self) -> None:
        """However it ends from now on, it is not started anew."""
        with self._turn:
            self.again = None

    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self.again is None and self.process.poll() is not None

    def lines(self, *, ever: bool = False) -> list[dict[str, Any]]:
        """Its log since it was started last, or of all its lives."""
        text = self.log.read_bytes()[0 if ever else self._born :]
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be on its way
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]

    def said_at(self, message: str) -> datetime:
        """When it first logged this, by the clock on the wall: that does not depend on when somebody looks."""
        said = [line for line in self.lines(ever=True) if line["message"] == message]
        return datetime.fromisoformat(said[0]["time"])

    def says(self, message: str) -> "Operator":
        """Wait until it has logged this."""

        def said() -> bool:
            assert not self.is_over(), self.log.read_text()
            return any(line["message"] == message for line in self.lines())

        try:
            eventually(f"the operator says {message!r}", said)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.log.read_text()[-4000:]}") from error
        return self

    def metric(self, prefix: str) -> float:
        """The sum of all samples whose text begins so."""
        text = self.get("/metrics")[1]
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(prefix))

    def written(self) -> dict[str, float]:
        """Requests so far that were no reads, by their labels: verb, kind and status code."""
        counted = [
            line.removeprefix("tenantry_kube_requests_total").rpartition(" ")
            for line in self.get("/metrics")[1].splitlines()
            if line.startswith("tenantry_kube_requests_total{")
        ]
        reads = ('verb="GET"', 'verb="LIST"', 'verb="WATCH"')
        return {labels: float(count) for labels, _, count in counted if not any(read in labels for read in reads)}

    def writes(self) -> float:
        """How many of them there were."""
        return sum(self.written().values())

    def settles(self, seconds: float = SETTLED) -> "Operator":
        """Wait until it has written nothing for so long."""
        last, looked, quiet = self.written(), time.monotonic(), 0.0

        def settled() -> bool:
            nonlocal last, looked, quiet
            now, at = self.written(), time.monotonic()
            quiet = quiet + min(at - looked, GLANCE) if now == last else 0.0
            last, looked = now, at
            return quiet > seconds

        try:
            eventually("no more writes", settled, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}; it wrote {last}") from error
        return self

    def get(self, path: str) -> tuple[int, str]:
        """Ask its probes. While it is being started anew, that is waited for."""

        def answer() -> tuple[int, str] | None:
            assert not self.is_over(), self.log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._where()}{path}", timeout=30) as response:
                    return response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except (LookupError, OSError, http.client.HTTPException):
                self._port = 0
                return None

        return eventually(f"the operator answers {path}", answer)

    def _where(self) -> int:
        """The free port that it has taken. Raises LookupError as long as it has not said which."""
        if not self._port:
            (self._port,) = [line["port"] for line in self.lines() if line["message"] == "standing by"] or [0]
        if not self._port:
            raise LookupError("it has not said where it answers")
        return self._port

    def kill(self) -> None:
        """kill -9."""
        self.let_be()
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        eventually("it runs, or has ended for good", lambda: self.again is None or self.process.poll() is None)
        self.let_be()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@functools.cache
def renderer() -> str:
    """The chart renderer of this checkout, built if need be."""
    checkout = Checkout.here()
    return str(
        renderhelper.ensure(checkout, architecture(platform.machine()), StepLog(checkout.log_dir / "renderer.log"))
    )


@dataclass
class Operators:
    """Starts operators and ends those that a test has left running. ``always``: arguments of all of them."""

    kubeconfig: Path
    directory: Path
    always: Sequence[str] = ()
    started: list[Operator] = field(default_factory=list)

    def start(
        self,
        *arguments: str,
        lease: str = "tenantry-operator",
        environment: Mapping[str, str] | None = None,
        revived: bool = True,
    ) -> Operator:
        """Start one, with further arguments and variables; it may not be leading yet.

        ``revived``: when it loses its Lease, it is started anew, as in a cluster.
        """
        log = self.directory / f"operator-{len(self.started)}.log"
        command = [sys.executable, "-m", "tenantry", "operator", "--listen", "127.0.0.1", "--port", "0"]
        command += ["--kubeconfig", str(self.kubeconfig), "--chart", "charts/tenant"]
        command += ["--tenant-image", "tenantry:test", "--lease-name", lease, *self.always, *arguments]
        variables = {**os.environ, "TENANTRY_RENDER": renderer(), **(environment or {})}

        def process() -> subprocess.Popen[bytes]:
            with log.open("ab") as out:
                return subprocess.Popen(command, stdout=out, stderr=out, env=variables, start_new_session=True)

        operator = Operator(process(), log, process if revived else None)
        self.started.append(operator)
        if revived:
            threading.Thread(target=operator.look_after, daemon=True).start()
        return operator

    def release_all(self, kubeconfig: Path) -> int:
        """What the uninstall hook runs; its exit status."""
        command = [sys.executable, "-m", "tenantry", "operator", "--release-all", "--kubeconfig", str(kubeconfig)]
        return subprocess.run(command, timeout=120, check=False).returncode

    def end(self) -> None:
        """Stop all of them."""
        for operator in self.started:
            operator.let_be()
        running = [operator for operator in self.started if operator.process.poll() is None]
        for operator in running:
            operator.process.terminate()
        for operator in running:
            try:
                operator.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                operator.kill()
