"""Evictions are put off until a pod has nothing to lose, and never for ever."""

import json
from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace
from tenantry_operator.interruption.evictions import RETRY_AFTER, Asked, Evictions, answer, asked
from tenantry_operator.interruption.signals import Kind
from tenantry_operator.pods import Pod

from tests.unit.operator.interruption.model import START, cluster, spot

LIMIT = timedelta(minutes=5)
SERVING = Pod(tenant="acme", name="api-1", uid="1", version=1, node="n", pool="active", serve="yes", ready=True)
DRAINING = replace(SERVING, pool="draining", notes={"tenantry.dev/handover-since": "2026-03-01T12:00:00Z"})


def test_a_pod_that_serves_is_handed_over_first() -> None:
    woken: list[bool] = []
    evictions = Evictions(LIMIT)
    evictions.wake = lambda: woken.append(True)
    assert "until its replacement is ready" in (evictions.judge(SERVING, START) or "")
    assert (evictions.wanted(START), woken) == (frozenset({"1"}), [True])
    released = replace(DRAINING, serve="no")
    assert "ends what it has begun" in (evictions.judge(released, START + timedelta(seconds=9)) or "")


@pytest.mark.parametrize(
    "nothing_to_lose",
    [
        None,
        replace(SERVING, ready=False),
        replace(SERVING, terminating=True),
        replace(SERVING, phase="Failed", ready=False),
    ],
    ids=["not ours", "not ready", "on its way out", "failed"],
)
def test_a_pod_that_has_nothing_to_lose_goes_at_once(nothing_to_lose: Pod | None) -> None:
    evictions = Evictions(LIMIT)
    assert evictions.judge(nothing_to_lose, START) is None
    assert not evictions.wanted(START)


def test_a_dry_run_changes_nothing() -> None:
    evictions = Evictions(LIMIT)
    assert evictions.judge(SERVING, START, only_asked=True) is not None
    assert not evictions.wanted(START)


def test_the_limit_counts_from_the_beginning_of_the_hand_over() -> None:
    almost, over = START + LIMIT - timedelta(seconds=1), START + LIMIT
    assert Evictions(LIMIT).judge(DRAINING, almost) is not None
    assert Evictions(LIMIT).judge(DRAINING, over) is None, "whoever comes after a restart knows it, too"


def test_a_pod_whose_hand_over_cannot_even_begin_is_not_kept_for_ever() -> None:
    evictions = Evictions(LIMIT)
    for seconds in range(0, 300, 5):
        assert evictions.judge(SERVING, START + timedelta(seconds=seconds)) is not None
    assert evictions.judge(SERVING, START + LIMIT) is None


def test_who_does_not_come_back_has_changed_his_mind() -> None:
    evictions = Evictions(LIMIT)
    evictions.judge(SERVING, START)
    assert not evictions.wanted(START + timedelta(minutes=2))


def test_those_who_are_gone_are_forgotten() -> None:
    evictions = Evictions(LIMIT)
    for number in range(100):
        evictions.judge(replace(SERVING, uid=str(number)), START + number * timedelta(minutes=10))
    assert len(evictions._first) == len(evictions._last) == 1


def test_an_evicted_pod_is_replaced_on_a_node_that_stays_and_nobody_has_a_gap() -> None:
    model = cluster({"acme": 1}, {"one": 5, "two": 5})
    old = model.place("acme", "one", streams=1)
    model.evicted = {old.uid}
    for second in range(30):
        model.operate()
        assert model.endpoints("acme") >= 1, f"a gap after {second} s: {model.story}"
        model.tick()
    assert model.story == [("Surge", "acme"), ("Release", "acme")]
    model.streams = dict.fromkeys([each.uid for each in model.pods.of("acme")], 0)
    model.play(10)
    assert model.story[-1] == ("Remove", "acme")
    assert all(not node.taints for node in model.nodes.values()), "nothing is known against the node"


def test_an_eviction_from_a_node_at_risk_does_not_wait_for_its_turn() -> None:
    model = cluster({"a": 1, "b": 1, "c": 1}, {"risky": 9, "other": 9})
    pods = [model.place(name, "risky") for name in "abc"]
    model.heard["risky"] = replace(spot(kind=Kind.REBALANCE), deadline=None)
    model.operate()
    model.operate()
    assert len(model.story) == 1, "a rebalance moves one at a time"
    model.evicted = {each.uid for each in pods}
    model.operate()
    assert [step for step, _ in model.story] == ["Surge"] * 3


def review(**request: object) -> bytes:
    """What the API server posts."""
    return json.dumps({"kind": "AdmissionReview", "request": {"uid": "u", **request}}).encode()


def test_the_question_is_read_as_the_api_server_asks_it() -> None:
    plain = {"name": "api-1", "namespace": "tenant-acme", "object": {"kind": "Eviction", "deleteOptions": {}}}
    assert asked(review(**plain)) == Asked("u", "tenant-acme", "api-1")
    assert asked(review(**plain, dryRun=True)).only_asked
    assert asked(review(**{**plain, "object": {"deleteOptions": {"dryRun": ["All"]}}})).only_asked, "kubectl drain's"
    with pytest.raises(msgspec.DecodeError):
        asked(b"{}")


def test_later_is_429_with_the_time_of_the_next_attempt() -> None:
    response = answer("u", "not yet")["response"]
    assert isinstance(response, dict)
    assert response["allowed"] is False
    assert (response["status"]["code"], response["status"]["details"]) == (429, {"retryAfterSeconds": RETRY_AFTER})
    assert answer("u", None)["response"] == {"uid": "u", "allowed": True}
