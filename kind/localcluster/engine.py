"""A Docker engine for this checkout: the one that answers, or one of our own that touches nothing of the system."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster import debian, kernellimits, leftovers, network, packetfilter
from localcluster.cache import built_once, digest_of, locked
from localcluster.machine import Machine, look, require_disk
from localcluster.paths import Checkout
from localcluster.steps import Refusal, StepLog

#: What an engine of our own consists of: dockerd, containerd, runc, their packet filter. mmdebstrap makes root trees.
PACKAGES = ("docker.io", "containerd", "runc", "iptables", "mmdebstrap")

#: Seconds within which an engine that is there answers. A sleeping Docker Desktop does not, and is not waited for.
PROBE_TIMEOUT = 5.0

#: Seconds that dockerd may take to answer for the first time (cold disk, slow machine).
START_TIMEOUT = 60.0

NO_ENGINE_REMEDY = (
    "start Docker (docker.com/get-started, or your system's package) and see that `docker version` answers; "
    "or run as root on Debian or Ubuntu, where an engine is set up for this checkout alone; "
    "or use `tenantry serve`, which needs neither engine nor cluster"
)


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `own` says that it is this checkout's and ends with `stop`."""

    host: str
    cli: Path
    own: bool
    path: str

    @property
    def env(self) -> Mapping[str, str]:
        """Variables for programs that call docker, such as kind; the legacy builder is what Debian's engine has."""
        return {"PATH": self.path, "DOCKER_BUILDKIT": "0", "DOCKER_HOST": self.host} if self.own else {}

    @property
    def docker(self) -> list[str]:
        """The docker command as the beginning of an argument list."""
        return [str(self.cli), "--host", self.host] if self.own else [str(self.cli)]

    @property
    def build_options(self) -> list[str]:
        """Options for `docker build`: an engine of our own has no default bridge, so builds use the host's network."""
        return ["--network", "host"] if self.own else []


@dataclass(frozen=True)
class Places:
    """The directories, cgroup and bridge of a checkout's own engine."""

    top: Path
    run: Path
    cgroup: str
    bridge: str

    @classmethod
    def of(cls, checkout: Checkout) -> Places:
        name = f"tenantry-{checkout.id}"
        # An interface name has 15 bytes at most (IFNAMSIZ).
        return cls(top=checkout.engine_dir, run=checkout.runtime_dir(), cgroup=name, bridge=f"tnt-{checkout.id}")

    @property
    def data(self) -> Path:
        return self.top / "data"

    @property
    def socket(self) -> Path:
        return self.run / "docker.sock"

    @property
    def config(self) -> Path:
        return self.top / "daemon.json"

    @property
    def facts(self) -> Path:
        return self.top / "engine.json"


def current(checkout: Checkout) -> Engine | None:
    """Return the engine that answers now, our own first, or `None`. Starts nothing."""
    places = Places.of(checkout)
    if places.facts.exists():
        prefix = Path(json.loads(places.facts.read_text())["prefix"])
        return _own_engine(places, prefix) if answers(places.socket) else None
    return running_elsewhere()


def ensure(checkout: Checkout, log: StepLog | None = None) -> Engine:
    """Return an engine that answers, starting one of our own if need be.

    Raises `Refusal` when there is none and none can be started, or when too little disk is free.
    """
    checkout.state.mkdir(parents=True, exist_ok=True)
    with locked(checkout.state / "engine.lock"):
        found = current(checkout)
        if found is not None:
            if found.own:
                facts = json.loads(Places.of(checkout).facts.read_text())
                packetfilter.set_rules(
                    Places.of(checkout).cgroup, Path(facts["prefix"]), ipaddress.IPv4Network(facts["subnet"])
                )
                kernellimits.hold(checkout.id)
            if log:
                log.note("our own, running" if found.own else "the one that answers")
            return found
        if log is None:
            log = StepLog(_log_path(checkout))
        machine = look()
        refuse_without_means(machine)
        require_disk(checkout.state)
        return _start(checkout, machine, prefix(checkout, machine, log), log)


def refuse_without_means(machine: Machine) -> None:
    """Raise `Refusal` unless an engine of our own can be made here."""
    if machine.root and machine.debian_like:
        return
    why = "this is not root" if not machine.root else "this is not Debian or Ubuntu"
    raise Refusal(f"no Docker engine answers, and {why}, so none can be set up", NO_ENGINE_REMEDY)


def running_elsewhere() -> Engine | None:
    """Return the engine that the user's `docker` command reaches within PROBE_TIMEOUT, or `None`."""
    cli = shutil.which("docker")
    if cli is None:
        return None
    try:
        asked = subprocess.run(
            [cli, "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=PROBE_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if asked.returncode != 0:
        return None
    return Engine(host=os.environ.get("DOCKER_HOST", ""), cli=Path(cli), own=False, path=os.environ["PATH"])


def prefix(checkout: Checkout, machine: Machine, log: StepLog) -> Path:
    """Return the directory with the engine's programs, unpacked from the distribution's packages on first use."""

    def build(into: Path) -> None:
        debian.unpack(PACKAGES, into, log)
        # Without its alternatives the package has no `iptables`; a system that has one keeps using it, being on PATH.
        filters = into / "usr/sbin"
        if shutil.which("iptables") is None:
            kind = next(iter(packetfilter.filters({**os.environ, **debian.environment(into)}))).removeprefix(
                "iptables-"
            )
            for name in ("iptables", "ip6tables"):
                for tail in ("", "-save", "-restore"):
                    (filters / f"{name}{tail}").symlink_to(f"{name}-{kind}{tail}")

    digest = digest_of("engine 1", *PACKAGES, machine.arch, machine.distribution, machine.codename)
    return built_once(checkout.cache, "engine", digest, build)[0]


def answers(path: Path) -> bool:
    """Tell whether an engine answers on the socket (GET /_ping, Docker Engine API)."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PROBE_TIMEOUT)
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def stop(checkout: Checkout) -> None:
    """End our own engine and remove everything of it: processes, mounts, cgroups, bridge, rules, files."""
    places = Places.of(checkout)
    pids = leftovers.engine_processes(places.run)
    daemon = next((pid for pid in pids if _is_daemon(pid)), None)
    if daemon is not None:
        subprocess.run(["kill", "-TERM", str(daemon)], check=False)
        deadline = time.monotonic() + 20
        while _is_daemon(daemon) and time.monotonic() < deadline:
            time.sleep(0.05)
    leftovers.kill_all(places.run, places.cgroup)
    leftovers.unmount_all([places.top, places.run])
    leftovers.remove_cgroups(places.cgroup)
    leftovers.remove_shim_sockets(places.run, places.data)
    leftovers.delete_link(places.bridge)
    if places.facts.exists():
        packetfilter.set_rules(places.cgroup, Path(json.loads(places.facts.read_text())["prefix"]), None)
    kernellimits.release(checkout.id)
    leftovers.remove_dir(places.top)
    leftovers.remove_dir(places.run)


def _start(checkout: Checkout, machine: Machine, prefix: Path, log: StepLog) -> Engine:
    places = Places.of(checkout)
    leftovers.kill_all(places.run, places.cgroup)
    leftovers.unmount_all([places.top, places.run])
    leftovers.remove_shim_sockets(places.run, places.data)
    leftovers.remove_dir(places.run)
    for directory in (places.top, places.run):
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    routes = network.routes(Path("/proc/net/route").read_text())
    subnet = network.engine_subnet(checkout.id, [] if _has_link(places.bridge) else routes)
    places.facts.write_text(json.dumps({"prefix": str(prefix), "subnet": str(subnet)}))
    # Not the system's configuration file; and the one path that only a file can set, else it would be in /etc.
    places.config.write_text(json.dumps({"deprecated-key-path": str(places.top / "key.json")}))
    env = {**os.environ, **debian.environment(prefix)}
    with (places.top / "dockerd.log").open("ab") as output:
        process = subprocess.Popen(
            daemon_arguments(
                places, machine, subnet, _runtime(places, prefix) if machine.missing_capabilities else None
            ),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT
    while not answers(places.socket):
        if process.poll() is not None or time.monotonic() > deadline:
            log.say((places.top / "dockerd.log").read_text(errors="replace")[-6000:])
            raise Refusal(f"our Docker engine does not start (its log: {places.top / 'dockerd.log'})", NO_ENGINE_REMEDY)
        time.sleep(0.05)
    packetfilter.set_rules(places.cgroup, prefix, subnet)
    kernellimits.hold(checkout.id)
    log.note(f"our own, {subnet}")
    return _own_engine(places, prefix)


def daemon_arguments(
    places: Places, machine: Machine, subnet: ipaddress.IPv4Network, runtime: Path | None
) -> list[str]:
    """Return dockerd's arguments: every place, name and range is the checkout's own."""
    argv = ["dockerd", "--host", f"unix://{places.socket}", "--data-root", str(places.data)]
    argv += ["--exec-root", str(places.run / "exec"), "--pidfile", str(places.run / "docker.pid")]
    argv += ["--config-file", str(places.config)]
    argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--default-address-pool"]
    argv += [f"base={subnet},size=24", "--cgroup-parent", f"/{places.cgroup}"]
    argv += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--log-level", "warn"]
    argv += ["--log-opt", "max-size=10m", "--log-opt", "max-file=2"]
    if runtime is not None:
        argv += ["--add-runtime", f"filtered={runtime}", "--default-runtime", "filtered"]
    return argv


def _own_engine(places: Places, prefix: Path) -> Engine:
    path = debian.environment(prefix)["PATH"]
    return Engine(host=f"unix://{places.socket}", cli=prefix / "usr/bin/docker", own=True, path=path)


def _runtime(places: Places, prefix: Path) -> Path:
    """Write the program that dockerd calls instead of runc (see localcluster.runtime)."""
    runc = next(
        path for path in (prefix / "usr/sbin/runc", prefix / "usr/bin/runc", Path("/usr/sbin/runc")) if path.exists()
    )
    script = places.top / "runtime"
    source = Path(__file__).with_name("runtime.py")
    copy = places.top / "runtime.py"  # a copy, so that containers go on working while the checkout changes
    shutil.copyfile(source, copy)
    script.write_text(f'#!/bin/sh\nexec "{os.path.realpath(sys.executable)}" -I -S "{copy}" "{runc}" "$@"\n')
    script.chmod(0o755)
    return script


def _has_link(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _is_daemon(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"dockerd")
    except OSError:
        return False


def _log_path(checkout: Checkout) -> Path:
    checkout.log_dir.mkdir(parents=True, exist_ok=True)
    return checkout.log_dir / "engine.log"
