"""The Python packages of the images: wheels for one architecture, each checked against the lock's hashes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from localcluster.cache import built_once, digest_of
from localcluster.paths import Checkout
from localcluster.steps import StepLog

LOCK = "requirements.lock"

#: What wheels call the architectures (PEP 600 platform tags).
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

#: Baselines that we accept: glibc 2.17 and 2.28, which every base image since Debian 10 satisfies. The Dockerfile names
#: the same two.
BASELINES = ("manylinux_2_28", "manylinux2014")

#: pip finds what we ask for or says so; nothing is ever compiled.
REMEDY = "see whether this machine reaches its Python package index, and whether every locked package has such a wheel"


def platform_options(python: str, arch: str) -> list[str]:
    """Return the options that make pip choose wheels for CPython `python` ("3.11") on that architecture."""
    options = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    options += ["--abi", f"cp{python.replace('.', '')}"]
    for baseline in BASELINES:
        options += ["--platform", f"{baseline}_{MACHINES[arch]}"]
    return options


def ensure(checkout: Checkout, python: str, arch: str, log: StepLog) -> Path:
    """Return a directory with the wheels of the lock and nothing else, downloaded when the lock has changed."""
    lock = checkout.root / LOCK

    def download(into: Path) -> None:
        argv: list[str | Path] = [interpreter(checkout), "-m", "pip", "--disable-pip-version-check", "download"]
        argv += ["--quiet", "--require-hashes", "--no-deps", *platform_options(python, arch)]
        log.run([*argv, "--dest", into, "--requirement", lock], remedy=REMEDY)

    place, fresh = built_once(checkout.cache, "wheels", digest_of(python, arch, *BASELINES, files=[lock]), download)
    log.note(f"{count(place.glob('*.whl'))} for {MACHINES[arch]}{'' if fresh else ', reused'}")
    return place


def project_wheel(checkout: Checkout, into: Path, log: StepLog) -> None:
    """Build the project's own wheel (pure Python, the same for every architecture) with the locked build backend."""
    argv: list[str | Path] = [interpreter(checkout), "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    log.run([*argv, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", into, checkout.root])


def interpreter(checkout: Checkout) -> Path:
    """Return the development environment's Python, or the one that runs us when it has not been made."""
    python = checkout.root / ".venv" / "bin" / "python"
    return python if python.exists() else Path(sys.executable)


def count(paths: Iterable[Path]) -> int:
    return sum(1 for _ in paths)
