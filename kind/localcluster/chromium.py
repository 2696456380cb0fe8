"""Chromium without installing it: from this machine, or Debian's package unpacked into the cache, with a font."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from localcluster.cache import built_once, digest_of
from localcluster.debian import environment, unpack
from localcluster.paths import Checkout
from localcluster.steps import StepLog

PACKAGES = ("chromium", "fonts-dejavu-core")

_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>{place}/usr/share/fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""


class Browser(NamedTuple):
    """The program, and the variables that it needs."""

    program: Path
    environment: Mapping[str, str]


def ensure(checkout: Checkout) -> Browser:
    """Find or unpack it. Raises StepFailed when there is none and none can be had."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return Browser(Path(found), {})
    log = StepLog(checkout.log_dir / "chromium.log")
    place, _ = built_once(
        checkout.cache, "chromium", digest_of(*PACKAGES), lambda into: unpack(list(PACKAGES), into, log)
    )
    fonts = place / "fonts.conf"
    fonts.write_text(_FONTS.format(place=place))
    known = environment(place)
    # Libraries that find each other by a path of their own (RUNPATH below /usr) when they are installed.
    private = sorted({str(path.parent) for path in place.glob("usr/lib/*/*/*.so")})
    libraries = os.pathsep.join([known["LD_LIBRARY_PATH"], *private])
    variables = {**known, "LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(fonts)}
    return Browser(place / "usr/lib/chromium/chromium", variables)
