"""kubectl against the control plane of these tests, and objects of our charts to give to it."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from localcluster import tools

ROOT = Path(__file__).resolve().parents[2]

#: Run with these arguments and, as its input, this manifest; the caller looks at the result.
Kubectl = Callable[..., subprocess.CompletedProcess[str]]

#: Seconds until controllers must have done something. The HPA's looks every 15 s; the machine may be busy.
PATIENCE = 90.0


def kubectl_for(kubeconfig: Path) -> Kubectl:
    """Return kubectl for this cluster."""
    program = [str(tools.kubectl()), "--kubeconfig", str(kubeconfig)]

    def run(*arguments: str, manifest: object = None) -> subprocess.CompletedProcess[str]:
        text = None if manifest is None else json.dumps(manifest)
        return subprocess.run(
            [*program, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def rendered(
    chart: str, *show_only: str, namespace: str = "tenantry-system", values: Mapping[str, object] | None = None
) -> list[dict[str, object]]:
    """Return what these templates of one of our charts make of the values."""
    argv = [str(tools.helm()), "template", "release", str(ROOT / "charts" / chart), "--kube-version", "1.35.0"]
    argv += ["--namespace", namespace, "--values", "-"]
    source = json.dumps(values or {})
    everything = [*argv, *(part for name in show_only for part in ("--show-only", f"templates/{name}.yaml"))]
    done = subprocess.run(everything, input=source, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def eventually(what: str, holds: Callable[[], object], *, patience: float = PATIENCE) -> None:
    """Wait until it holds. ``patience``: seconds."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)
