"""Container images written as archives, without an engine: what `docker load` and `ctr images import` read.

One archive holds the blobs once, an OCI layout (image-spec, image-layout.md) and, over the same blobs, the
manifest.json of `docker save`. Layers stay uncompressed: both readers are faster that way, and nothing travels over
a network.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 1 << 20

#: Time stamp of what we put into layers, so that the same inputs make the same digests.
EPOCH = 0


@dataclass(frozen=True)
class Image:
    """One image: its name, layer files (tar archives, lowest first), and run configuration (image-spec, config.md)."""

    name: str
    layers: tuple[Path, ...]
    config: Mapping[str, object] = field(default_factory=dict)


class LayerWriter:
    """Writes a layer: files, links and directories, all owned by root."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - `close` ends it
        self._made: set[str] = set()

    def file(self, name: str, source: Path | bytes, mode: int = 0o644) -> None:
        """Add a regular file from a path or from its content. Raises `ValueError` for a name that is there already."""
        self._parents(name)
        if name in self._made:
            raise ValueError(f"{name} is in this layer already")
        self._made.add(name)
        info = self._info(name, mode)
        if isinstance(source, bytes):
            info.size = len(source)
            self._tar.addfile(info, io.BytesIO(source))
        else:
            info.size = source.stat().st_size
            with source.open("rb") as content:
                self._tar.addfile(info, content)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._parents(name)
        info = self._info(name, 0o777)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(info)

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory, once."""
        if name in self._made or name in {"", "."}:
            return
        self._parents(name)
        self._made.add(name)
        info = self._info(name, mode)
        info.type = tarfile.DIRTYPE
        self._tar.addfile(info)

    def tree(self, source: Path, replace: Mapping[str, str]) -> None:
        """Add the text files of a directory at the root of the layer, with each key of `replace` made its value."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                text = path.read_text()
                for key, value in replace.items():
                    text = text.replace(key, value)
                mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                self.file(path.relative_to(source).as_posix(), text.encode(), mode)

    def archive(self, source: Path) -> None:
        """Add the files of another tar archive; hard links become files."""
        with tarfile.open(source) as other:
            for member in other:
                name = member.name.removeprefix("./")
                content = other.extractfile(member)  # of a hard link: its target's
                if content is not None:
                    self.file(name, content.read(), member.mode)

    def close(self) -> None:
        self._tar.close()

    def _parents(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent:
            self.directory(parent)

    @staticmethod
    def _info(name: str, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = mode, EPOCH
        return info


def sha256_of(path: Path) -> str:
    """Return the hexadecimal digest of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def write_archive(path: Path, images: Sequence[Image], arch: str) -> None:
    """Write the images as one archive for linux and `arch`."""
    digests = {layer: sha256_of(layer) for image in images for layer in image.layers}
    written: set[str] = set()
    docker: list[dict[str, object]] = []
    index: list[dict[str, object]] = []
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def blob(content: bytes) -> dict[str, object]:
            digest = hashlib.sha256(content).hexdigest()
            if digest not in written:
                written.add(digest)
                _add(tar, f"blobs/sha256/{digest}", content)
            return {"digest": f"sha256:{digest}", "size": len(content)}

        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        for layer, digest in digests.items():
            if digest not in written:
                written.add(digest)
                info = LayerWriter._info(f"blobs/sha256/{digest}", 0o644)
                info.size = layer.stat().st_size
                with layer.open("rb") as content:
                    tar.addfile(info, content)
        for image in images:
            config = blob(_json(image_config(image, [digests[layer] for layer in image.layers], arch)))
            layers = [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": f"sha256:{digests[layer]}",
                    "size": layer.stat().st_size,
                }
                for layer in image.layers
            ]
            manifest = blob(
                _json(
                    {
                        "schemaVersion": 2,
                        "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
                        "layers": layers,
                    }
                )
            )
            index.append(
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    **manifest,
                    "annotations": {"io.containerd.image.name": image.name},
                    "platform": {"os": "linux", "architecture": arch},
                }
            )
            docker.append(
                {
                    "Config": f"blobs/sha256/{str(config['digest']).removeprefix('sha256:')}",
                    "RepoTags": [image.name],
                    "Layers": [f"blobs/sha256/{digests[layer]}" for layer in image.layers],
                }
            )
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": index}))
        _add(tar, "manifest.json", _json(docker))


def image_config(image: Image, diff_ids: Sequence[str], arch: str) -> dict[str, object]:
    """Return the image's configuration document."""
    return {
        "architecture": arch,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": dict(image.config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in diff_ids]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "tenantry"} for _ in diff_ids],
    }


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = LayerWriter._info(name, 0o644)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
