"""Pods that the quota refused: when they are asked for again, and what is said of them meanwhile."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_operator.api.conditions import Reason
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.plan.assess import assess
from tenantry_operator.plan.facts import State
from tenantry_operator.plan.refused import LONGEST_PAUSE, PAUSE, ask_again, pause

from tests.unit.operator.tenants import NOW, child, settled, workload

REFUSED = 'pods "api-x" is forbidden: exceeded quota: tenant, requested: pods=1, used: pods=16, limited: pods=16'
MOMENT = timedelta(microseconds=1)


def test_refused_pods_are_asked_for_again_at_once_when_the_quota_has_room() -> None:
    assert ask_again(settled(workload=workload(wanted=3, refused=REFUSED))) == NOW


@pytest.mark.parametrize(
    "refused", ["", 'pods "api-x" is forbidden: violates PodSecurity "restricted:v1.30"'], ids=["nothing", "another"]
)
def test_nothing_is_asked_for_again_that_no_quota_refused(refused: str) -> None:
    assert ask_again(settled(workload=workload(wanted=3, refused=refused))) is None
    assert ask_again(settled(workload=None)) is None


def test_nothing_is_asked_for_again_while_the_quota_is_full() -> None:
    facts = settled(workload=workload(wanted=3, refused=REFUSED))
    for full, due in ((True, None), (False, NOW)):
        quota = child("ResourceQuota", "tenant", full=full)
        assert ask_again(settled(workload=facts.workload, children=(*facts.children, quota))) == due


@pytest.mark.parametrize(
    ("last", "due"),
    [
        (NOW, NOW + PAUSE),
        (NOW - PAUSE + MOMENT, NOW + MOMENT),
        (NOW - PAUSE, NOW),
        (NOW - timedelta(days=1), NOW),
        (NOW + MOMENT, NOW),
        (NOW + timedelta(days=1), NOW),
    ],
    ids=["now", "almost a pause ago", "a pause ago", "a day ago", "in a moment", "in a day, by another clock"],
)
def test_there_is_a_pause_between_two_times(last: datetime, due: datetime) -> None:
    assert ask_again(settled(workload=workload(wanted=3, refused=REFUSED, asked_again=last))) == due


def test_the_pause_grows_while_asking_is_in_vain_up_to_five_minutes() -> None:
    assert [pause(asked).total_seconds() for asked in range(10)] == [5, 5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert pause(10**9) == LONGEST_PAUSE
    facts = settled(workload=workload(wanted=3, refused=REFUSED, asked_again=NOW - PAUSE))
    assert ask_again(facts, asked=3) == NOW - PAUSE + pause(3)


@given(st.timedeltas(min_value=timedelta(days=-9), max_value=timedelta(days=9)), st.integers(0, 20))
def test_whatever_was_written_no_tenant_waits_longer_than_a_pause_nor_is_asked_for_twice_in_one(
    before: timedelta, asked: int
) -> None:
    due = ask_again(settled(workload=workload(wanted=3, refused=REFUSED, asked_again=NOW - before)), asked)
    assert due is not None
    assert NOW <= due <= NOW + pause(asked)
    assert due - (NOW - before) >= pause(asked) or before < timedelta(0)


@pytest.mark.parametrize(
    ("available", "awaited", "reason"),
    [
        (1, None, Reason.QUOTA_BLOCKED),
        (3, NOW, Reason.QUOTA_BLOCKED),
        (3, None, None),
    ],
    ids=["too few answer", "a replacement is overdue", "all that are wanted answer"],
)
def test_a_tenant_that_lacks_pods_because_of_its_quota_says_so(
    available: int, awaited: datetime | None, reason: Reason | None
) -> None:
    pods = workload(wanted=3, updated=3, available=available, refused=REFUSED)
    verdict = assess(settled(workload=pods, replacement_awaited=awaited), GROUP_KINDS)
    assert verdict.state is State.READY
    assert (verdict.degraded[0] if verdict.degraded else None) is reason
    if verdict.degraded:
        assert not any(sign.isdigit() for sign in verdict.degraded[1]), "a number that changes is a write each time"
        assert "kubectl get pods,quota -n tenant-acme" in verdict.degraded[1]
