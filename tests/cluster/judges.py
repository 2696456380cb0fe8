"""Those who judge from outside whether a Tenant is as it should be: kstatus (Flux, Helm 4), Argo CD, kubectl wait; and
OpenCost, of what a tenant costs."""

import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from localcluster.cache import built_once, digest_of, files_below
from localcluster.paths import Checkout
from localcluster.tools import require_go
from lupa import lua51

from tests.cluster.kubectl import ROOT, Kubectl

PATCH = ROOT / "charts/tenantry/argocd/argocd-cm-patch.yaml"
HEALTH = "resource.customizations.health.tenantry.dev_Tenant"

#: What a script cannot use in Argo CD, which loads the base library only (useOpenLibs is false).
UNAVAILABLE = ("io", "os", "package", "require", "dofile", "loadfile", "debug", "string", "table", "math", "coroutine")


def kstatus(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    """The verdicts of the library itself: InProgress, Failed, Current, Terminating, NotFound or Unknown."""
    argv = [str(built("kstatus"))]
    done = subprocess.run(argv, input=json.dumps(objects), capture_output=True, text=True, check=True, timeout=60)
    verdicts: list[str] = json.loads(done.stdout)
    return verdicts


def opencost(url: str) -> dict[str, Any]:
    """What OpenCost's own types and arithmetic make of an allocation endpoint: ``sets``, ``rows`` and ``total``."""
    done = subprocess.run([str(built("opencost")), url], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def argocd(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Health and message by the check that we ship, in the Lua that Argo CD speaks (5.1)."""
    runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
    for name in UNAVAILABLE:
        runtime.globals()[name] = None
    runtime.globals()["obj"] = runtime.table_from(obj, recursive=True)
    verdict = runtime.execute(yaml.safe_load(PATCH.read_text())["data"][HEALTH])
    return str(verdict["status"]), str(verdict["message"])


def waits(kubectl: Kubectl, name: str) -> bool:
    """Whether `kubectl wait` would still wait for the Tenant to be Ready."""
    done = kubectl("wait", "--for=condition=Ready", f"tenant/{name}", "--timeout=0")
    assert done.returncode == 0 or "condition not met" in done.stderr, done.stderr
    return done.returncode != 0


@functools.cache
def built(program: str) -> Path:
    """One of the programs in Go that judge; where nothing is cached, this takes minutes."""
    module = Path(__file__).with_name(program)
    require_go()

    def build(into: Path) -> None:
        env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        argv = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(into / program), "."]
        subprocess.run(argv, cwd=module, env=env, check=True)

    place, _ = built_once(Checkout.here().cache, program, digest_of(files=files_below(module), root=module), build)
    return place / program
