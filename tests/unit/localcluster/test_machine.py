"""What the machine must have, and what is said when it has not."""

from pathlib import Path

import pytest
from localcluster.engine import refuse_without_means
from localcluster.machine import (
    V1_CONTROLLERS,
    Cgroups,
    Machine,
    architecture,
    cgroups,
    missing_capabilities,
    require_disk,
)
from localcluster.steps import Refusal
from localcluster.tools import go_version

DEBIAN = Machine("amd64", Cgroups.V2, frozenset(), root=True, distribution="debian", codename="bookworm")


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64")])
def test_both_architectures_are_known_by_every_name(machine: str, arch: str) -> None:
    assert architecture(machine) == arch


def test_another_architecture_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match="riscv64") as refused:
        architecture("riscv64")
    assert "tenantry serve" in refused.value.remedy


def test_capabilities_missing_from_the_bounding_set_are_found_up_to_the_kernels_last() -> None:
    assert missing_capabilities("CapBnd:\t000001fffeffffff\n", 40) == {24}
    assert missing_capabilities("CapBnd:\t000001ffffffffff\n", 40) == frozenset()


def test_cgroup_v1_with_all_hierarchies_is_accepted(tmp_path: Path) -> None:
    for name in V1_CONTROLLERS:
        (tmp_path / name).mkdir()
    assert cgroups(tmp_path) is Cgroups.V1


def test_cgroup_v2_with_all_controllers_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    assert cgroups(tmp_path) is Cgroups.V2


def test_missing_controllers_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    with pytest.raises(Refusal, match="cpuset, pids"):
        cgroups(tmp_path)


def test_too_little_disk_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="GiB are free") as refused:
        require_disk(tmp_path / "not" / "there", needed=2**60)
    assert "TENANTRY_STATE_DIR" in refused.value.remedy
    require_disk(tmp_path, needed=1)


@pytest.mark.parametrize(
    "machine",
    [
        Machine("amd64", Cgroups.V2, frozenset(), root=False, distribution="debian", codename="bookworm"),
        Machine("amd64", Cgroups.V2, frozenset(), root=True, distribution="fedora", codename=""),
    ],
)
def test_without_an_engine_or_the_means_to_make_one_all_three_remedies_are_named(machine: Machine) -> None:
    with pytest.raises(Refusal, match="no Docker engine answers") as refused:
        refuse_without_means(machine)
    for remedy in ("start Docker", "run as root on Debian or Ubuntu", "tenantry serve"):
        assert remedy in refused.value.remedy


@pytest.mark.parametrize(("text", "version"), [("go1.26.1", (1, 26)), ("go1.9", (1, 9)), ("devel", (0, 0))])
def test_gos_version_is_understood(text: str, version: tuple[int, int]) -> None:
    assert go_version(text) == version
