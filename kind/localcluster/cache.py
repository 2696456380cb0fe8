"""What is built once is kept under the digest of its inputs, shared by all checkouts of the user, until they change."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Days after which an entry that nobody used is dropped when a newer one of the same kind is built.
KEEP_DAYS = 14


def digest_of(*texts: str, files: Iterable[Path] = (), root: Path | None = None) -> str:
    """Return 16 hex digits over the texts and over the files' names (below `root`), modes and contents."""
    total = hashlib.sha256()
    for text in texts:
        total.update(b"%d:" % len(text.encode()) + text.encode())
    for file in sorted(files):
        name = file.relative_to(root) if root else file.name
        content = file.read_bytes()
        total.update(f"{name}:{file.stat().st_mode & 0o111}:{len(content)}:".encode() + content)
    return total.hexdigest()[:16]


def files_below(directory: Path) -> list[Path]:
    """Return the regular files below a directory, sorted, without what Python leaves there."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file (created when missing) for the time of the block; waits for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(cache: Path, thing: str, digest: str) -> Path:
    """Return where the thing of that digest is kept, whether it is there or not."""
    return cache / f"{thing}-{digest}"


def built_once(cache: Path, thing: str, digest: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the directory that `build` filled for this digest, and whether it had to be filled now.

    `build` writes into an empty directory that gets its name only when all is done, so that nobody ever sees half a
    result; a lock makes a second checkout wait for the first one's work instead of repeating it.
    """
    place = entry(cache, thing, digest)
    with locked(cache / "locks" / f"{place.name}.lock"):
        if place.is_dir():
            os.utime(place)
            return place, False
        partial = cache / f"{place.name}.partial"
        remove_tree(partial)
        partial.mkdir(parents=True)
        try:
            build(partial)
        except BaseException:
            remove_tree(partial)
            raise
        partial.rename(place)
        os.utime(place)
        _drop_unused(cache, thing, keep=place)
        return place, True


def remove_tree(path: Path) -> None:
    """Remove a directory, if it is there, also when files in it are read-only."""
    if path.exists():
        shutil.rmtree(path)


def _drop_unused(cache: Path, thing: str, keep: Path) -> None:
    oldest = time.time() - KEEP_DAYS * 86_400
    for other in cache.glob(f"{thing}-*"):
        if other != keep and other.is_dir() and not other.name.endswith(".partial") and other.stat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)
