"""The comparison that the platform started from: reproduced, and judged line by line."""

import pytest
from tenantry_cost import book
from tenantry_cost.bill import System
from tenantry_cost.starting import Compared, Verdict, comparison

COMPARED = {each.system: each for each in comparison(book.shipped("us-east-1"))}


def line(compared: Compared, what: str) -> Verdict:
    return next(each.verdict for each in compared.lines if what in each.what)


@pytest.mark.parametrize(
    ("system", "claimed", "computed", "verdict"),
    [
        (System.ECS_FARGATE, (150, 200), (17100, 17820), Verdict.RIGHT),
        (System.EC2_ASG, (60, 100), (7975, 11406), Verdict.RIGHT),
        (System.LAMBDA, (50, 100), (6274, 6727), Verdict.RIGHT),
        (System.EKS, (80, 120), (15113, 18544), Verdict.TOO_LOW),
        (System.APP_RUNNER, (100, 150), (7229, 12354), Verdict.RIGHT),
    ],
)
def test_the_headline_of_each_system(
    system: System, claimed: tuple[int, int], computed: tuple[int, int], verdict: Verdict
) -> None:
    total = COMPARED[system].total
    assert (total.claimed, (total.low, total.high), total.verdict) == (claimed, computed, verdict)


@pytest.mark.parametrize(
    ("system", "what", "verdict"),
    [
        (System.ECS_FARGATE, "2 tasks", Verdict.TOO_HIGH),
        (System.ECS_FARGATE, "NAT", Verdict.TOO_HIGH),
        (System.ECS_FARGATE, "cache", Verdict.RIGHT),
        (System.LAMBDA, "NAT", Verdict.MISSING),
        (System.EKS, "control plane", Verdict.MISSING),
        (System.EKS, "Spot", Verdict.RIGHT),
        (System.EKS, "cache", Verdict.TOO_HIGH),
        (System.APP_RUNNER, "NAT", Verdict.MISSING),
    ],
)
def test_the_lines_that_were_right_and_those_that_were_not(system: System, what: str, verdict: Verdict) -> None:
    assert line(COMPARED[system], what) is verdict


def test_a_total_is_the_sum_of_its_lines() -> None:
    for each in COMPARED.values():
        assert each.total.low == sum(one.low for one in each.lines)
        assert each.total.high == sum(one.high for one in each.lines)
