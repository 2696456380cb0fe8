"""The node image: the published one where it can be pulled, else one of our own made of Debian and our Go programs."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

from localcluster import debian, engine, tools
from localcluster.archive import Image, LayerWriter, write_archive
from localcluster.cache import built_once, digest_of, entry, files_below
from localcluster.engine import Engine
from localcluster.machine import Machine
from localcluster.paths import Checkout
from localcluster.steps import Refusal, StepLog

#: The published image, of the same minor version as ours: the one for 1.35 that the release notes of kind v0.33.0 name.
#: Tags move between builds for different releases of kind, hence the digest. It changes together with kind's version.
PUBLISHED = "kindest/node:v1.35.8@sha256:07b2536e30b803ed61d1677a79df6115f798ce64c80f9e22f6ed45afd09323c0"

#: Seconds within which a registry that can be reached has told the image's layers.
PULL_PROBE = 10.0

#: What a node needs of the distribution; all else on it is ours.
PACKAGES = (
    "systemd-sysv",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "iproute2",
    "conntrack",
    "ethtool",
    "kmod",
    "mount",
    "procps",
    "util-linux",
    "ca-certificates",
)

#: The Kubernetes programs that run in containers, each an image of this name.
IN_CONTAINERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd")

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROUTES_IMAGE = "tenantry.dev/kind/node-routes:v1"


def digest(checkout: Checkout, machine: Machine) -> str:
    """Return the digest of all that our node image is made of."""
    node = checkout.root / "kind/node"
    programs = [tools.digest(checkout, tools.PROGRAMS[name]) for name in tools.NODE_PROGRAMS]
    return digest_of(
        *PACKAGES,
        *programs,
        machine.arch,
        machine.codename,
        files=[
            node / "customize",
            *files_below(node / "files"),
            Path(__file__),
            Path(__file__).with_name("archive.py"),
        ],
        root=checkout.root,
    )


def own_ref(checkout: Checkout, machine: Machine) -> str:
    """Return the name of our own node image."""
    return f"tenantry.dev/kind/node:v{tools.KUBERNETES}-{digest(checkout, machine)}"


def own_archive(checkout: Checkout, machine: Machine) -> Path:
    """Return where the archive of our own node image is or will be."""
    return entry(checkout.cache, "node-image", digest(checkout, machine)) / "node.tar"


def pull(docker: Engine, log: StepLog, ref: str = PUBLISHED) -> bool:
    """Pull the image unless it is there; return `False` when the registry tells nothing within PULL_PROBE seconds."""
    if log.run([*docker.docker, "image", "inspect", ref], env=docker.env, check=False) == 0:
        return True
    log.say(f"$ docker pull {ref}")
    with subprocess.Popen(
        [*docker.docker, "pull", ref],
        env={**os.environ, **docker.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        probe = _Watchdog(process, PULL_PROBE)
        for line in process.stdout:
            log.say(line.rstrip())
            if "fs layer" in line or "Already exists" in line:
                probe.content()
        status = process.wait()
    return status == 0


class _Watchdog:
    """Ends a process unless told in time that it makes progress."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._timer = threading.Timer(seconds, process.terminate)
        self._timer.daemon = True
        self._timer.start()

    def content(self) -> None:
        self._timer.cancel()


def load(checkout: Checkout, machine: Machine, docker: Engine, log: StepLog) -> str:
    """Load our own node image into the engine unless it is there, and return its name."""
    ref = own_ref(checkout, machine)
    if log.run([*docker.docker, "image", "inspect", ref], env=docker.env, check=False) == 0:
        log.note("there already")
        return ref
    began = time.monotonic()
    log.run([*docker.docker, "load", "--input", own_archive(checkout, machine)], env=docker.env)
    log.note(f"docker load took {time.monotonic() - began:.1f} s")
    return ref


def base_tree(checkout: Checkout, machine: Machine, log: StepLog) -> Path:
    """Return the directory with the distribution's part (base.tar, iptables.tar), built on first use."""
    if not (machine.root and machine.debian_like):
        raise Refusal(
            "the published node image cannot be pulled, and only root on Debian or Ubuntu can build one",
            f"let the engine reach Docker Hub ({PUBLISHED}), or name a node image that it has: --node-image",
        )
    node = checkout.root / "kind/node"

    def build(into: Path) -> None:
        prefix = engine.prefix(checkout, machine, log)
        hooks = [f'{node / "customize"} "$1"', f'mv "$1/kind/iptables.tar" {into / "iptables.tar"}']
        debian.root_tree(machine.codename, PACKAGES, into / "base.tar", hooks, prefix, log)

    key = digest_of(*PACKAGES, machine.arch, machine.codename, files=[node / "customize"])
    place, built = built_once(checkout.cache, "node-base", key, build)
    log.note(f"{(place / 'base.tar').stat().st_size >> 20} MiB" if built else "reused")
    return place


def assemble(checkout: Checkout, machine: Machine, log: StepLog) -> Path:
    """Return our own node image's archive, put together on first use from the base tree and the programs."""

    def build(into: Path) -> None:
        base = base_tree(checkout, machine, log)
        programs = {name: tools.ensure(checkout, name) for name in tools.NODE_PROGRAMS}
        images = [line for line in _kubeadm_images(programs["kube"], log) if line]
        pause = next(name for name in images if "/pause:" in name)

        inner = LayerWriter(into / "kubernetes.tar")
        inner.archive(base / "iptables.tar")
        for name in ("iptables", "ip6tables"):
            for tail in ("", "-save", "-restore"):
                inner.link(f"usr/sbin/{name}{tail}", "xtables-nft-multi")
        for name, path in programs.items():
            inner.file(f"usr/local/bin/{name}", path, 0o755)
        for name in IN_CONTAINERS:
            inner.link(f"usr/local/bin/{name}", "kube")
        inner.directory("tmp", 0o1777)
        inner.directory("run")
        inner.close()
        layers = (into / "kubernetes.tar",)
        contents = [
            Image(name, layers, {"Env": [f"PATH={PATH}"], "Entrypoint": _entrypoint(name)})
            for name in [*images, ROUTES_IMAGE]
        ]
        write_archive(into / "images.tar", contents, machine.arch)

        outer = LayerWriter(into / "node-layer.tar")
        outer.tree(checkout.root / "kind/node/files", {"@PAUSE_IMAGE@": pause})
        outer.file("kind/version", f"v{tools.KUBERNETES}".encode())
        outer.file("kind/images.tar", into / "images.tar")
        outer.file("usr/bin/kube", programs["kube"], 0o755)
        for name in ("kubeadm", "kubelet", "kubectl"):
            outer.link(f"usr/bin/{name}", "kube")
        outer.close()
        node = Image(
            own_ref(checkout, machine),
            (base / "base.tar", into / "node-layer.tar"),
            {
                "Env": [f"PATH={PATH}", "container=docker", "KUBECONFIG=/etc/kubernetes/admin.conf"],
                "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
                "StopSignal": "SIGRTMIN+3",
            },
        )
        write_archive(into / "node.tar", [node], machine.arch)
        for part in ("kubernetes.tar", "images.tar", "node-layer.tar"):
            (into / part).unlink()

    place, built = built_once(checkout.cache, "node-image", digest(checkout, machine), build)
    archive = place / "node.tar"
    log.note(f"{archive.stat().st_size >> 20} MiB" if built else "reused")
    return archive


def _entrypoint(name: str) -> list[str]:
    program = name.rpartition("/")[2].partition(":")[0]
    # kubeadm's manifests name the program themselves, except for these.
    return {"coredns": ["coredns"], "pause": ["pause"], "node-routes": ["noderoutes"]}.get(program, [])


def _kubeadm_images(kube: Path, log: StepLog) -> list[str]:
    argv: list[str | Path] = [
        kube,
        "kubeadm",
        "config",
        "images",
        "list",
        "--kubernetes-version",
        f"v{tools.KUBERNETES}",
    ]
    return log.output(argv).splitlines()
