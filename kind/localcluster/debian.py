"""Debian (or Ubuntu) packages without installing them: unpacked into a directory of ours, or as a node's root tree.

Nothing of the system changes: no service starts, no group appears, no alternative switches, and a Docker that somebody
installed from elsewhere is not in the way. apt still downloads and verifies, from the mirrors this machine is set to.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.steps import ProgramFailed, Refusal, StepLog

#: Patience with a mirror that is briefly gone and with another apt at work; and no progress bars in logs.
APT_OPTIONS = ("-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")

REMEDY = "see that `apt-get update` works on this machine, or start a Docker engine yourself"


def refresh_lists(log: StepLog) -> None:
    """Run apt-get update; a failing third-party source does not matter as long as the distribution's own work."""
    log.run(["apt-get", *APT_OPTIONS, "update", "-qq"], check=False, interruptible=False, timeout=180)


def unpack(packages: Sequence[str], into: Path, log: StepLog) -> None:
    """Download the packages, and what they need that this machine lacks, and unpack them all below `into`."""
    debs = into / "debs"
    (debs / "partial").mkdir(parents=True)
    argv = ["apt-get", *APT_OPTIONS, "install", "--yes", "--no-install-recommends", "--download-only", "--reinstall"]
    argv += ["-o", f"Dir::Cache::archives={debs}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]
    # A Docker from elsewhere would be "removed" by apt's plan; nothing is, for nothing is installed either.
    argv += ["--allow-change-held-packages", *packages]
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        log.run(argv, env=env, timeout=300)
    except ProgramFailed:
        log.say("package lists are missing or old")
        refresh_lists(log)
        log.run(argv, env=env, timeout=300, remedy=REMEDY)
    for deb in sorted(debs.glob("*.deb")):
        log.run(["dpkg-deb", "--extract", deb, into])
    shutil.rmtree(debs)


def environment(prefix: Path) -> Mapping[str, str]:
    """Return the variables that let programs below an unpacked `prefix` find each other and their libraries."""
    libraries = sorted({str(path.parent) for path in prefix.glob("usr/lib/*/*.so*")})
    libraries += sorted({str(path.parent) for path in prefix.glob("lib/*/*.so*")})
    bins = [str(prefix / place) for place in ("usr/bin", "usr/sbin", "sbin", "bin") if (prefix / place).is_dir()]
    known = os.environ.get("LD_LIBRARY_PATH", "")
    # iptables loads its matches from where the package would have put them; a system's own iptables has its own place.
    extensions = [] if shutil.which("iptables") else sorted(prefix.glob("usr/lib/*/xtables"))
    return {
        **({"XTABLES_LIBDIR": str(extensions[0])} if extensions else {}),
        "PATH": os.pathsep.join([*bins, os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")]),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *([known] if known else [])]),
        "PERL5LIB": str(prefix / "usr/share/perl5"),
    }


#: Where the distributions keep the keys of their archives; newer releases trust them only for sources that say so.
KEYRINGS = {
    "Debian": Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    "Ubuntu": Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
}


def sources(log: StepLog) -> list[str]:
    """Return this machine's own distribution sources as one-line apt entries, whatever format they are written in.

    Sources of third parties (whose packages a root tree must not get) are told apart by the Origin of their lists.
    """
    argv = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"]
    argv.append("Created-By: Packages")
    entries = source_lines(log.output(argv), KEYRINGS)
    if not entries:
        refresh_lists(log)
        entries = source_lines(log.output(argv), KEYRINGS)
    if not entries:
        raise Refusal("apt knows no package source of Debian or Ubuntu", REMEDY)
    return entries


def source_lines(targets: str, keyrings: Mapping[str, Path]) -> list[str]:
    """Turn `ORIGIN|URI|SUITE|COMPONENT` lines into one-line sources, one per archive and suite."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for line in targets.splitlines():
        origin, uri, suite, component = [*line.split("|"), "", "", ""][:4]
        if origin not in keyrings or not component:
            continue
        components = found.setdefault((origin, uri, suite), [])
        if component not in components:
            components.append(component)
    return [
        f"deb {f'[signed-by={keyrings[origin]}] ' if keyrings[origin].exists() else ''}{uri} {suite} "
        + " ".join(components)
        for (origin, uri, suite), components in found.items()
    ]


def root_tree(
    suite: str, packages: Sequence[str], target: Path, hooks: Sequence[str], mmdebstrap_prefix: Path, log: StepLog
) -> None:
    """Write a root tree of the essential packages and `packages` as a tar archive, without documentation.

    `hooks` are mmdebstrap's customise hooks, run with the tree's path as their first argument.
    """
    argv = ["mmdebstrap", "--variant=essential", f"--include={','.join(packages)}", '--aptopt=Acquire::Retries "3"']
    argv += [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("man", "locale", "doc", "info")]
    if suite == "bookworm":
        # Else usrmerge does it, for which all of Perl (57 MB) comes and stays. Later suites are merged to begin with.
        merged = mmdebstrap_prefix / "usr/share/mmdebstrap/hooks/merged-usr"
        argv += ["--include=usr-is-merged", f"--hook-dir={merged}"]
    argv += [f"--customize-hook={hook}" for hook in hooks]
    argv += [suite, str(target), "-"]
    entries = "\n".join(sources(log)) + "\n"
    log.run(argv, env=environment(mmdebstrap_prefix), input=entries, remedy=REMEDY)
