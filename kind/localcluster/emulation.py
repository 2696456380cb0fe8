"""A real aarch64 Python on a machine that is none: qemu's user-mode emulation over Debian's arm64 packages.

Only unpacked, never installed: nothing of the system changes, and no program of the other architecture runs but those
that a test starts. What runs is the same interpreter and the same wheels as in our arm64 images.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from localcluster import debian, engine, wheels
from localcluster.cache import built_once, digest_of
from localcluster.machine import Machine
from localcluster.paths import Checkout
from localcluster.steps import Refusal, StepLog

ARCH = "arm64"
QEMU = "qemu-aarch64-static"

#: As much of Python as the service uses; apt brings the libraries that it needs.
PACKAGES = ("python3-minimal", "libpython3-stdlib")


@dataclass(frozen=True)
class Emulated:
    """An interpreter of the other architecture, and our dependencies for it."""

    qemu: Path
    root: Path
    packages: Path

    def command(self, *arguments: str) -> list[str]:
        """The command that runs it."""
        return [str(self.qemu), "-L", str(self.root), str(self.root / "usr/bin/python3"), *arguments]


def ensure(checkout: Checkout, machine: Machine, log: StepLog) -> Emulated:
    """Return what is needed to run the service as aarch64 code, unpacked on first use.

    Raises `Refusal` where there are no packages of Debian or Ubuntu to be had.
    """
    if not (machine.root and machine.debian_like):
        raise Refusal(
            "the emulator and the arm64 packages come from Debian or Ubuntu, unpacked as root",
            "run this on such a machine, or natively on arm64",
        )
    return Emulated(_qemu(checkout, machine, log), _root(checkout, machine, log), _packages(checkout, log))


def _qemu(checkout: Checkout, machine: Machine, log: StepLog) -> Path:
    def build(into: Path) -> None:
        debian.unpack(("qemu-user-static",), into / "unpacked", log)
        shutil.copy2(into / "unpacked/usr/bin" / QEMU, into / QEMU)
        shutil.rmtree(into / "unpacked")

    return built_once(checkout.cache, "qemu", digest_of(machine.arch, machine.codename), build)[0] / QEMU


def _root(checkout: Checkout, machine: Machine, log: StepLog) -> Path:
    def build(into: Path) -> None:
        prefix = engine.prefix(checkout, machine, log)
        argv = ["mmdebstrap", "--variant=extract", f"--architectures={ARCH}", f"--include={','.join(PACKAGES)}"]
        # Else mmdebstrap wants to know that the machine can run arm64 programs, which nobody here starts.
        argv += ["--skip=check/qemu", '--aptopt=Acquire::Retries "3"', machine.codename, str(into / "root.tar"), "-"]
        entries = "\n".join(debian.sources(log)) + "\n"
        log.run(argv, env=debian.environment(prefix), input=entries, remedy=debian.REMEDY)
        (into / "root").mkdir()
        log.run(["tar", "--extract", "--file", into / "root.tar", "--directory", into / "root", "--exclude=./dev/*"])
        (into / "root.tar").unlink()

    return built_once(checkout.cache, "root-arm64", digest_of(*PACKAGES, machine.codename), build)[0] / "root"


def _packages(checkout: Checkout, log: StepLog) -> Path:
    found = wheels.ensure(checkout, "3.11", ARCH, log)

    def build(into: Path) -> None:
        argv: list[str | Path] = [wheels.interpreter(checkout), "-m", "pip", "--disable-pip-version-check", "install"]
        argv += ["--quiet", "--no-index", "--find-links", found, "--no-deps", "--no-compile"]
        argv += [*wheels.platform_options("3.11", ARCH), "--target", into, "--requirement", checkout.root / wheels.LOCK]
        log.run(argv)

    return built_once(checkout.cache, "packages-arm64", digest_of(found.name), build)[0]
