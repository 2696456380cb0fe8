"""Every locked package has a wheel for both architectures: the images never need a compiler, nor arm64 a machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from localcluster.wheels import LOCK, MACHINES, platform_options

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arch", sorted(MACHINES))
def test_every_locked_package_resolves_to_a_wheel_of_the_architecture(arch: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run", "--quiet"]
    argv += ["--no-deps", "--require-hashes", *platform_options("3.11", arch), "--target", str(tmp_path)]
    resolved = subprocess.run(
        [*argv, "--report", "-", "--requirement", str(ROOT / LOCK)], capture_output=True, text=True, check=False
    )
    assert resolved.returncode == 0, resolved.stderr
    assert f"_{MACHINES[arch]}.whl" in resolved.stdout
    other = next(machine for name, machine in MACHINES.items() if name != arch)
    assert f"_{other}.whl" not in resolved.stdout
