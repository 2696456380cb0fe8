"""The kernel's limit on inotify instances, raised while an engine of ours runs.

Nodes of all clusters share root's 128 (inotify(7), /proc/sys/fs/inotify/max_user_instances), and systemd, kubelet,
containerd and kube-proxy of three nodes hold some 50: with a second cluster beside the first, kube-proxy ends with "too
many open files" and Services stay dead. It is the one setting of the machine that we touch; the last engine of ours to
stop puts it back. The directory RECORD holds what it was and one file per engine that needs it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTING = Path("/proc/sys/fs/inotify/max_user_instances")
RECORD = Path("/run/tenantry-inotify")

#: Instances with which several clusters run beside each other; what the kind documentation recommends is 512.
WANTED = 1024


def hold(identity: str, setting: Path = SETTING, record: Path = RECORD) -> None:
    """Raise the limit for the engine of that identity, if it is lower than WANTED; may be called again."""
    with _alone(record):
        now = int(setting.read_text())
        if now < WANTED:
            (record / "before").write_text(str(now))
            setting.write_text(str(WANTED))
        (record / f"engine-{identity}").touch()


def release(identity: str, setting: Path = SETTING, record: Path = RECORD) -> None:
    """Give up what `hold` took; the last one restores the limit, unless somebody has changed it since."""
    if not record.is_dir():
        return
    with _alone(record):
        (record / f"engine-{identity}").unlink(missing_ok=True)
        if any(record.glob("engine-*")):
            return
        before = record / "before"
        if before.exists():
            if int(setting.read_text()) == WANTED:
                setting.write_text(before.read_text())
            before.unlink()
        record.rmdir()


@contextmanager
def _alone(record: Path) -> Iterator[None]:
    """Hold the directory's lock; one that was removed while we waited for it is made anew."""
    while True:
        record.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(record, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if record.is_dir() and record.stat().st_ino == os.fstat(handle).st_ino:
                yield
                return
        finally:
            os.close(handle)
