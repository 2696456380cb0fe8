"""The programs that are measured or measure: found on this machine, or installed into the user's cache.

Each Python package gets a virtual environment of its own, from a lock with hashes; Debian packages are unpacked, not
installed, so nothing of the system changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from localcluster import compiled
from localcluster.cache import built_once, digest_of
from localcluster.debian import environment, unpack
from localcluster.paths import Checkout
from localcluster.steps import Step, StepLog, run_steps

LOCKS = Path(__file__).parent / "locks"

#: Gateways that come from PyPI, each with a lock of this name.
OURS = "ours"
PACKAGED = ("envoy", "tensorzero", "litellm")

#: Debian packages of the upstream and the load, and the program in each that we run.
DEBIAN_PROGRAMS = {"nginx": "nginx", "wrk": "wrk"}


@dataclass
class Programs:
    """Where everything is. `environment` is what the programs from Debian packages need to find their libraries."""

    pythons: dict[str, Path] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    #: What goes on PYTHONPATH for the service: itself compiled as in the image, the command, and no other packages than
    #: the image has, for each of them takes time at its start. And the Python to run it with.
    service: Sequence[Path] = ()
    python: str = sys.executable

    def debian(self, name: str) -> str:
        """Return the path of nginx or wrk."""
        found = shutil.which(name, path=self.environment.get("PATH", search_path()))
        if found is None:
            raise FileNotFoundError(f"{name} is neither on this machine nor among what was unpacked for it")
        return found

    def envoy(self) -> Path:
        """Return Envoy's own binary (the package's `envoy` command only replaces itself by it)."""
        (binary,) = self.pythons["envoy"].parents[1].glob("lib/python*/site-packages/envoy/_bin/envoy")
        return binary


def ensure(gateways: Iterable[str]) -> Programs:
    """Find or install what the named gateways and the load need, side by side, with a line of progress for each.

    Raises:
        StepFailed: something could not be installed; the step carries its name.
    """
    checkout = Checkout.here()
    programs = Programs()
    locks = {name: LOCKS / f"{name}.txt" for name in PACKAGED} | {OURS: checkout.root / "requirements.lock"}
    steps = [Step(name, partial(_python, checkout, name, locks[name], programs)) for name in locks if name in gateways]
    missing = [package for package, program in DEBIAN_PROGRAMS.items() if not shutil.which(program, path=search_path())]
    if OURS in gateways:
        steps.append(Step("compiled service", partial(_service, checkout, programs), after=(OURS,)))
    if missing:
        steps.append(Step("debian packages", partial(_debian, checkout, missing, programs)))
    if steps:
        run_steps(steps, checkout.log_dir / "bench-proxy")
    return programs


def search_path() -> str:
    """Return PATH with the directories in which Debian keeps servers."""
    return os.pathsep.join([os.environ.get("PATH", "/usr/bin:/bin"), "/usr/sbin", "/sbin"])


def _python(checkout: Checkout, name: str, lock: Path, programs: Programs, log: StepLog) -> None:
    def install(into: Path) -> None:
        log.run([sys.executable, "-m", "venv", into], remedy="install the venv module (Debian: python3-venv)")
        pip: list[str | Path] = [into / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install"]
        remedy = f"see whether this machine reaches its Python package index, or leave it out: --skip {name}"
        log.run([*pip, "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", lock], timeout=900, remedy=remedy)

    place, fresh = built_once(checkout.cache, f"bench-{name}", digest_of(sys.version, files=[lock]), install)
    log.note("installed" if fresh else "reused")
    programs.pythons[name] = place / "bin" / "python"


def _service(checkout: Checkout, programs: Programs, log: StepLog) -> None:
    (dependencies,) = programs.pythons[OURS].parents[1].glob("lib/python*/site-packages")
    programs.service = (compiled.ensure(checkout, log), checkout.root / "cli", dependencies)
    programs.python = service_python()
    log.note(f"runs on {programs.python}")


def service_python() -> str:
    """Return the Python to run the service with: one that was built like those of the image's bases, with profile
    guided optimization, if this machine has one of our version. A Python that a version manager built from source
    without it takes a tenth more time for everything."""
    name = "python{}.{}".format(*sys.version_info)
    # Debian's is built so; what it says about itself is about its shared library.
    debian = Path(f"/usr/bin/{name}")
    for python in (sys.executable, f"/usr/local/bin/{name}"):
        if Path(python).exists() and "--enable-optimizations" in _output(
            [python, "-c", "import sysconfig; print(sysconfig.get_config_var('CONFIG_ARGS'))"]
        ):
            return python
    return str(debian) if debian.exists() else sys.executable


def _output(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout


def _debian(checkout: Checkout, packages: list[str], programs: Programs, log: StepLog) -> None:
    place, fresh = built_once(
        checkout.cache, "bench-debian", digest_of(*packages), lambda into: unpack(packages, into, log)
    )
    log.note("unpacked" if fresh else "reused")
    found: Mapping[str, str] = environment(place)
    programs.environment.update(found)
