"""Redis and PostgreSQL of one's own, for tests and measurements: Debian's programs, from the cache, on loopback.

Each is a context manager with a `url`; `kill` is `kill -9`, `start` brings it back at the same port with its data, as
after a crash. They end with the `with` block, or with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from localcluster.cache import built_once, digest_of
from localcluster.controlplane import free_ports
from localcluster.debian import REMEDY, environment, refresh_lists, unpack
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, Refusal, StepLog

#: Named one by one, for apt fetches anew only what is named: of what they need, a machine may have some already.
#: `postgresql` only points to the package of its present version.
PACKAGES = ("redis-server", "redis-tools", "postgresql")
#: What nobody needs of them: PostgreSQL's JIT compiler takes 130 MB.
SUPERFLUOUS = (
    "usr/lib/*/libLLVM*",
    "usr/lib/llvm-*",
    "usr/lib/postgresql/*/lib/bitcode",
    "usr/share/doc",
    "usr/share/man",
)
#: Seconds until one must answer; either takes less than a second on an idle machine.
START_TIMEOUT = 60.0
#: PostgreSQL refuses to run as root; this user has an entry in /etc/passwd everywhere.
NOBODY = "nobody"


def programs(checkout: Checkout | None = None) -> Path:
    """Return the directory with Redis and PostgreSQL as their packages lay them out; fetched once per machine."""
    here = checkout or Checkout.here()

    def fetch(into: Path) -> None:
        with contextlib.closing(StepLog(here.log_dir / "datastores.log")) as log:
            unpack([*PACKAGES, *_versioned(log)], into, log)
        for pattern in SUPERFLUOUS:
            for found in into.glob(pattern):
                shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()

    return built_once(here.cache, "datastores", digest_of(*PACKAGES), fetch)[0]


def _versioned(log: StepLog) -> list[str]:
    """Return the package of PostgreSQL's present version."""
    for attempt in range(2):
        if found := re.findall(
            r"Depends: (postgresql-[0-9]+)$", log.output(["apt-cache", "depends", "postgresql"]), re.M
        ):
            return found[:1]
        if not attempt:
            refresh_lists(log)
    raise Refusal("apt knows no PostgreSQL", REMEDY)


class Datastore(ABC):
    """One server process with a directory of its own, which goes when it ends."""

    name = "datastore"

    def __init__(self) -> None:
        # Not below a test's directory: those are closed to the user whom PostgreSQL must run as.
        self.directory = Path(tempfile.mkdtemp(prefix=f"tenantry-{self.name}-"))
        self.port = free_ports(1)[0]
        self.password = secrets.token_hex(12)
        #: Where its programs are.
        self._place = programs()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the server needs before its first start."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """What starts the server in the foreground."""

    @abstractmethod
    def _answers(self, connection: socket.socket) -> bool:
        """Whether the server is ready, over a fresh connection."""

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, with the data that it had, and wait until it serves. Raises `ProgramFailed` if it does not."""
        self._output = (self.directory / "log").open("ab")
        self._process = subprocess.Popen(
            [*map(str, self._command())],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={**os.environ, **environment(self._place)},
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProgramFailed([self.name], f"does not serve; the end of its log:\n{self.log[-3000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash does, and keep its data."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it from answering without closing anything."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its data; may be called again."""
        self._end(signal.SIGQUIT if self.name == "postgres" else signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.send_signal(how)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._output is not None:
            self._output.close()
            self._output = None

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return self._answers(connection)
        except OSError:
            return False


class Redis(Datastore):
    """A Redis whose every write is on disk before it is answered (what the ledger requires), unless told otherwise."""

    name = "redis"

    def __init__(self, *, appendonly: bool = True, appendfsync: str = "always", settings: Sequence[str] = ()) -> None:
        super().__init__()
        self._settings = [f"appendonly {'yes' if appendonly else 'no'}", f"appendfsync {appendfsync}", *settings]

    @property
    def url(self) -> str:
        """Of its first database, for its own administrator."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self.directory}",
            f"requirepass {self.password}",
            'save ""',
            "maxmemory-policy noeviction",
            *self._settings,
        ]
        (self.directory / "redis.conf").write_text("\n".join(lines) + "\n")

    def _command(self) -> Sequence[str | Path]:
        server = self._place / "usr/bin/redis-server"
        return ["setpriv", "--pdeathsig", "KILL", server, self.directory / "redis.conf"]

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
        said = b""
        while said.count(b"\r\n") < 2:
            more = connection.recv(256)
            if not more:
                return False
            said += more
        return b"+PONG" in said


class Postgres(Datastore):
    """A PostgreSQL with the database `tenantry`. `settings` are those of postgresql.conf, such as `fsync=off`."""

    name = "postgres"

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
            "jit": "off",
            **(settings or {}),
        }
        self._bin = Path()

    @property
    def url(self) -> str:
        """Of the database, for its owner."""
        return self.database_url("tenantry")

    def database_url(self, database: str) -> str:
        """Of another database of this server."""
        return f"postgresql://tenantry:{self.password}@127.0.0.1:{self.port}/{database}"

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            # The cache lies in root's home, which nobody else may enter.
            copy = self.directory / "programs"
            shutil.copytree(self._place, copy, symlinks=True, copy_function=_link)
            self._place = copy
            self.directory.chmod(0o755)
            shutil.chown(self.directory, NOBODY)
        self._bin = sorted(self._place.glob("usr/lib/postgresql/*/bin"))[-1]
        secret = self.directory / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            shutil.chown(secret, NOBODY)
        options: list[str | Path] = [
            "--username",
            "tenantry",
            "--pwfile",
            secret,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
        ]
        options += ["--locale", "C.UTF-8", "--no-sync", "--pgdata", self.directory / "data"]
        self._once([self._bin / "initdb", *options])
        self._once(
            [self._bin / "postgres", "--single", "-D", self.directory / "data", "postgres"], "CREATE DATABASE tenantry"
        )

    def _once(self, command: Sequence[str | Path], given: str = "") -> None:
        done = subprocess.run(
            [*self._as_nobody(), *map(str, command)],
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={**os.environ, **environment(self._place)},
            timeout=START_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise ProgramFailed([str(command[0])], f"failed:\n{done.stdout.decode(errors='replace')[-3000:]}")

    def _as_nobody(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["setpriv", "--reuid", NOBODY, "--regid", "nogroup", "--clear-groups", "--pdeathsig", "KILL"]

    def _command(self) -> Sequence[str | Path]:
        settings = {**self._settings, "port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        first = self._as_nobody() or ["setpriv", "--pdeathsig", "KILL"]
        return [*first, self._bin / "postgres", "-D", self.directory / "data", *options]

    def kill(self) -> None:
        """End it as a crash does, with its children, which would else keep the data directory a little longer."""
        children = [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + START_TIMEOUT
        while any(_alive(child) for child in children) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _answers(self, connection: socket.socket) -> bool:
        # The startup message of protocol 3.0 (https://www.postgresql.org/docs/15/protocol-message-formats.html).
        parameters = b"user\0tenantry\0database\0tenantry\0\0"
        connection.sendall((8 + len(parameters)).to_bytes(4, "big") + (196_608).to_bytes(4, "big") + parameters)
        # 'R': authentication is asked for; 'E': starting up, or recovering.
        return connection.recv(1) == b"R"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
