"""The development environment: `.venv` with exactly what the lock names, and the project itself, editable."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from localcluster.paths import Checkout
from localcluster.steps import Refusal, Step, StepLog, run_steps

OLDEST_PYTHON = (3, 11)
LOCK = "requirements-dev.lock"


def ensure(checkout: Checkout) -> Path:
    """Bring `.venv` up to date with the lock and return its interpreter; nothing to do takes no time.

    Raises `Refusal` when this Python is too old or cannot make virtual environments.
    """
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(map(str, sys.version_info[:3]))
        raise Refusal(
            f"Python {version} is too old", "install Python 3.11 or newer, or name one: make PYTHON=python3.12 ..."
        )
    place = checkout.root / ".venv"
    ready = place / "ready"
    packages = _digest(sys.version.encode(), (checkout.root / LOCK).read_bytes())
    project = _digest((checkout.root / "pyproject.toml").read_bytes())
    have = ready.read_text().split() if ready.exists() else []
    steps = []
    if have[:1] != [packages]:
        steps.append(Step("python packages", lambda log: _install_packages(checkout.root, place, log)))
    if have != [packages, project]:
        after = tuple(step.name for step in steps)
        steps.append(Step("tenantry, editable", lambda log: _install_project(checkout.root, place, log), after=after))
    if steps:
        run_steps(steps, checkout.log_dir)
    ready.write_text(f"{packages} {project}\n")
    return place / "bin" / "python"


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _pip(place: Path) -> list[str | Path]:
    return [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]


def _install_packages(root: Path, place: Path, log: StepLog) -> None:
    if place.exists():
        shutil.rmtree(place)
    log.run(
        [sys.executable, "-m", "venv", place], remedy="install the venv module (Debian: apt-get install python3-venv)"
    )
    remedy = "see whether this machine reaches its Python package index"
    log.run([*_pip(place), "--require-hashes", "-r", root / LOCK], remedy=remedy)


def _install_project(root: Path, place: Path, log: StepLog) -> None:
    log.run([*_pip(place), "--no-build-isolation", "--no-deps", "--editable", root])


def main(argv: Sequence[str]) -> int:
    """`localcluster venv`: make or refresh the environment."""
    ensure(Checkout.here())
    return 0
