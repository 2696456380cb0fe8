"""An engine's own addresses and packet filter rules: apart from everybody else's, and found again for removal."""

import ipaddress

import pytest
from localcluster.network import POOL, deletions, engine_subnet, insertion, routes, rules

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""

NET = ipaddress.IPv4Network("10.200.8.0/21")


def test_the_kernels_routing_table_is_read() -> None:
    assert routes(ROUTES) == [ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv4Network("192.0.2.0/24")]


def test_checkouts_get_different_ranges_and_the_same_one_each_time() -> None:
    assert engine_subnet("00000001", []) == engine_subnet("00000001", routes(ROUTES))
    assert not engine_subnet("00000001", []).overlaps(engine_subnet("00000002", []))
    assert engine_subnet("ffffffff", []).subnet_of(POOL)


def test_a_range_that_is_routed_elsewhere_is_avoided() -> None:
    first = engine_subnet("00000005", [])
    inside = next(first.subnets(new_prefix=26))
    assert not engine_subnet("00000005", [inside]).overlaps(first)


def test_a_machine_that_routes_the_whole_pool_elsewhere_is_told_so() -> None:
    with pytest.raises(ValueError, match="routed elsewhere"):
        engine_subnet("00000005", [POOL])


def test_exactly_the_rules_with_our_comment_are_deleted() -> None:
    saved = "\n".join(
        [
            "*filter",
            ":FORWARD ACCEPT [0:0]",
            "-A FORWARD -s 10.200.8.0/21 -m comment --comment tenantry-aaaa -j ACCEPT",
            "-A FORWARD -s 10.201.0.0/21 -m comment --comment tenantry-aaaabbbb -j ACCEPT",
            "COMMIT",
            "*nat",
            "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
            '-A POSTROUTING -s 10.200.8.0/21 -m comment --comment "tenantry-aaaa" -j MASQUERADE',
            "COMMIT",
        ]
    )
    mark = ["-m", "comment", "--comment", "tenantry-aaaa", "-j"]
    assert deletions(saved, "tenantry-aaaa") == [
        ["-t", "filter", "-D", "FORWARD", "-s", "10.200.8.0/21", *mark, "ACCEPT"],
        ["-t", "nat", "-D", "POSTROUTING", "-s", "10.200.8.0/21", *mark, "MASQUERADE"],
    ]


def test_every_rule_carries_the_comment_and_goes_first_in_its_chain() -> None:
    for place, rule in rules(NET, "tenantry-aaaa"):
        assert "tenantry-aaaa" in rule
        assert insertion(place, rule)[2] == "-I"
