"""Which pod goes first, and that it does not change with every request."""

from hypothesis import given
from hypothesis import strategies as st
from tenantry_operator.pods import Pod
from tenantry_operator.scaling.cost import CLEARLY, FIRST, marks
from tenantry_operator.scaling.inflight import InFlight


def pod(name: str, cost: int = 0) -> Pod:
    return Pod(tenant="acme", name=name, uid=name, version=1, cost=cost)


def loads(**requests: int) -> dict[str, InFlight]:
    return {name: InFlight(requests=count) for name, count in requests.items()}


def test_the_idlest_pod_is_marked() -> None:
    assert marks([pod("a"), pod("b"), pod("c")], loads(a=5, b=1, c=9)) == {"b": FIRST}


def test_the_mark_moves_from_a_busy_pod_to_an_idle_one() -> None:
    assert marks([pod("a", FIRST), pod("b")], loads(a=2, b=0)) == {"a": None, "b": FIRST}


def test_a_little_less_to_do_does_not_move_it() -> None:
    assert marks([pod("a", FIRST), pod("b")], loads(a=CLEARLY, b=1)) == {}
    assert marks([pod("a", FIRST), pod("b")], loads(a=CLEARLY + 1, b=1)) == {"a": None, "b": FIRST}


def test_while_a_pod_is_silent_nothing_is_said() -> None:
    assert marks([pod("a"), pod("b")], loads(a=5)) == {}


def test_one_pod_needs_no_mark() -> None:
    assert marks([pod("a")], loads(a=0)) == {}


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0, FIRST, 5])), min_size=2, max_size=6))
def test_written_once_nothing_is_left_to_write(found: list[tuple[int, int]]) -> None:
    pods = [pod(f"p{number}", cost) for number, (_, cost) in enumerate(found)]
    said = loads(**{f"p{number}": requests for number, (requests, _) in enumerate(found)})
    changes = marks(pods, said)
    after = [pod(each.name, changes[each.name] or 0) if each.name in changes else each for each in pods]
    assert marks(after, said) == {}
    assert sum(each.cost != 0 for each in after) == 1
