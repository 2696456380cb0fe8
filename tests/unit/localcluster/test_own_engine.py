"""An engine of our own shares no place with another one, and what it leaves is found by marks only it carries."""

import ipaddress
import os
from dataclasses import replace
from pathlib import Path

import pytest
from localcluster import __main__ as command_line
from localcluster import cluster
from localcluster.debian import source_lines
from localcluster.engine import Places, daemon_arguments
from localcluster.leftovers import cgroup_dirs, mounts_below, processes_with, shim_socket
from localcluster.machine import Cgroups, Machine
from localcluster.paths import SOCKET_PATH_LIMIT, Checkout
from localcluster.steps import Refusal

MACHINE = Machine("amd64", Cgroups.V1, frozenset({24}), root=True, distribution="debian", codename="bookworm")
NET = ipaddress.IPv4Network("10.200.8.0/21")


def checkout(root: Path) -> Checkout:
    return Checkout(root=root, state=root / ".state", cache=root / "cache")


def test_every_path_of_the_engine_is_below_the_checkouts_state(tmp_path: Path) -> None:
    places = Places.of(checkout(Path("/src/one")))
    argv = daemon_arguments(places, MACHINE, NET, tmp_path / "runtime")
    for option in ("--data-root", "--exec-root", "--pidfile", "--config-file"):
        assert argv[argv.index(option) + 1].startswith("/src/one/.state/engine/")
    assert argv[argv.index("--host") + 1] == "unix:///src/one/.state/engine/run/docker.sock"
    assert "--iptables=false" in argv
    assert argv[argv.index("--bridge") + 1] == "none"
    assert argv[argv.index("--default-runtime") + 1] == "filtered"


def test_the_filter_is_left_out_where_nothing_is_missing() -> None:
    argv = daemon_arguments(Places.of(checkout(Path("/src/one"))), MACHINE, NET, None)
    assert "--default-runtime" not in argv


def test_two_checkouts_share_no_name() -> None:
    one, two = (Places.of(checkout(Path(f"/src/{name}"))) for name in ("one", "two"))
    assert not {one.top, one.run, one.cgroup, one.bridge} & {two.top, two.run, two.cgroup, two.bridge}
    assert len(one.bridge) <= 15, "IFNAMSIZ"


def test_a_deep_checkout_keeps_its_sockets_in_run() -> None:
    deep = checkout(Path("/home/somebody") / ("long" * 30))
    assert deep.runtime_dir().parent == Path("/run")
    assert deep.id in deep.runtime_dir().name
    assert len(str(deep.runtime_dir() / "exec/containerd/containerd.sock.ttrpc")) < SOCKET_PATH_LIMIT


def test_the_state_directory_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENANTRY_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    here = Checkout.here()
    assert here.state == tmp_path
    assert here.cache == Path("/somewhere/tenantry")
    assert here.id != replace(here, state=here.root / ".state").id


def test_processes_are_found_by_our_paths_not_by_their_names() -> None:
    running = {
        1: ["/sbin/init"],
        7: ["dockerd", "--exec-root", "/src/one/.state/engine/run/exec"],
        8: ["dockerd", "--exec-root", "/var/run/docker"],
        9: ["dockerd", "--exec-root", "/src/one/.state/engine/runner/exec"],
    }
    assert processes_with(["/src/one/.state/engine/run/"], running) == [7]


def test_mounts_are_found_below_our_directories_deepest_first() -> None:
    mountinfo = "\n".join(
        f"22 1 0:21 / {point} rw - overlay overlay rw"
        for point in ("/", "/s/engine/data/overlay2", "/s/engine/data/overlay2/x/merged", "/s/engine-of-another/data")
    )
    found = mounts_below(mountinfo, [Path("/s/engine")])
    assert found == ["/s/engine/data/overlay2/x/merged", "/s/engine/data/overlay2"]


def test_cgroups_are_found_in_every_hierarchy_deepest_first(tmp_path: Path) -> None:
    for path in ("cpu/ours/container", "memory/ours", "cpu/docker/container"):
        (tmp_path / path).mkdir(parents=True)
    found = [str(path.relative_to(tmp_path)) for path in cgroup_dirs("ours", tmp_path)]
    assert found[0] == "cpu/ours/container"
    assert sorted(found[1:]) == ["cpu/ours", "memory/ours"]


def test_a_shims_socket_is_named_as_containerd_names_it() -> None:
    # printf /run/c.sock/moby/abc | sha256sum
    name = "f2a459ec6ad3ea63fc82bfe8659b1a893fc4d695907d523ab82a16003fcba7fb"
    assert shim_socket(Path("/run/c.sock"), "abc") == Path("/run/containerd/s") / name


def test_only_the_distributions_own_sources_make_a_root_tree(tmp_path: Path) -> None:
    keyring = tmp_path / "keys.gpg"
    keyring.touch()
    targets = "\n".join(
        [
            "Debian|http://mirror.test/debian/|bookworm|main",
            "Debian|http://mirror.test/debian/|bookworm|contrib",
            "Somebody|http://other.test/|stable|main",
            "Debian|http://mirror.test/security/|bookworm-security|main",
        ]
    )
    assert source_lines(targets, {"Debian": keyring}) == [
        f"deb [signed-by={keyring}] http://mirror.test/debian/ bookworm main contrib",
        f"deb [signed-by={keyring}] http://mirror.test/security/ bookworm-security main",
    ]
    assert source_lines(targets, {"Debian": tmp_path / "none"})[0] == (
        "deb http://mirror.test/debian/ bookworm main contrib"
    )


def test_a_refusal_ends_the_command_with_2_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Refusal("no Docker engine answers", "start one")

    monkeypatch.setattr(cluster, "up", refuse)
    assert command_line.main(["up", "--name", "test"]) == 2
    assert capsys.readouterr().err == "\nrefused: no Docker engine answers\nremedy:  start one\n"


def test_down_with_nothing_there_does_nothing(tmp_path: Path) -> None:
    cluster.down(checkout(tmp_path))
    assert os.listdir(tmp_path) == []
