"""Image archives that both `docker load` and `ctr images import` read, from the same blobs."""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
from localcluster.archive import Image, LayerWriter, write_archive


def layer(path: Path) -> Path:
    writer = LayerWriter(path)
    writer.file("usr/local/bin/kube", b"binary", 0o755)
    writer.link("usr/local/bin/kubelet", "kube")
    writer.directory("tmp", 0o1777)
    writer.close()
    return path


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def test_docker_and_oci_manifests_name_the_same_blobs(tmp_path: Path) -> None:
    images = [
        Image("example.test/kube-proxy:v1", (layer(tmp_path / "layer.tar"),), {"Env": ["A=b"]}),
        Image("example.test/pause:3", (tmp_path / "layer.tar",), {"Entrypoint": ["pause"]}),
    ]
    write_archive(tmp_path / "images.tar", images, "arm64")
    files = contents(tmp_path / "images.tar")
    blobs = {name for name in files if name.startswith("blobs/")}
    assert len(blobs) == 1 + 2 + 2, "one shared layer, and a configuration and a manifest per image"
    for name in blobs:
        assert hashlib.sha256(files[name]).hexdigest() == name.rpartition("/")[2]

    docker = json.loads(files["manifest.json"])
    index = json.loads(files["index.json"])["manifests"]
    for number, image in enumerate(images):
        manifest = json.loads(files["blobs/sha256/" + index[number]["digest"].removeprefix("sha256:")])
        config = json.loads(files[docker[number]["Config"]])
        assert docker[number]["RepoTags"] == [image.name] == [index[number]["annotations"]["io.containerd.image.name"]]
        assert docker[number]["Config"].endswith(manifest["config"]["digest"].removeprefix("sha256:"))
        assert docker[number]["Layers"][0].endswith(manifest["layers"][0]["digest"].removeprefix("sha256:"))
        assert config["architecture"] == "arm64"
        assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
        assert config["config"] == image.config


def test_the_same_inputs_make_the_same_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_archive(tmp_path / name, [Image("x:1", (layer(tmp_path / f"{name}.layer"),))], "amd64")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_layer_makes_parents_once_keeps_modes_and_refuses_a_second_file_of_a_name(tmp_path: Path) -> None:
    with tarfile.open(layer(tmp_path / "layer.tar")) as tar:
        modes = {member.name: member.mode for member in tar}
        assert len(tar.getnames()) == len(modes)
    assert modes["usr/local/bin/kube"] == 0o755
    assert modes["tmp"] == 0o1777
    assert {"usr", "usr/local", "usr/local/bin"} <= modes.keys()
    writer = LayerWriter(tmp_path / "twice.tar")
    writer.file("etc/x", b"1")
    with pytest.raises(ValueError, match="etc/x is in this layer already"):
        writer.file("etc/x", b"2")
    writer.close()


def test_hard_links_of_another_archive_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(b"library")
    (tmp_path / "b.so").hardlink_to(tmp_path / "a.so")
    with tarfile.open(tmp_path / "other.tar", "w") as other:
        other.add(tmp_path / "a.so", "lib/a.so")
        other.add(tmp_path / "b.so", "lib/b.so")
    writer = LayerWriter(tmp_path / "layer.tar")
    writer.archive(tmp_path / "other.tar")
    writer.close()
    assert contents(tmp_path / "layer.tar") == {"lib/a.so": b"library", "lib/b.so": b"library"}
