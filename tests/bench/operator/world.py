"""Where it takes place: a control plane of its own, our chart's rights in it, and the operator as a process."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster import tools
from localcluster.controlplane import ControlPlane
from tenantry_operator.kube import config
from tenantry_operator.kube.config import Access

from tests.bench.operator.fleet import CREDENTIALS, SYSTEM, TIER, TIERS
from tests.cluster import installation
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.kubectl import ROOT
from tests.cluster.operator_process import renderer

#: KWOK gives a node 110 pods.
PODS_A_NODE = 100
START = 60.0


@contextmanager
def control_plane(directory: Path, tenants: int) -> Iterator[Path]:
    """A fresh one; its administrator's kubeconfig."""
    with ControlPlane(directory, nodes=max(5, tenants // PODS_A_NODE + 2)) as running:
        yield running.kubeconfig


def administrator(kubeconfig: Path) -> Access:
    """The administrator's way in."""
    return config.from_kubeconfig(kubeconfig)


def install(kubeconfig: Path, directory: Path) -> Path:
    """The platform without its pods, and what the tenants need; the kubeconfig of the operator's account."""
    cluster = Cluster(kubeconfig)
    account = installation.install(cluster, directory).operator
    cluster.apply(f"/api/v1/namespaces/{SYSTEM}/secrets/openai", CREDENTIALS)
    cluster.apply(f"{TIERS}/bench", TIER)
    return account


def until_tenants_are_collected(kubeconfig: Path) -> None:
    """Wait until the garbage collector follows Tenants.

    It learns of new kinds every 30 s. Until then it asks for each Tenant that owns something, again and again, which
    happens in no cluster whose CRDs are older than that.
    """
    command = [str(tools.kubectl()), "--kubeconfig", str(kubeconfig), "get", "--raw", "/metrics"]

    def followed() -> bool:
        text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        streams = [line for line in text.splitlines() if line.startswith("apiserver_longrunning_requests{")]
        ours = [line for line in streams if 'resource="tenants"' in line and 'verb="WATCH"' in line]
        return any(not line.endswith(" 0") for line in ours)

    eventually("the garbage collector knows Tenants", followed, patience=90)


@dataclass
class OperatorProcess:
    """A running operator."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    began: float

    def metrics(self, *names: str) -> dict[str, float]:
        """The samples with these names, by name and labels; asking for few of them costs the operator little."""
        asked = urllib.parse.urlencode([("name[]", name) for name in names])
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics?{asked}", timeout=20) as response:
            text = response.read().decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def requests(self, *, reads: bool) -> float:
        """Requests to the API server so far, without the Lease's: all of them, or only those that write."""
        total = 0.0
        for name, value in self.metrics("tenantry_kube_requests_total").items():
            if 'kind="Lease"' not in name:
                is_read = any(f'verb="{verb}"' in name for verb in ("GET", "LIST", "WATCH"))
                total += value if reads or not is_read else 0.0
        return total

    async def has_reconciled(self, count: int, patience: float = 300.0) -> float:
        """Wait for so many reconciles; the seconds since it was started."""

        def done() -> float:
            return sum(self.metrics("tenantry_reconcile_duration_seconds_count").values())

        async with asyncio.timeout(patience):
            while done() < count:  # noqa: ASYNC110 - another process has no Event to wait for
                await asyncio.sleep(0.1)
        return time.monotonic() - self.began

    def idle(self) -> bool:
        """Whether nobody waits for a worker."""
        return not any(self.metrics("tenantry_queue_depth").values())

    def memory_mb(self) -> float:
        """The most that the operator and its renderer have had in memory, MB."""
        return sum(_peak_kb(pid) for pid in (self.process.pid, *_children(self.process.pid))) / 1024

    def cpu_seconds(self) -> dict[str, float]:
        """CPU so far of the operator and of its renderer."""
        ticks = os.sysconf("SC_CLK_TCK")
        own, *helpers = (_ticks(pid) / ticks for pid in (self.process.pid, *_children(self.process.pid)))
        return {"operator": own, "renderer": sum(helpers)}

    def lines(self, message: str) -> list[dict[str, object]]:
        """The log's lines with this message."""
        found = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in found if line["message"] == message]

    async def says(self, message: str, patience: float = START) -> float:
        """Wait until it has logged this; the seconds since it was started."""
        async with asyncio.timeout(patience):
            while not self.lines(message):
                self._check()
                await asyncio.sleep(0.05)
        return time.monotonic() - self.began

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Whatever is awaited in the block is given up when the process ends, which it does when its Lease is lost."""
        async with asyncio.TaskGroup() as group:
            guard = group.create_task(self._guard())
            yield
            guard.cancel()

    async def _guard(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(0.5)

    def _check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator has ended:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """SIGTERM, as a roll-out does it."""
        self.process.terminate()
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


#: As the image runs it. The tests' environment also has the official client; Kopf imports that where it finds it, which
#: costs 18 MB that no installed operator has.
AS_SHIPPED = "import sys; sys.modules['kubernetes'] = None; from tenantry.__main__ import main; sys.exit(main())"


@contextmanager
def operator(kubeconfig: Path, directory: Path, *options: str) -> Iterator[OperatorProcess]:
    """The operator with its default settings."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = directory / f"operator-{time.monotonic_ns()}.log"
    command = [sys.executable, "-c", AS_SHIPPED, "operator", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--kubeconfig", str(kubeconfig), "--chart", str(ROOT / "charts" / "tenant")]
    command += ["--tenant-image", "tenantry:test", *options]
    with log.open("wb") as out:
        environment = {**os.environ, "TENANTRY_RENDER": renderer()}
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=ROOT)
    running = OperatorProcess(process, port, log, time.monotonic())
    try:
        yield running
    finally:
        if process.poll() is None:
            running.stop()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _peak_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime, stime


def server_cpu(directory: Path) -> dict[str, float]:
    """CPU so far of the control plane's programs, by name."""
    ticks = os.sysconf("SC_CLK_TCK")
    found: dict[str, float] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == str(directory):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                name = next((w.decode() for w in words if w in _PROGRAMS), Path(words[0].decode()).name)
                found[name] = found.get(name, 0.0) + _ticks(int(entry.name)) / ticks
        except OSError:
            continue
    return found


_PROGRAMS = {b"etcd", b"kube-apiserver", b"kube-controller-manager", b"kube-scheduler"}
