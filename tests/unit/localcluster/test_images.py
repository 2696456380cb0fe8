"""When images are built anew, where a kept archive is found, and what an image's tag stands for."""

from __future__ import annotations

from pathlib import Path

import pytest
from localcluster import baseimage, images, machine
from localcluster.engine import Engine
from localcluster.images import ALL, POSTGRES, REDIS, SIMULATOR, TENANTRY, Build, Image, references
from localcluster.machine import Cgroups, Machine
from localcluster.paths import Checkout
from localcluster.steps import Refusal, Step, StepLog

DEBIAN = Machine(
    arch="amd64",
    cgroups=Cgroups.V2,
    missing_capabilities=frozenset(),
    root=True,
    distribution="debian",
    codename="bookworm",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in which every input of every image exists, small."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM scratch\n")
    for image in ALL:
        for place in image.inputs:
            path = root / place
            if path.suffix in {".lock", ".toml"}:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("one\n")
            else:
                path.mkdir(parents=True, exist_ok=True)
                (path / "file").write_text("one\n")
    return Checkout(root=root, state=tmp_path / "state", cache=tmp_path / "cache")


def tags(checkout: Checkout, arch: str = "amd64", base: baseimage.Base | None = None) -> dict[str, str]:
    return references(checkout.root, base or baseimage.published(), arch, ALL)


def no_engine() -> Engine:
    raise AssertionError("the engine was asked")


def keep_archive(checkout: Checkout, base: baseimage.Base, kept: tuple[Image, ...] = ALL, size: int = 3) -> Path:
    named = references(checkout.root, base, "amd64", kept).values()
    archive = checkout.cache / f"images-{len(list(checkout.cache.glob('*')))}" / "images.tar"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"-" * size)
    archive.with_name("references").write_text("\n".join(named))
    return archive


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("operator/tenantry_operator/file", {TENANTRY.name}),
        ("charts/tenant/file", {TENANTRY.name}),
        ("operator/render-helper/file", {TENANTRY.name}),
        ("tests/simulator/tenantry_simulator/file", {SIMULATOR.name}),
        ("kind/datastores/file", {POSTGRES.name}),
        ("requirements.lock", {TENANTRY.name, SIMULATOR.name}),
        ("Dockerfile", {image.name for image in ALL}),
    ],
)
def test_a_changed_input_renames_the_images_that_hold_it_and_no_other(
    checkout: Checkout, place: str, changed: set[str]
) -> None:
    before = tags(checkout)
    (checkout.root / place).write_text("two\n")
    after = tags(checkout)
    assert {name for name in before if before[name] != after[name]} == changed


def test_what_does_not_go_into_an_image_does_not_rename_it(checkout: Checkout) -> None:
    before = tags(checkout)
    (checkout.root / "README.md").write_text("new\n")
    compiled = checkout.root / "cli/tenantry/__pycache__/file.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"\0")
    assert tags(checkout) == before


def test_architecture_and_base_are_part_of_the_tag(checkout: Checkout) -> None:
    amd64 = tags(checkout)
    assert not set(amd64.values()) & set(tags(checkout, arch="arm64").values())
    assert not set(amd64.values()) & set(tags(checkout, base=baseimage.local(DEBIAN)).values())


def test_tags_are_what_an_image_reference_allows(checkout: Checkout) -> None:
    for reference in tags(checkout).values():
        name, _, tag = reference.partition(":")
        assert name.startswith("tenantry")
        assert tag.startswith("dev-")
        assert len(tag) == len("dev-") + 12


@pytest.mark.parametrize("base", [baseimage.published(), baseimage.local(DEBIAN)])
def test_a_kept_archive_needs_neither_engine_nor_registry(
    checkout: Checkout, base: baseimage.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "look", lambda: DEBIAN)
    archive = keep_archive(checkout, base)
    build = Build(checkout, ALL, no_engine, "amd64")
    assert names(build.steps(())) == ["images"]
    assert build.built.archive == archive
    assert build.built.references == references(checkout.root, base, "amd64", ALL)


def test_the_smallest_archive_that_holds_all_wanted_images_is_used(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "look", lambda: DEBIAN)
    base = baseimage.published()
    keep_archive(checkout, base, ALL, size=9)
    smaller = keep_archive(checkout, base, (TENANTRY, SIMULATOR), size=5)
    keep_archive(checkout, base, (SIMULATOR,), size=1)
    assert Build(checkout, (TENANTRY, SIMULATOR), no_engine, "amd64").built.archive == smaller


def test_the_archive_of_former_inputs_is_not_used(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "look", lambda: DEBIAN)
    keep_archive(checkout, baseimage.published())
    (checkout.root / "cli/tenantry/file").write_text("two\n")
    build = Build(checkout, ALL, no_engine, "amd64")
    assert f"image {TENANTRY.name}" in names(build.steps(()))
    with pytest.raises(LookupError, match="not been built"):
        _ = build.built


def test_only_what_needs_the_engine_waits_for_it(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "look", lambda: DEBIAN)
    steps = {step.name: step for step in Build(checkout, ALL, no_engine, "amd64").steps(("docker engine",))}
    waiting = {"docker engine"}
    grown = True
    while grown:
        more = {name for name, step in steps.items() if waiting & set(step.after)} | waiting
        grown, waiting = more != waiting, more
    assert set(steps) - waiting == {"project wheel", "compiled sources", "chart renderer"}


def test_the_first_image_is_built_alone_so_that_the_others_find_its_stages(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "look", lambda: DEBIAN)
    steps = {step.name: step for step in Build(checkout, ALL, no_engine, "amd64").steps(())}
    for image in (SIMULATOR, REDIS, POSTGRES):
        assert steps[f"image {image.name}"].after == (f"image {TENANTRY.name}",)


def test_an_architecture_that_nobody_asked_for_is_refused_with_the_two_that_there_are() -> None:
    with pytest.raises(Refusal) as refused:
        images.main(["--platform", "linux/riscv64"])
    assert "linux/amd64 and linux/arm64" in refused.value.message


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    """An engine whose every command fails: no registry answers."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    return Engine(host="unix:///nowhere", cli=docker, own=True, path="/usr/bin:/bin")


def test_a_foreign_architecture_without_registry_is_refused_with_what_is_ready(
    checkout: Checkout, unreachable: Engine, tmp_path: Path
) -> None:
    with pytest.raises(Refusal) as refused:
        baseimage.ensure(checkout, DEBIAN, unreachable, "arm64", StepLog(tmp_path / "log"))
    assert "emulates" in refused.value.message
    assert "an arm64 machine" in refused.value.remedy


def test_a_base_cannot_be_made_without_debian_packages_or_a_registry(
    checkout: Checkout, unreachable: Engine, tmp_path: Path
) -> None:
    fedora = Machine(DEBIAN.arch, DEBIAN.cgroups, frozenset(), root=True, distribution="fedora", codename="")
    with pytest.raises(Refusal) as refused:
        baseimage.ensure(checkout, fedora, unreachable, "amd64", StepLog(tmp_path / "log"))
    assert baseimage.PUBLISHED in refused.value.remedy


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("Package: python3\nVersion: 3.11.2-1+b1\nPriority: optional\n", "3.11"),
        ("Package: python3\nVersion: 1:3.13.5-1\n", "3.13"),
    ],
)
def test_the_wheels_are_those_of_the_distributions_python(shown: str, version: str) -> None:
    assert baseimage.version_of(shown) == version


def test_an_apt_that_knows_no_python_is_said_to_need_an_update() -> None:
    with pytest.raises(Refusal, match="python3"):
        baseimage.version_of("")
