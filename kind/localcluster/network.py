"""The address range of our own engine, and the few packet filter rules that its containers need.

The engine runs with `--iptables=false`: Docker's chains have fixed names, and a second engine would rewrite those of a
first one. Ports on 127.0.0.1 work through docker-proxy all the same; what is left to do is to masquerade what leaves
the machine and to let it through a forward chain that drops. Each rule carries our comment, by which `down` finds it.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Sequence

#: Bridges of our engines come from here: a corner of 10/8 that neither kind's pods (10.244/16) nor its services
#: (10.96/16) use, and that Docker's own default pools (172.17/12, 192.168/16) do not touch.
POOL = ipaddress.IPv4Network("10.200.0.0/13")

#: One engine's share of it: eight networks of 256 addresses.
SHARE = 21


def engine_subnet(identity: str, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """Return the engine's range: where its identity (hex digits) points, or the next one that overlaps no route."""
    shares = list(POOL.subnets(new_prefix=SHARE))
    start = int(identity, 16) % len(shares)
    busy = [route for route in taken if route.prefixlen > 0]
    for offset in range(len(shares)):
        share = shares[(start + offset) % len(shares)]
        if not any(share.overlaps(route) for route in busy):
            return share
    raise ValueError(f"every network of {POOL} is routed elsewhere on this machine")


def routes(table: str) -> list[ipaddress.IPv4Network]:
    """Return the destinations in a /proc/net/route text (addresses there are little-endian hexadecimal)."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[index]), "little") for index in (1, 7))
        found.append(ipaddress.IPv4Network((destination, mask.bit_count())))
    return found


def rules(subnet: ipaddress.IPv4Network, comment: str) -> list[tuple[str, list[str]]]:
    """Return (chain with its table's option, rule) for each rule that the engine's containers need."""
    mark = ["-m", "comment", "--comment", comment]
    net = str(subnet)
    return [
        ("-t nat POSTROUTING", ["-s", net, "!", "-d", net, *mark, "-j", "MASQUERADE"]),
        ("-t filter FORWARD", ["-s", net, *mark, "-j", "ACCEPT"]),
        ("-t filter FORWARD", ["-d", net, *mark, "-j", "ACCEPT"]),
    ]


def deletions(saved: str, comment: str) -> list[list[str]]:
    """Return the iptables arguments that delete each of our rules from what `iptables-save` printed."""
    table = ""
    found = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith("-A ") and comment in shlex.split(line):
            found.append(["-t", table, "-D", *shlex.split(line)[1:]])
    return found


def insertion(place: str, rule: Sequence[str]) -> list[str]:
    """Return the iptables arguments that put a rule first in its chain."""
    option, table, chain = place.split()
    return [option, table, "-I", chain, *rule]
