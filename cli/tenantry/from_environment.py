"""``tenantry serve-from-environment``: `tenantry serve` where secrets come as environment variables.

ECS, Lambda, App Runner and `docker run` hand secrets over that way. They are written to files that only this user
reads, and the service starts with an environment without them, so that nothing which it starts or dumps has them.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Where the files are; a policy names its upstream's credential as the second.
DIRECTORY = Path(tempfile.gettempdir()) / "tenantry-serve"
POLICY = "policy.json"
UPSTREAM_KEY = "upstream-key"
#: Variable -> file. Only the policy has to be there.
FILES = {"TENANTRY_POLICY": POLICY, "TENANTRY_UPSTREAM_KEY": UPSTREAM_KEY}
USAGE_ERROR = 2


class EnvironmentProblem(Exception):  # noqa: N818  (it is the environment's, not a program's, error)
    """The service cannot start from this environment; the message names the variable and the remedy."""


def written(environment: Mapping[str, str], directory: Path = DIRECTORY) -> dict[str, str]:
    """Write the files; returns the environment without what is in them.

    Raises:
        EnvironmentProblem: there is no policy, or the directory is not ours alone.
    """
    if not environment.get("TENANTRY_POLICY"):
        raise EnvironmentProblem(
            "TENANTRY_POLICY: not set; it holds the policy document (`tenantry new-endpoint` makes one)"
        )
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        state = directory.lstat()
        if directory.is_symlink() or state.st_uid != os.getuid() or state.st_mode & 0o077:
            raise EnvironmentProblem(f"{directory}: belongs to somebody else or is open to others; remove it")
        for variable, name in FILES.items():
            path = directory / name
            path.unlink(missing_ok=True)
            if environment.get(variable):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(environment[variable])
    except OSError as error:
        raise EnvironmentProblem(f"{directory}: {error}; it has to be writable") from error
    return {name: value for name, value in environment.items() if name not in FILES}


def main(argv: Sequence[str] | None = None) -> int:  # noqa: RET503  (execve does not return)
    """Become `tenantry serve --policy …` with the arguments given; returns 2 when the environment does not do."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        rest = written(os.environ)
    except EnvironmentProblem as problem:
        sys.stderr.write(f"tenantry serve-from-environment: {problem}\n")
        return USAGE_ERROR
    command = [sys.executable, "-m", "tenantry", "serve", "--policy", str(DIRECTORY / POLICY), *arguments]
    os.execve(sys.executable, command, rest)  # noqa: S606
