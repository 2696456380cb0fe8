"""Whose a host name is. Whoever had it first keeps it until it is given up, whatever others ask for.

The Gateway API lets the older of two routes win (and the first by name of two of the same age), so a route that is made
anew would lose its host to whoever was waiting for it. Here the holder is written down, in ``status.hostnames``, and
nobody else's route ever names the host: what another Tenant asks for changes nothing for the one that has it.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct


class Granted(Struct, frozen=True, kw_only=True):
    """What one tenant gets of the host names that it asks for."""

    hostnames: tuple[str, ...] = ()
    #: Host name -> the Tenant that has it; empty when it is the platform's own.
    refused: Mapping[str, str] = {}


class HostNames:
    """Who holds which. Every answer is given at once, so that two tenants that ask at the same time cannot both win."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._reserved = frozenset(reserved)
        self._holders: dict[str, str] = {}
        self._held: dict[str, set[str]] = {}
        #: Host name -> those that asked for it in vain.
        self._asked: dict[str, set[str]] = {}
        self._takers: set[str] = set()

    def recall(self, tenant: str, hostnames: Iterable[str]) -> None:
        """The tenant's status says that it holds these. What somebody else holds by now, it does not."""
        for hostname in hostnames:
            if hostname not in self._reserved:
                self._take(hostname, tenant)

    def claim(self, tenant: str, wanted: Sequence[str]) -> Granted:
        """The tenant asks for exactly these: it is given what nobody else has, and gives up all others."""
        self._give_up(tenant, keep=wanted)
        self._ask_no_more(tenant)
        refused = {}
        for hostname in wanted:
            if hostname in self._reserved:
                refused[hostname] = ""
            elif (holder := self._take(hostname, tenant)) != tenant:
                refused[hostname] = holder
                self._asked.setdefault(hostname, set()).add(tenant)
        return Granted(hostnames=tuple(each for each in wanted if each not in refused), refused=refused)

    def forget(self, tenant: str) -> None:
        """The tenant is gone."""
        self._give_up(tenant, keep=())
        self._ask_no_more(tenant)

    def takers(self) -> frozenset[str]:
        """Whom to look at again: those that had asked for a host name that was given up since the last call."""
        takers, self._takers = frozenset(self._takers), set()
        return takers

    def _take(self, hostname: str, tenant: str) -> str:
        holder = self._holders.setdefault(hostname, tenant)
        if holder == tenant:
            self._held.setdefault(tenant, set()).add(hostname)
        return holder

    def _give_up(self, tenant: str, *, keep: Sequence[str]) -> None:
        for hostname in self._held.pop(tenant, set()):
            if hostname in keep:
                self._held.setdefault(tenant, set()).add(hostname)
            else:
                del self._holders[hostname]
                self._takers |= self._asked.pop(hostname, set())

    def _ask_no_more(self, tenant: str) -> None:
        for hostname in [each for each, asking in self._asked.items() if tenant in asking]:
            self._asked[hostname].discard(tenant)
            if not self._asked[hostname]:
                del self._asked[hostname]
