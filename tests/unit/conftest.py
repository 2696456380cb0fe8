"""Programs that unit tests of the charts call: Helm, and the operator's chart renderer. Built once, then reused."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from localcluster import tools
from localcluster.machine import architecture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def helm() -> Path:
    """The Helm CLI."""
    return tools.helm()


@pytest.fixture(scope="session")
def render_helper() -> Path:
    """The chart renderer, as `make render-helper` builds it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "kind")}
    subprocess.run([sys.executable, "-m", "localcluster", "render-helper"], cwd=ROOT, env=environment, check=True)
    return ROOT / "dist" / "bin" / f"linux-{architecture(platform.machine())}" / "tenantry-render"
