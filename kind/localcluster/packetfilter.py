"""Our packet filter rules in the kernel: put there, and taken away again, by the iptables that is at hand."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from localcluster import debian, network


def set_rules(comment: str, prefix: Path, subnet: ipaddress.IPv4Network | None) -> None:
    """Remove the rules with our comment and, for a running engine, add them anew.

    The kernel has two packet filters side by side, and a packet must pass both: a Docker that talks to the older one
    drops there what we accept in the newer, so the rules go wherever tables are.
    """
    env = {**os.environ, **debian.environment(prefix)}

    def iptables(*argv: str) -> str:
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=30).stdout

    for backend, tables in filters(env).items():
        for deletion in network.deletions(iptables(f"{backend}-save"), comment):
            iptables(backend, "-w", "10", *deletion)
        for place, rule in network.rules(subnet, comment) if subnet else ():
            if place.split()[1] in tables:
                iptables(backend, "-w", "10", *network.insertion(place, rule))


def filters(env: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return the iptables programs that there is something to tell, with the tables that each of them has."""
    both = frozenset({"nat", "filter"})
    names = Path("/proc/net/ip_tables_names")
    legacy = frozenset(names.read_text().split()) if names.exists() else frozenset()
    if not _runs(["iptables-nft", "-t", "nat", "-S"], env):
        return {"iptables-legacy": both}
    return {"iptables-nft": both, **({"iptables-legacy": legacy} if legacy else {})}


def _runs(argv: list[str], env: Mapping[str, str]) -> bool:
    return subprocess.run(argv, env=env, capture_output=True, check=False, timeout=30).returncode == 0
