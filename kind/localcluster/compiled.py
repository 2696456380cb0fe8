"""The hot path as machine code: the service's own modules, compiled by mypyc to C and by a C compiler for one machine.

The source stays plain Python and runs as it is; compiled, it takes a third of the CPU time per request. The result
is a copy of the package with extension modules beside the sources, in a directory of its own: nothing is ever compiled
where it is edited.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from localcluster.cache import built_once, digest_of, files_below
from localcluster.paths import Checkout
from localcluster.steps import Step, StepLog, run_steps
from localcluster.wheels import interpreter

PACKAGE = Path("service/tenantry_service")
#: What is compiled: all that a request touches, but `proxy/shapes` and `policy`, whose annotations msgspec reads.
MODULES = (
    "errors",
    "ledger/event",
    "ledger/inserts",
    "ledger/journal",
    "ledger/sqlite",
    "ledger/sqlite_file",
    "ledger/sqlite_rows",
    "limits/answers",
    "limits/bounds",
    "limits/buckets",
    "limits/calls",
    "limits/connection",
    "limits/courier",
    "limits/decisions",
    "limits/limiter",
    "limits/memory",
    "limits/packed",
    "limits/redis",
    "limits/tenant",
    "limits/windows",
    "pricing",
    "proxy/accounts",
    "proxy/alike",
    "proxy/answers",
    "proxy/asked",
    "proxy/body",
    "proxy/breaker",
    "proxy/call",
    "proxy/chat_stream",
    "proxy/ending",
    "proxy/engine",
    "proxy/events",
    "proxy/exchange",
    "proxy/framing",
    "proxy/headers",
    "proxy/incoming",
    "proxy/kept",
    "proxy/known_head",
    "proxy/learned",
    "proxy/measured",
    "proxy/messages",
    "proxy/output",
    "proxy/patience",
    "proxy/pool",
    "proxy/protocol",
    "proxy/recalling",
    "proxy/receiving",
    "proxy/request_head",
    "proxy/routes",
    "proxy/rows",
    "proxy/sides",
    "proxy/snapshot",
    "proxy/sse",
    "proxy/states",
    "proxy/succession",
    "proxy/timed",
    "proxy/upload",
    "proxy/upstream",
    "proxy/usage",
    "served",
    "telemetry",
    "traces",
)

#: Makes C of Python: `python -c GENERATE TARGET MODULE...`, run where the package is. The one library holds all
#: modules, so that they call each other directly; beside it each gets a file that only points into it.
GENERATE = """
import sys
from mypyc.build import mypycify
mypycify(["--strict", "--explicit-package-bases", "--cache-dir", sys.argv[1] + "/cache", *sys.argv[2:]],
         group_name="tenantry_service", target_dir=sys.argv[1])
"""
#: Makes extension modules of C: `sh COMPILE SOURCES PACKAGE-PARENT`, with CC and CFLAGS from the environment.
COMPILE = Path("service/compile.sh")
REMEDY = "install a C compiler and Python's headers (Debian: apt-get install gcc libpython3-dev)"


def _inputs(checkout: Checkout) -> str:
    # The lock names mypy's version, and this file what is compiled.
    makers = [checkout.root / "requirements-dev.lock", checkout.root / COMPILE, Path(__file__)]
    return digest_of(files=[*files_below(checkout.root / PACKAGE), *makers], root=checkout.root)


def sources(checkout: Checkout, log: StepLog) -> Path:
    """Return a directory with C for any 64-bit machine and CPython of this minor version, and mypyc's headers."""

    def generate(into: Path) -> None:
        python = interpreter(checkout)
        modules = [f"tenantry_service/{module}.py" for module in MODULES]
        argv: list[str | Path] = [python, "-c", GENERATE, into, *modules]
        log.run(argv, cwd=(checkout.root / PACKAGE).parent, env={"MYPYPATH": "."}, timeout=300)
        shutil.rmtree(into / "cache", ignore_errors=True)
        runtime = log.output(
            [python, "-c", "import mypyc, pathlib; print(pathlib.Path(mypyc.__file__).parent)"]
        ).strip()
        shutil.copytree(Path(runtime) / "lib-rt", into / "lib-rt")

    place, fresh = built_once(checkout.cache, "compiled-c", _inputs(checkout), generate)
    log.note("generated" if fresh else "reused")
    return place


def ensure(checkout: Checkout, log: StepLog) -> Path:
    """Return the directory to put on PYTHONPATH: the package, compiled for this machine and this Python."""
    python = interpreter(checkout)
    told = log.output([python, "-c", "import sysconfig, sys; print(sysconfig.get_path('include'), sys.version)"])
    headers, _, version = told.strip().partition(" ")

    def build(into: Path) -> None:
        made = sources(checkout, log)
        shutil.copytree(
            checkout.root / PACKAGE, into / "tenantry_service", ignore=shutil.ignore_patterns("__pycache__")
        )
        flags = f"{os.environ.get('CFLAGS', '')} -I{headers}"
        argv: list[str | Path] = ["sh", checkout.root / COMPILE, made, into]
        log.run(argv, env={"CFLAGS": flags}, timeout=900, remedy=REMEDY)

    place, fresh = built_once(checkout.cache, "compiled", digest_of(_inputs(checkout), version), build)
    log.note("compiled" if fresh else "reused")
    return place


def main(argv: Sequence[str]) -> int:
    """`localcluster compiled`: compile for this machine and print the directory for PYTHONPATH."""
    argparse.ArgumentParser(prog="localcluster compiled", description=__doc__).parse_args(argv)
    checkout = Checkout.here()
    found: list[Path] = []
    run_steps([Step("compiled service", lambda log: found.append(ensure(checkout, log)))], checkout.log_dir)
    print(found[0])
    return 0
