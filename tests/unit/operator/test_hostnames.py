"""Whose a host name is: no two tenants' ever, and the first one's for as long as it wants it."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tenantry_operator.plan.hostnames import HostNames

HOSTS = ("a.example.com", "b.example.com", "c.example.com")
TENANTS = ("acme", "bolt", "core")
OWN = "api.example.com"


def test_who_asks_second_is_told_whose_it_is() -> None:
    hosts = HostNames()
    assert hosts.claim("acme", HOSTS[:2]).hostnames == HOSTS[:2]
    second = hosts.claim("bolt", HOSTS[1:])
    assert (second.hostnames, second.refused) == (HOSTS[2:], {HOSTS[1]: "acme"})


def test_what_is_given_up_is_free_for_the_next() -> None:
    hosts = HostNames()
    hosts.claim("acme", HOSTS)
    hosts.claim("acme", HOSTS[1:])
    assert hosts.claim("bolt", HOSTS).hostnames == HOSTS[:1]
    hosts.forget("acme")
    assert hosts.claim("bolt", HOSTS).hostnames == HOSTS


def test_a_new_process_knows_the_holder_from_its_status_whoever_is_looked_at_first() -> None:
    hosts = HostNames()
    hosts.recall("bolt", HOSTS[:1])
    assert hosts.claim("acme", HOSTS[:1]).refused == {HOSTS[0]: "bolt"}
    assert hosts.claim("bolt", HOSTS[:1]).hostnames == HOSTS[:1]


def test_nobody_gets_the_gateways_own_host_not_even_by_a_status_that_says_so() -> None:
    hosts = HostNames([OWN])
    hosts.recall("acme", [OWN])
    assert hosts.claim("acme", [OWN, HOSTS[0]]).refused == {OWN: ""}


def test_who_asked_in_vain_is_looked_at_again_once_it_is_free() -> None:
    hosts = HostNames([OWN])
    hosts.claim("acme", HOSTS[:2])
    hosts.claim("bolt", [OWN, *HOSTS[:1]])
    hosts.claim("core", HOSTS[:2])
    assert hosts.takers() == frozenset()
    hosts.claim("acme", HOSTS[1:2])
    assert hosts.takers() == {"bolt", "core"}
    assert hosts.takers() == frozenset(), "told once"
    assert hosts.claim("bolt", HOSTS[:1]).hostnames == HOSTS[:1]
    hosts.claim("core", HOSTS[2:])
    hosts.forget("acme")
    assert hosts.takers() == frozenset(), "core does not ask for it any more"


class Claims(RuleBasedStateMachine):
    """Any order of claims and departures."""

    @initialize()
    def begin(self) -> None:
        self.hosts = HostNames()
        self.has: dict[str, set[str]] = {}
        self.asks: dict[str, set[str]] = {}
        self.told: set[str] = set()

    @rule(tenant=st.sampled_from(TENANTS), wanted=st.lists(st.sampled_from(HOSTS), unique=True))
    def claim(self, tenant: str, wanted: list[str]) -> None:
        kept = self.has.get(tenant, set()) & set(wanted)
        granted = self.hosts.claim(tenant, wanted)
        assert kept <= set(granted.hostnames), "who has it keeps it"
        assert set(granted.hostnames) | set(granted.refused) == set(wanted)
        for hostname, holder in granted.refused.items():
            assert hostname in self.has[holder]
        self.told.discard(tenant)
        self.has[tenant], self.asks[tenant] = set(granted.hostnames), set(granted.refused)
        self.wake()

    @rule(tenant=st.sampled_from(TENANTS))
    def leave(self, tenant: str) -> None:
        self.hosts.forget(tenant)
        self.has.pop(tenant, None)
        self.asks.pop(tenant, None)
        self.wake()

    def wake(self) -> None:
        """Whoever can have something now has been told, and has not come back yet."""
        held = {hostname for hostnames in self.has.values() for hostname in hostnames}
        able = {tenant for tenant, asked in self.asks.items() if asked - held}
        self.told |= self.hosts.takers()
        assert able <= self.told

    @invariant()
    def no_host_is_two_tenants(self) -> None:
        held = [hostname for hostnames in self.has.values() for hostname in hostnames]
        assert len(held) == len(set(held))


TestClaims = Claims.TestCase
