"""When a tenant falls asleep and wakes up: each situation and its one step, and the law that holds for all of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tenantry_operator.scaling.sleep import COVERED, DESERTED, LINGER, Situation, Step, step

HERE = frozenset({"10.0.0.9"})
AWAKE = Situation(
    may_sleep=True,
    idle_after=60.0,
    hands_off=False,
    wanted=1,
    serving=1,
    idle_for=0.0,
    idle_since_covered=None,
    covered_by=None,
    covered_for=0.0,
    activators=HERE,
    announced=False,
    known=False,
    demanded=False,
)
IDLE = replace(AWAKE, idle_for=61.0)
COVERED_ = replace(IDLE, announced=True, known=True, covered_by=HERE, covered_for=COVERED, idle_since_covered=64.0)
ASLEEP = replace(COVERED_, wanted=0, serving=0, idle_for=None, idle_since_covered=None)


@pytest.mark.parametrize(
    ("situation", "wanted"),
    [
        pytest.param(AWAKE, Step.NOTHING, id="in use"),
        pytest.param(IDLE, Step.ANNOUNCE, id="idle for long enough"),
        pytest.param(replace(IDLE, idle_for=None), Step.NOTHING, id="a pod that does not say may be busy"),
        pytest.param(replace(IDLE, may_sleep=False), Step.NOTHING, id="may not sleep"),
        pytest.param(replace(IDLE, activators=frozenset()), Step.NOTHING, id="nobody would wake it up"),
        pytest.param(replace(IDLE, announced=True), Step.NOTHING, id="not all activators know it yet"),
        pytest.param(replace(IDLE, announced=True, known=True), Step.COVER, id="they know it"),
        pytest.param(COVERED_, Step.SLEEP, id="still idle with the activators in the path"),
        pytest.param(replace(COVERED_, covered_for=COVERED - 1), Step.NOTHING, id="proxies may not know of it yet"),
        pytest.param(replace(COVERED_, idle_since_covered=None), Step.NOTHING, id="not asked since"),
        pytest.param(replace(COVERED_, covered_by=frozenset({"10.0.0.8"})), Step.COVER, id="the activator has moved"),
        pytest.param(replace(COVERED_, idle_for=1.0), Step.UNCOVER, id="a request came in the last moment"),
        pytest.param(replace(COVERED_, demanded=True), Step.UNCOVER, id="somebody asks in the last moment"),
        pytest.param(ASLEEP, Step.NOTHING, id="asleep"),
        pytest.param(replace(ASLEEP, activators=frozenset()), Step.NOTHING, id="asleep, activator silent"),
        pytest.param(replace(ASLEEP, activators=frozenset({"10.0.0.8"})), Step.COVER, id="asleep, activator moved"),
        pytest.param(replace(ASLEEP, announced=False), Step.ANNOUNCE, id="asleep, a new operator"),
        pytest.param(replace(ASLEEP, demanded=True), Step.WAKE, id="asked for"),
        pytest.param(replace(ASLEEP, may_sleep=False), Step.WAKE, id="may not sleep any more"),
        pytest.param(replace(ASLEEP, wanted=1), Step.NOTHING, id="waking up"),
        pytest.param(replace(ASLEEP, wanted=1, serving=1, idle_for=0.0), Step.UNCOVER, id="awake"),
        pytest.param(replace(AWAKE, announced=True, uncovered_for=LINGER - 1), Step.NOTHING, id="late requests"),
        pytest.param(replace(AWAKE, announced=True, uncovered_for=LINGER), Step.WITHDRAW, id="awake for a while"),
        pytest.param(replace(IDLE, frozen=True), Step.NOTHING, id="nothing is to be changed"),
        pytest.param(replace(ASLEEP, frozen=True, may_sleep=False), Step.NOTHING, id="asleep and left so"),
        pytest.param(replace(ASLEEP, frozen=True, demanded=True), Step.WAKE, id="asleep, left so, and asked for"),
        pytest.param(replace(ASLEEP, activators=frozenset(), deserted_for=DESERTED), Step.WAKE, id="deserted"),
        pytest.param(replace(ASLEEP, hands_off=True, demanded=True), Step.UNCOVER, id="suspended while asleep"),
    ],
)
def test_each_situation_has_its_step(situation: Situation, wanted: Step) -> None:
    assert step(situation) is wanted


places = st.one_of(st.none(), st.sets(st.sampled_from(["a", "b"])).map(frozenset))
seconds = st.one_of(st.none(), st.floats(0, 200))
situations = st.builds(
    Situation,
    may_sleep=st.booleans(),
    idle_after=st.sampled_from([10.0, 60.0]),
    hands_off=st.booleans(),
    wanted=st.integers(0, 3),
    serving=st.integers(0, 3),
    idle_for=seconds,
    idle_since_covered=seconds,
    covered_by=places,
    covered_for=st.floats(0, 100),
    activators=places.map(lambda found: found or frozenset()),
    announced=st.booleans(),
    known=st.booleans(),
    demanded=st.booleans(),
    uncovered_for=st.floats(0, 100),
)


@given(situations)
def test_pods_go_only_with_nothing_open_and_the_activators_in_the_path(situation: Situation) -> None:
    if step(situation) is Step.SLEEP:
        assert situation.may_sleep
        assert not situation.hands_off
        assert not situation.demanded
        assert situation.covered_by == situation.activators != frozenset()
        assert situation.known
        assert situation.idle_since_covered is not None
        assert situation.idle_since_covered >= situation.idle_after


@given(situations)
def test_the_activators_leave_the_path_only_when_a_pod_serves_or_none_is_to(situation: Situation) -> None:
    if step(situation) is Step.UNCOVER:
        assert situation.serving or situation.hands_off


@given(situations)
def test_who_is_asked_for_wakes_up(situation: Situation) -> None:
    if situation.demanded and situation.wanted == 0 and not situation.hands_off:
        assert step(situation) is Step.WAKE


def test_from_awake_to_asleep_and_back_every_step_leads_on() -> None:
    """Each step does what it says, and the next is asked for, as the loop does."""
    taken, now = [], IDLE
    effects: dict[Step, dict[str, Any]] = {
        Step.ANNOUNCE: {"announced": True, "known": True},
        Step.COVER: {"covered_by": HERE, "covered_for": COVERED, "idle_since_covered": 70.0},
        Step.SLEEP: {"wanted": 0, "serving": 0, "idle_for": None, "idle_since_covered": None, "demanded": True},
        Step.WAKE: {"wanted": 1, "serving": 1, "idle_for": 0.0},
        Step.UNCOVER: {"covered_by": None, "demanded": False, "uncovered_for": LINGER},
        Step.WITHDRAW: {"announced": False, "known": False},
    }
    while (wanted := step(now)) is not Step.NOTHING:
        taken.append(wanted)
        now = replace(now, **effects[wanted])
    assert taken == [Step.ANNOUNCE, Step.COVER, Step.SLEEP, Step.WAKE, Step.UNCOVER, Step.WITHDRAW]
