"""promtool: from this machine, or Debian's package `prometheus`, unpacked into the cache without what it depends on.

It is a static program; the package's own needs are those of the server, which nothing here runs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from localcluster.cache import built_once, digest_of
from localcluster.debian import APT_OPTIONS, REMEDY, refresh_lists
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, StepLog

PACKAGE = "prometheus"


def ensure(checkout: Checkout) -> Path:
    """Return the path of promtool. Raises StepFailed when there is none and none can be had."""
    found = shutil.which("promtool")
    if found is not None:
        return Path(found)
    log = StepLog(checkout.log_dir / "promtool.log")
    place, _ = built_once(checkout.cache, "promtool", digest_of(PACKAGE), lambda into: _unpack(into, log))
    return place / "promtool"


def _unpack(into: Path, log: StepLog) -> None:
    argv = ["apt-get", *APT_OPTIONS, "-o", "APT::Sandbox::User=root", "download", PACKAGE]
    try:
        log.run(argv, cwd=into, timeout=300)
    except ProgramFailed:
        refresh_lists(log)
        log.run(argv, cwd=into, timeout=300, remedy=REMEDY)
    (package,) = into.glob("*.deb")
    log.run(["dpkg-deb", "--extract", package, into / "root"])
    shutil.move(into / "root/usr/bin/promtool", into / "promtool")
    shutil.rmtree(into / "root")
    package.unlink()
