"""Our images: built by the engine when their inputs have changed, and kept as one archive.

An image's tag is the digest of all that decides its content, so that a tag which exists needs no building, and nodes
never run something else under the same name. The archive outlives engine and cluster: bringing a cluster up again needs
no build at all.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import baseimage, compiled, engine, machine, renderhelper, wheels
from localcluster.baseimage import Base
from localcluster.cache import built_once, digest_of, files_below, remove_tree
from localcluster.engine import Engine
from localcluster.paths import Checkout
from localcluster.steps import Refusal, Step, StepLog, run_steps

#: What the cache calls archives, and the files of one: the images, and the list of their references.
KIND = "images"
ARCHIVE = "images.tar"
HELD = "references"

#: Archives that are kept. Each change of the code makes another of some 200 MB; two checkouts have one or two each.
KEEP = 4


@dataclass(frozen=True)
class Image:
    """One target of the Dockerfile and the files, below the checkout, that decide what is in it."""

    name: str
    target: str
    inputs: tuple[str, ...]


TENANTRY = Image(
    "tenantry",
    "tenantry",
    (
        "requirements.lock",
        "pyproject.toml",
        "operator/tenantry_operator",
        "operator/render-helper",
        "service/tenantry_service",
        "service/compile.sh",
        "kind/localcluster/compiled.py",
        "requirements-dev.lock",
        "cli/tenantry",
        "cli/tenantry_cost",
        "cli/tenantry_advise",
        "cli/tenantry_kubectl",
        "cli/tenantry_meter",
        "cli/tenantry_showback",
        "charts/tenant",
    ),
)
SIMULATOR = Image("tenantry-simulator", "simulator", ("requirements.lock", "tests/simulator/tenantry_simulator"))
REDIS = Image("tenantry-dev-redis", "dev-redis", ())
POSTGRES = Image("tenantry-dev-postgres", "dev-postgres", ("kind/datastores",))
ALL = (TENANTRY, SIMULATOR, REDIS, POSTGRES)


@dataclass(frozen=True)
class Built:
    """Images that are there: name -> reference, and the archive (of `docker save`) that holds them."""

    references: Mapping[str, str]
    archive: Path


def references(root: Path, base: Base, arch: str, images: Sequence[Image]) -> dict[str, str]:
    """Return name -> reference with the digest of the image's inputs as its tag."""
    found = {}
    for image in images:
        files = [root / "Dockerfile"]
        for place in image.inputs:
            path = root / place
            files += files_below(path) if path.is_dir() else [path]
        found[image.name] = f"{image.name}:dev-{digest_of(base.name, arch, image.target, files=files, root=root)[:12]}"
    return found


def cached(checkout: Checkout, arch: str, images: Sequence[Image]) -> Built | None:
    """Return the images when an archive holds them, on whichever base; asks neither engine nor registry.

    The smallest that will do: one that holds more images takes longer to load.
    """
    for base in (baseimage.published(), baseimage.local(machine.look())):
        named = references(checkout.root, base, arch, images)
        archives = [archive for archive in _archives(checkout) if set(named.values()) <= _held(archive)]
        if archives:
            best = min(archives, key=lambda archive: archive.stat().st_size)
            os.utime(best.parent)  # used, so that it stays in the cache
            return Built(named, best)
    return None


class Build:
    """The steps that make images, and what has come of them once the steps have run."""

    def __init__(
        self, checkout: Checkout, images: Sequence[Image], docker: Callable[[], Engine], arch: str | None = None
    ) -> None:
        self._checkout = checkout
        self._images = images
        self._docker = docker
        self._arch = arch or machine.architecture(platform.machine())
        self._base: Base | None = None
        self._named: dict[str, str] = {}
        self._built = cached(checkout, self._arch, images)

    @property
    def built(self) -> Built:
        """The result. Raises `LookupError` before the steps have run."""
        if self._built is None:
            raise LookupError("the images have not been built yet")
        return self._built

    def steps(self, after: tuple[str, ...]) -> list[Step]:
        """Return the steps, of which those that need the engine begin after the named ones; the last is "images".

        One step when the archive is there.
        """
        if self._built is not None:
            return [Step("images", lambda log: log.note("reused"))]
        steps = [
            Step("base image", self._find_base, after),
            Step("python wheels", self._wheels, ("base image",)),
            Step("project wheel", self._project_wheel),
            Step("compiled sources", self._compiled_sources),
            Step("chart renderer", self._renderer),
        ]
        before: tuple[str, ...] = ("python wheels", "project wheel", "compiled sources", "chart renderer")
        for image in self._images:
            steps.append(Step(f"image {image.name}", self._builder(image), before))
            # The classic builder makes every stage above its target, so the first build is the others' cache.
            before = (f"image {self._images[0].name}",)
        return [*steps, Step("images", self._save, tuple(f"image {image.name}" for image in self._images))]

    @property
    def _context(self) -> Path:
        return self._checkout.root / "dist" / "image" / self._arch

    def _find_base(self, log: StepLog) -> None:
        self._base = baseimage.ensure(self._checkout, machine.look(), self._docker(), self._arch, log)
        # Once: somebody may go on editing while we build.
        self._named = references(self._checkout.root, self._base, self._arch, self._images)

    def _wheels(self, log: StepLog) -> None:
        assert self._base is not None
        python = baseimage.python_version(self._base, log)
        _replace(self._context / "wheels", wheels.ensure(self._checkout, python, self._arch, log))

    def _project_wheel(self, log: StepLog) -> None:
        place = _emptied(self._context / "package")
        wheels.project_wheel(self._checkout, place, log)

    def _compiled_sources(self, log: StepLog) -> None:
        _replace(self._context / "compiled", compiled.sources(self._checkout, log))

    def _renderer(self, log: StepLog) -> None:
        binary = renderhelper.ensure(self._checkout, self._arch, log)
        self._context.mkdir(parents=True, exist_ok=True)
        shutil.copy2(binary, self._context / renderhelper.NAME)

    def _builder(self, image: Image) -> Callable[[StepLog], None]:
        def build(log: StepLog) -> None:
            docker = self._docker()
            reference = self._named[image.name]
            if baseimage.present(docker, reference, log):
                log.note("reused")
                return
            assert self._base is not None
            here = machine.architecture(platform.machine())
            argv = [*docker.docker, "build", *docker.build_options, "--target", image.target, "--tag", reference]
            if self._arch != here:
                argv += ["--platform", f"linux/{self._arch}"]
            for name, value in (("BASE", self._base.name), ("NATIVE", f"linux/{here}"), ("TARGETARCH", self._arch)):
                argv += ["--build-arg", f"{name}={value}"]
            log.run([*argv, "."], env=docker.env, cwd=self._checkout.root)

        return build

    def _save(self, log: StepLog) -> None:
        named = self._named
        docker = self._docker()

        def save(into: Path) -> None:
            log.run([*docker.docker, "save", "--output", into / ARCHIVE, *named.values()], env=docker.env)
            (into / HELD).write_text("".join(f"{reference}\n" for reference in named.values()))

        place, _ = built_once(self._checkout.cache, KIND, digest_of(*sorted(named.values())), save)
        self._built = Built(named, place / ARCHIVE)
        for old in sorted(_archives(self._checkout), key=lambda archive: archive.parent.stat().st_mtime)[:-KEEP]:
            remove_tree(old.parent)
        log.note(f"{self._built.archive.stat().st_size / 2**20:.0f} MiB")


def main(argv: Sequence[str]) -> int:
    """`localcluster images`: build all images, for this machine or for another architecture."""
    here = machine.architecture(platform.machine())
    parser = argparse.ArgumentParser(prog="localcluster images", description=__doc__)
    parser.add_argument("--platform", default=f"linux/{here}", help="linux/amd64 or linux/arm64 (default: %(default)s)")
    arch = _arch(parser.parse_args(argv).platform)
    checkout = Checkout.here()
    if arch != here:
        _prepare_other(checkout, arch)
    found: list[Engine] = []
    # Installing the datastores' packages runs their programs, which for another architecture needs emulation.
    build = Build(checkout, ALL if arch == here else (TENANTRY, SIMULATOR), lambda: found[0], arch)
    begin = [Step("docker engine", lambda log: found.append(engine.ensure(checkout, log)))]
    restore = Step(
        "images in the engine", lambda log: _restore(build.built, found[0], log), ("images", "docker engine")
    )
    run_steps([*begin, *build.steps(("docker engine",)), restore], checkout.log_dir)
    for reference in build.built.references.values():
        print(reference)
    print(f"archive: {build.built.archive}")
    return 0


def _prepare_other(checkout: Checkout, arch: str) -> None:
    """Show what does not need a base image first: every wheel resolves, and the chart renderer builds."""

    def resolve(log: StepLog) -> None:
        wheels.ensure(checkout, "3.11", arch, log)

    def render_helper(log: StepLog) -> None:
        renderhelper.ensure(checkout, arch, log)

    steps = [Step(f"python wheels for {arch}", resolve), Step(f"chart renderer for {arch}", render_helper)]
    run_steps(steps, checkout.log_dir)


def _restore(built: Built, docker: Engine, log: StepLog) -> None:
    """Give an engine that has been made anew the images of the archive."""
    if all(baseimage.present(docker, reference, log) for reference in built.references.values()):
        log.note("all there")
        return
    log.run([*docker.docker, "load", "--input", built.archive], env=docker.env)


def _arch(wanted: str) -> str:
    system, _, arch = wanted.partition("/")
    if system != "linux" or arch not in wheels.MACHINES:
        raise Refusal(f"images are made for linux/amd64 and linux/arm64, not for {wanted}", "choose one of the two")
    return arch


def _archives(checkout: Checkout) -> list[Path]:
    """Return the archives that are there and whole."""
    return [held.with_name(ARCHIVE) for held in checkout.cache.glob(f"{KIND}-*/{HELD}") if ".partial" not in str(held)]


def _held(archive: Path) -> set[str]:
    """Return the references of the images in an archive; none when another checkout has just dropped it."""
    try:
        return set(archive.with_name(HELD).read_text().split())
    except FileNotFoundError:
        return set()


def _emptied(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def _replace(place: Path, source: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
