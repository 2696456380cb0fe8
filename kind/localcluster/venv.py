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
        have = ".".join(map(str, sys.version_info[:3]))
        raise Refusal(f"Python {have} is too old", "install Python 3.11 or newer, or name one: make PYTHON=python3.12 ...")
    python = checkout.root / ".venv" / "bin" / "python"
    ready = checkout.root / ".venv" / "ready"
    wanted = inputs_digest(checkout.root)
    if not (ready.exists() and ready.read_text() == wanted):
        run_steps([Step("python environment", lambda log: _install(checkout.root, log))], checkout.log_dir)
        ready.write_text(wanted)
    ready.touch()
    return python


def inputs_digest(root: Path) -> str:
    """Return what the environment was made from: the lock, the project's declaration, and the interpreter."""
    digest = hashlib.sha256(sys.version.encode())
    for name in (LOCK, "pyproject.toml"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def _install(root: Path, log: StepLog) -> None:
    place = root / ".venv"
    if place.exists():
        shutil.rmtree(place)
    log.run([sys.executable, "-m", "venv", place], remedy="install the venv module (Debian: apt-get install python3-venv)")
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    log.run([*pip, "--require-hashes", "-r", root / LOCK], remedy="see whether this machine reaches its Python package index")
    log.run([*pip, "--no-build-isolation", "--no-deps", "--editable", root])


def main(argv: Sequence[str]) -> int:
    """`localcluster venv`: make or refresh the environment."""
    ensure(Checkout.here())
    return 0
