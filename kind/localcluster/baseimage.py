"""What our images stand on: the published Python image or, where no registry answers, the same packages from Debian."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from localcluster import debian, engine, nodeimage
from localcluster.cache import built_once, digest_of
from localcluster.machine import Machine
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, Refusal, StepLog

#: The Dockerfile's own default.
PUBLISHED = "docker.io/library/python:3.11-slim-bookworm"

#: As much of the published image as ours use. apt is for the images of the development datastores.
PACKAGES = ("python3", "python3-venv", "ca-certificates", "apt")

#: Seconds for the pull of another architecture's image, 45 MB.
PULL_TIMEOUT = 180.0


@dataclass(frozen=True)
class Base:
    """A base image. `name` goes into FROM and into the digests of what is built on it."""

    name: str
    published: bool


def published() -> Base:
    return Base(PUBLISHED, published=True)


def local(machine: Machine) -> Base:
    """Return the base that is made from the packages of this machine's own distribution."""
    return Base(f"tenantry-base:{digest_of('base 2', *PACKAGES, machine.codename, machine.arch)}", published=False)


def ensure(checkout: Checkout, machine: Machine, docker: engine.Engine, arch: str, log: StepLog) -> Base:
    """Return a base for that architecture that the engine has, pulled or made.

    Raises `Refusal` when no registry answers and the packages of this machine cannot make one.
    """
    if _pulled(docker, machine, arch, log):
        log.note("published image")
        return published()
    if arch != machine.arch:
        raise Refusal(
            f"no registry answers, and a base image for {arch} cannot be made on {machine.arch}: "
            "installing its packages means running its programs, and nothing here emulates them",
            f"run this where docker.io can be reached, or on an {arch} machine; "
            f"the wheels and {'/'.join(('dist', 'bin', f'linux-{arch}'))} are ready",
        )
    if not (machine.root and machine.debian_like):
        raise Refusal(
            f"{PUBLISHED} cannot be pulled, and only root on Debian or Ubuntu can make a base image from packages",
            f"see that `docker pull {PUBLISHED}` works",
        )
    base = local(machine)
    if present(docker, base.name, log):
        log.note("made before")
        return base
    tree = _tree(checkout, machine, base, log)
    log.run([*docker.docker, "import", "--platform", f"linux/{arch}", tree, base.name], env=docker.env)
    return base


def present(docker: engine.Engine, image: str, log: StepLog) -> bool:
    """Tell whether the engine has the image."""
    argv = [*docker.docker, "image", "inspect", "--format", "{{.Id}}", image]
    return log.run(argv, env=docker.env, check=False) == 0


def python_version(base: Base, log: StepLog) -> str:
    """Return the Python of a base ("3.11"), for which wheels are chosen."""
    if base.published:
        return "3.11"
    return version_of(log.output(["apt-cache", "show", "--no-all-versions", "python3"]))


def version_of(shown: str) -> str:
    """Return major and minor from what `apt-cache show python3` prints."""
    match = re.search(r"^Version: (?:\d+:)?(\d+\.\d+)", shown, re.MULTILINE)
    if match is None:
        raise Refusal("apt does not know the package python3", "see that `apt-get update` works on this machine")
    return match[1]


def _pulled(docker: engine.Engine, machine: Machine, arch: str, log: StepLog) -> bool:
    if arch == machine.arch:
        return nodeimage.pull(docker, log, PUBLISHED)
    # What the engine has under that name is its own architecture's.
    argv = [*docker.docker, "pull", "--quiet", "--platform", f"linux/{arch}", PUBLISHED]
    try:
        return log.run(argv, env=docker.env, check=False, timeout=PULL_TIMEOUT) == 0
    except ProgramFailed as slow:
        log.say(str(slow))
        return False


def _tree(checkout: Checkout, machine: Machine, base: Base, log: StepLog) -> Path:
    def build(into: Path) -> None:
        prefix = engine.prefix(checkout, machine, log)
        debian.root_tree(machine.codename, PACKAGES, into / "base.tar", (), prefix, log)

    place, fresh = built_once(checkout.cache, "base", base.name.partition(":")[2], build)
    log.note("made from packages" if fresh else "from packages, reused")
    return place / "base.tar"
