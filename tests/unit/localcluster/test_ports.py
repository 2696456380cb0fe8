"""Host ports: the demo's are fixed unless taken, tests' are free ones, and a port asked for is had or refused."""

import random
import socket

import pytest
from localcluster.ports import COUNT, DEMO_PORT, NODE_PORTS, choose, is_free, require
from localcluster.steps import Refusal

CHANCE = random.Random(7)


def test_the_demo_gets_its_fixed_ports() -> None:
    assert choose(DEMO_PORT, lambda _: True, CHANCE) == tuple(range(DEMO_PORT, DEMO_PORT + COUNT))


def test_the_demo_moves_on_when_its_port_is_taken() -> None:
    assert choose(DEMO_PORT, lambda port: port != DEMO_PORT, CHANCE)[0] == DEMO_PORT + 1


@pytest.mark.parametrize("seed", range(50))
def test_test_clusters_get_free_node_ports_that_the_demo_does_not_want(seed: int) -> None:
    taken = set(range(31000, 31500))
    chosen = choose(None, lambda port: port not in taken, random.Random(seed))
    assert len(set(chosen)) == COUNT
    assert set(chosen) <= set(NODE_PORTS)
    assert not set(chosen) & (taken | set(range(DEMO_PORT, DEMO_PORT + COUNT)))


def test_ports_of_the_checkouts_other_cluster_are_left_to_it() -> None:
    others = choose(DEMO_PORT, lambda _: True, CHANCE)
    assert not set(choose(DEMO_PORT, lambda _: True, CHANCE, reserved=others)) & set(others)


def test_no_free_ports_is_a_refusal() -> None:
    with pytest.raises(Refusal, match="fewer than"):
        choose(None, lambda _: False, CHANCE)


def test_a_taken_port_that_was_asked_for_is_refused_with_a_remedy() -> None:
    with pytest.raises(Refusal, match=r"port 30100 on .* is taken") as refused:
        require(30100, lambda _: False)
    assert "--port" in refused.value.remedy


def test_a_port_outside_the_node_port_range_is_refused() -> None:
    with pytest.raises(Refusal, match="8080 is no node port"):
        require(8080)


def test_a_listening_port_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])
