"""Conditions: times move on transitions only, foreign conditions stay, reasons are a closed and described set."""

import re
from datetime import UTC, datetime, timedelta

from tenantry_operator.api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    Verdict,
    transition,
)

MORNING = datetime(2026, 5, 1, 8, tzinfo=UTC)
NOON = MORNING + timedelta(hours=4)


def ready(status: ConditionStatus, reason: Reason, message: str = "") -> Verdict:
    return Verdict(type=ConditionType.READY, status=status, reason=reason, message=message)


def test_time_stands_still_while_only_reason_message_and_generation_change() -> None:
    first = transition((), [ready(ConditionStatus.FALSE, Reason.PROGRESSING)], generation=1, now=MORNING)
    second = transition(first, [ready(ConditionStatus.FALSE, Reason.QUOTA_BLOCKED, "no room")], generation=2, now=NOON)
    assert second[0].last_transition_time == MORNING
    assert (second[0].reason, second[0].message, second[0].observed_generation) == ("QuotaBlocked", "no room", 2)


def test_time_moves_when_the_status_changes() -> None:
    first = transition((), [ready(ConditionStatus.FALSE, Reason.PROGRESSING)], generation=1, now=MORNING)
    second = transition(first, [ready(ConditionStatus.TRUE, Reason.READY)], generation=1, now=NOON)
    assert second[0].last_transition_time == NOON


def test_the_same_verdict_again_changes_nothing() -> None:
    first = transition((), [ready(ConditionStatus.TRUE, Reason.READY)], generation=1, now=MORNING)
    assert transition(first, [ready(ConditionStatus.TRUE, Reason.READY)], generation=1, now=NOON) == first


def test_a_condition_of_somebody_else_stays_as_it_is() -> None:
    foreign = Condition(
        type="example.com/Audited", status=ConditionStatus.TRUE, reason="Ok", last_transition_time=MORNING
    )
    result = transition([foreign], [ready(ConditionStatus.TRUE, Reason.READY)], generation=1, now=NOON)
    assert [condition.type for condition in result] == ["Ready", "example.com/Audited"]
    assert result[1] == foreign


def test_times_have_whole_seconds_because_the_api_server_keeps_no_more() -> None:
    now = MORNING.replace(microsecond=123_456)
    result = transition((), [ready(ConditionStatus.TRUE, Reason.READY)], generation=1, now=now)
    assert result[0].last_transition_time == MORNING


def test_every_reason_is_one_camel_case_word_with_a_meaning() -> None:
    for reason in Reason:
        assert re.fullmatch(r"([A-Z][a-z]+)+", reason.value), reason
        assert reason.meaning.endswith("."), reason
