"""The compiled service, which is what the image holds, behaves as its source does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from localcluster import compiled
from localcluster.paths import Checkout
from localcluster.steps import StepLog

ROOT = Path(__file__).resolve().parents[2]

#: Ends with an error unless every module of the list is machine code.
ARE_COMPILED = """
import importlib, sys
for name in sys.argv[1:]:
    module = importlib.import_module("tenantry_service." + name.replace("/", "."))
    assert module.__file__.endswith(".so"), module.__file__
"""


@pytest.mark.timeout(3000)
def test_the_tests_of_the_service_pass_on_its_compiled_build(tmp_path: Path) -> None:
    place = compiled.ensure(Checkout.here(), StepLog(tmp_path / "compile.log"))
    env = {**os.environ, "PYTHONPATH": str(place)}
    subprocess.run([sys.executable, "-c", ARE_COMPILED, *compiled.MODULES], env=env, check=True)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300"]
    on_sockets = [f"tests/component/service/test_{name}.py" for name in ("wire", "endpoints", "freed")]
    argv += ["tests/unit/service", *on_sockets]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
