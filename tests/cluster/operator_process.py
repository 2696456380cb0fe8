"""The operator as a real process against a real API server."""

import functools
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster import renderhelper
from localcluster.machine import architecture
from localcluster.paths import Checkout
from localcluster.steps import StepLog

from tests.cluster.cluster import eventually

#: Seconds without a write after which an operator mostly is done.
SETTLED = 3.0


@dataclass
class Operator:
    """One operator process."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def says(self, message: str) -> "Operator":
        """Wait until it has logged this."""

        def said() -> bool:
            assert self.process.poll() is None, self.log.read_text()
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
        last, since = self.written(), time.monotonic()

        def settled() -> bool:
            nonlocal last, since
            if (now := self.written()) != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > seconds

        try:
            eventually("no more writes", settled)
        except AssertionError as error:
            raise AssertionError(f"{error}; it wrote {last}") from error
        return self

    def get(self, path: str) -> tuple[int, str]:
        """Ask its probes."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


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
        self, *arguments: str, lease: str = "tenantry-operator", environment: Mapping[str, str] | None = None
    ) -> Operator:
        """Start one, with further arguments and variables; it may not be leading yet."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        log = self.directory / f"operator-{len(self.started)}.log"
        command = [sys.executable, "-m", "tenantry", "operator", "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--kubeconfig", str(self.kubeconfig), "--chart", "charts/tenant"]
        command += ["--tenant-image", "tenantry:test", "--lease-name", lease, *self.always, *arguments]
        with log.open("wb") as out:
            variables = {**os.environ, "TENANTRY_RENDER": renderer(), **(environment or {})}
            process = subprocess.Popen(command, stdout=out, stderr=out, env=variables, start_new_session=True)
        operator = Operator(process, log, port)
        self.started.append(operator)
        return operator

    def release_all(self, kubeconfig: Path) -> int:
        """What the uninstall hook runs; its exit status."""
        command = [sys.executable, "-m", "tenantry", "operator", "--release-all", "--kubeconfig", str(kubeconfig)]
        return subprocess.run(command, timeout=60, check=False).returncode

    def end(self) -> None:
        """Stop all of them."""
        running = [operator for operator in self.started if operator.process.poll() is None]
        for operator in running:
            operator.process.terminate()
        for operator in running:
            try:
                operator.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                operator.kill()
