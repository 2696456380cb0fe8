"""`tenantry-render`, the chart renderer that the operator starts: built on this machine, for any architecture."""

from __future__ import annotations

import argparse
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from localcluster.cache import built_once, digest_of, files_below
from localcluster.machine import architecture
from localcluster.paths import Checkout
from localcluster.steps import Step, StepLog, run_steps
from localcluster.tools import GO_BUILD, require_go

NAME = "tenantry-render"
MODULE = Path("operator/render-helper")


def ensure(checkout: Checkout, arch: str, log: StepLog) -> Path:
    """Return dist/bin/linux-<arch>/tenantry-render, built when its sources have changed.

    The binary is linked statically, so that it runs on any base image. Raises `Refusal` without a usable Go.
    """
    module = checkout.root / MODULE
    require_go()

    def build(into: Path) -> None:
        env = {"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": arch, "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
        argv = [*GO_BUILD, "-ldflags=-s -w", "-o", str(into / NAME), "."]
        log.run(argv, env=env, cwd=module)

    digest = digest_of(arch, files=files_below(module), root=module)
    built, fresh = built_once(checkout.cache, NAME, digest, build)
    place = checkout.root / "dist" / "bin" / f"linux-{arch}" / NAME
    if fresh or not place.exists() or place.read_bytes() != (built / NAME).read_bytes():
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(".partial")
        shutil.copy2(built / NAME, partial)
        partial.replace(place)  # an operator that runs from here keeps its file
    if not fresh:
        log.note("reused")
    return place


def main(argv: Sequence[str]) -> int:
    """`localcluster render-helper`: build it for this machine, or for --arch."""
    parser = argparse.ArgumentParser(prog="localcluster render-helper", description=__doc__)
    parser.add_argument("--arch", choices=("amd64", "arm64"), default=architecture(platform.machine()))
    arch = parser.parse_args(argv).arch
    checkout = Checkout.here()
    run_steps([Step("chart renderer", lambda log: _build(checkout, arch, log))], checkout.log_dir)
    return 0


def _build(checkout: Checkout, arch: str, log: StepLog) -> None:
    ensure(checkout, arch, log)
