"""Advice for every possible set of answers: always one that can be, for reasons that follow from the answers."""

from itertools import product

import pytest
from tenantry_advise.advice import PEAK, STREAM_SECONDS, Advice, advise
from tenantry_advise.questions import QUESTIONS, Answers, Operator, Runtime, Traffic, Unit
from tenantry_advise.rules import RULES, Weight
from tenantry_cost import book
from tenantry_cost.bill import System
from tenantry_cost.workload import Workload

BOOK = book.shipped("us-east-1")
EVERY = [Answers(*answers) for answers in product(Unit, Traffic, Runtime, Operator)]


def given(answers: Answers, tenants: int = 10) -> Advice:
    workload = Workload(tenants=tenants, stream_seconds=STREAM_SECONDS[answers.unit], peak=PEAK[answers.traffic])
    return advise(answers, workload, BOOK)


ADVICE = {(answers, tenants): given(answers, tenants) for answers in EVERY for tenants in (1, 10, 500)}


def test_there_is_always_an_answer_that_nothing_rules_out() -> None:
    assert len(ADVICE) == 243
    for advice in ADVICE.values():
        assert advice.best.possible
        assert advice.best.cents is not None
        assert {one.system for one in advice.judged} == set(System)


def test_the_answer_has_the_most_points_of_those_that_are_possible_and_the_rest_follow_in_order() -> None:
    for advice in ADVICE.values():
        ranks = [(not one.possible, -one.points, one.cents or 0) for one in advice.judged]
        assert ranks == sorted(ranks)


def test_every_system_has_a_reason_whatever_is_answered() -> None:
    for advice in ADVICE.values():
        assert any(reason.weight > 0 for reason in advice.best.reasons)
        for one in advice.judged:
            assert one.reasons, (advice.answers, one.system)


def test_a_reason_follows_from_an_answer_that_was_given() -> None:
    for (answers, _), advice in ADVICE.items():
        from_rules = {rule.reason for rule in RULES if rule.answer is None or rule.answer in answers}
        for one in advice.judged:
            assert all(
                reason.text in from_rules or "USD" in reason.text or "900 s" in reason.text for reason in one.reasons
            )


def test_hard_limits_hold_in_every_combination() -> None:
    for (answers, _), advice in ADVICE.items():
        system = advice.best.system
        assert system is not System.APP_RUNNER, "it takes no new customers"
        if answers.unit is Unit.LONGER:
            assert system is not System.LAMBDA
        if answers.runtime is Runtime.ACCELERATED:
            assert system in (System.EC2_ASG, System.EKS)
        if answers.operator is Operator.NOBODY:
            assert system is not System.EKS


def test_each_system_that_can_still_be_had_is_sometimes_the_answer() -> None:
    assert {advice.best.system for advice in ADVICE.values()} == set(System) - {System.APP_RUNNER}


@pytest.mark.parametrize(
    ("answers", "tenants", "system"),
    [
        ((Unit.SECONDS, Traffic.STEADY, Runtime.SMALL, Operator.PLATFORM_TEAM), 500, System.EKS),
        ((Unit.MINUTES, Traffic.BURSTS, Runtime.SMALL, Operator.PLATFORM_TEAM), 100, System.EKS),
        ((Unit.SECONDS, Traffic.RARE, Runtime.SMALL, Operator.NOBODY), 3, System.LAMBDA),
        ((Unit.MINUTES, Traffic.STEADY, Runtime.SMALL, Operator.DEVELOPERS), 2, System.ECS_FARGATE),
        ((Unit.LONGER, Traffic.STEADY, Runtime.ACCELERATED, Operator.NOBODY), 10, System.EC2_ASG),
    ],
)
def test_cases_that_a_reader_would_decide_alike(
    answers: tuple[Unit, Traffic, Runtime, Operator], tenants: int, system: System
) -> None:
    assert given(Answers(*answers), tenants).best.system is system


def test_every_answer_is_explained_and_has_a_rule() -> None:
    ruled = {rule.answer for rule in RULES}
    for question, answers in zip(QUESTIONS, (Unit, Traffic, Runtime, Operator), strict=True):
        assert set(question.answers) == set(answers)
        assert set(answers) <= ruled


def test_no_rule_is_said_twice_and_nothing_rules_out_ec2() -> None:
    assert len({(rule.answer, rule.system) for rule in RULES}) == len(RULES)
    assert not [rule for rule in RULES if rule.system is System.EC2_ASG and rule.weight is Weight.RULED_OUT]
