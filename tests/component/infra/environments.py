"""The tools that read templates, each set in a virtual environment of its own, from a lock with hashes."""

import subprocess
import sys
from pathlib import Path

from localcluster.cache import built_once, digest_of
from localcluster.paths import Checkout

LOCKS = Path(__file__).parent / "locks"

#: An environment in which an AWS client works, but not for a real account.
AWS = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def python_with(name: str) -> Path:
    """The Python that has what the lock of this name says, installed into the cache the first time."""
    lock = LOCKS / f"{name}.txt"

    def install(into: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", into], check=True)
        pip: list[str | Path] = [
            into / "bin" / "python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
        ]
        subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", lock], check=True)

    place, _ = built_once(Checkout.here().cache, f"infra-{name}", digest_of(sys.version, files=[lock]), install)
    return place / "bin" / "python"
