"""The Go programs that the cluster is made with, built from the modules below kind/ and kept in the cache."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from localcluster.cache import built_once, digest_of, entry, files_below
from localcluster.machine import architecture
from localcluster.paths import Checkout
from localcluster.steps import Refusal, StepLog

#: Kubernetes of node image and bare control plane. Must equal the version of k8s.io/kubernetes in kind/node/go.mod.
KUBERNETES = "1.35.4"

#: The first Go that understands module toolchains and so can fetch the one that go.mod asks for.
MIN_GO = (1, 21)

GO_REMEDY = (
    "install Go 1.26 or newer (go.dev/doc/install) and put it on PATH; `tenantry serve` needs neither Go nor a cluster"
)

#: All programs are built alike, for they share what they compile. The linker drops the debugging data (-s -w); not to
#: make it in the first place saves a sixth of the compiler's time.
GO_BUILD = ("go", "build", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")


@dataclass(frozen=True)
class Program:
    """One program to build: its Go module (a folder below kind/), package, and linker flags."""

    name: str
    module: str
    package: str
    ldflags: str = ""


_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
PROGRAMS = {
    program.name: program
    for program in (
        Program("kind", "tools", "sigs.k8s.io/kind"),
        Program("helm", "tools", "helm.sh/helm/v3/cmd/helm", "-X helm.sh/helm/v3/internal/version.version=v3.22.0"),
        Program("kwok", "tools", "sigs.k8s.io/kwok/cmd/kwok"),
        Program(
            "kube",
            "node",
            "./cmd/kube",
            # Without the stamp, servers and clients call themselves v0.0.0 and kubeadm refuses them.
            f"-X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}",
        ),
        Program("coredns", "node", "./cmd/coredns"),
        Program("noderoutes", "node", "./cmd/noderoutes"),
        Program("pause", "node", "./cmd/pause"),
        Program("envoy-gateway", "tools", "github.com/envoyproxy/gateway/cmd/envoy-gateway"),
    )
}

#: The programs of our own node image.
NODE_PROGRAMS = ("kube", "coredns", "noderoutes", "pause")


def digest(checkout: Checkout, program: Program) -> str:
    """Return the digest of all that decides what the program's binary is, except the Go release."""
    module = checkout.root / "kind" / program.module
    sources = files_below(module / program.package) if program.package.startswith("./") else []
    return digest_of(
        program.package,
        program.ldflags,
        *(STAGES if program.name == "kwok" else ()),
        architecture(platform.machine()),
        files=[module / "go.mod", module / "go.sum", *sources],
        root=module,
    )


def place(checkout: Checkout, name: str) -> Path:
    """Return the path that the program has or will have."""
    return entry(checkout.cache, name, digest(checkout, PROGRAMS[name])) / name


def ensure(checkout: Checkout, name: str, log: StepLog | None = None) -> Path:
    """Return the program's path, and build it first if need be. Raises `Refusal` without a usable Go."""
    program = PROGRAMS[name]
    module = checkout.root / "kind" / program.module
    path = place(checkout, name)
    if path.exists():
        if log:
            log.note("reused")
        return path
    require_go()

    def build(into: Path) -> None:
        if name == "kwok":
            (into / "stages.yaml").write_text(_stages(module))
        argv = [*GO_BUILD, f"-ldflags=-s -w {program.ldflags}".strip(), "-o", str(into / name), program.package]
        env = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
        if log:
            log.run(argv, env=env, cwd=module)
        else:
            subprocess.run(argv, env={**os.environ, **env}, cwd=module, check=True)

    built_once(checkout.cache, name, digest(checkout, program), build)
    return path


def stages(checkout: Checkout) -> Path:
    """Return the file of KWOK's stages: what its nodes and pods do. Without it KWOK does nothing."""
    return ensure(checkout, "kwok").with_name("stages.yaml")


#: The stages that make nodes Ready, keep their leases, run and finish pods, and let deleted ones go.
STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)


def _stages(module: Path) -> str:
    # KWOK's module ships them, but does not link all of them in.
    argv = ["go", "mod", "download", "-json", "sigs.k8s.io/kwok"]
    told = subprocess.run(argv, cwd=module, check=True, capture_output=True, text=True).stdout
    directory = Path(json.loads(told)["Dir"]) / "kustomize/stage"
    return "\n---\n".join((directory / name).read_text() for name in STAGES)


def require_go() -> None:
    """Raise `Refusal` when there is no Go, or one that is too old to fetch the toolchain that go.mod names."""
    go = shutil.which("go")
    if go is None:
        raise Refusal("Go is needed to build the cluster's programs, and there is none on PATH", GO_REMEDY)
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    version = go_version(text)
    if version < MIN_GO:
        raise Refusal(f"Go {'.'.join(map(str, version))} is too old to build the cluster's programs", GO_REMEDY)


def go_version(text: str) -> tuple[int, int]:
    """Return major and minor of what `go env GOVERSION` prints ("go1.26.1"); (0, 0) when it prints something else."""
    match = re.match(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def kind(checkout: Checkout | None = None) -> Path:
    """Return the path of kind, built on demand."""
    return ensure(checkout or Checkout.here(), "kind")


def helm(checkout: Checkout | None = None) -> Path:
    """Return the path of the Helm CLI, built on demand."""
    return ensure(checkout or Checkout.here(), "helm")


def kwok(checkout: Checkout | None = None) -> Path:
    """Return the path of KWOK's controller, built on demand."""
    return ensure(checkout or Checkout.here(), "kwok")


def multicall(checkout: Checkout | None = None) -> Path:
    """Return the path of `kube`, the binary that is all Kubernetes programs (see kind/node/cmd/kube)."""
    return ensure(checkout or Checkout.here(), "kube")


def kubectl(checkout: Checkout | None = None) -> Path:
    """Return the path of kubectl: a link to `kube`, which goes by the name it is called by."""
    link = multicall(checkout).with_name("kubectl")
    if not link.is_symlink():
        link.symlink_to("kube")
    return link
