"""What a TenantTier says of its roll-out."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.rollout import TierStatus
from tenantry_operator.plan.tier_status import Judged, news, only_counts, report
from tenantry_operator.plan.waves import Decision, Health, Member, Phase

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEMBERS = [
    Member(name="a", uid="1", revision="standard-b", health=Health.READY, ready_since=NOW),
    Member(name="b", uid="2", revision="standard-a", health=Health.UNREADY),
]


def judged(phase: Phase, **decided: object) -> Judged:
    """A roll-out at this stage."""
    plain = Decision(phase=phase, target="standard-b", current="standard-a", wave=1, look_again=NOW)
    return Judged(tier="standard", generation=4, decision=replace(plain, **decided), waves=3, members=MEMBERS)


def said(status: TierStatus) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    return {each.type: (each.status.value, each.reason) for each in status.conditions}


@pytest.mark.parametrize(
    ("phase", "ready", "reconciling", "stalled", "reason"),
    [
        (Phase.COMPLETE, "True", "False", "False", Reason.UP_TO_DATE),
        (Phase.MOVING, "False", "True", "False", Reason.ROLLING_OUT),
        (Phase.SETTLING, "False", "True", "False", Reason.ROLLING_OUT),
        (Phase.BETWEEN_WAVES, "False", "True", "False", Reason.BETWEEN_WAVES),
        (Phase.AT_ONCE, "False", "True", "False", Reason.ROLLING_BACK),
        (Phase.PAUSED, "False", "False", "False", Reason.ROLLOUT_PAUSED),
        (Phase.HALTED, "False", "False", "True", Reason.ROLLOUT_HALTED),
    ],
)
def test_each_stage_has_its_conditions(
    phase: Phase, ready: str, reconciling: str, stalled: str, reason: Reason
) -> None:
    status = report(TierStatus(), judged(phase, failing=("a",)), NOW)
    conditions = said(status)
    assert conditions["Ready"] == (ready, reason.value)
    assert conditions["Reconciling"][0] == reconciling
    assert conditions["Stalled"][0] == stalled
    assert (status.tenants, status.updated, status.ready, status.wave) == (2, 1, 1, 1)
    assert status.observed_generation == 4


def test_the_same_is_said_in_the_same_words() -> None:
    status = report(TierStatus(), judged(Phase.BETWEEN_WAVES), NOW)
    assert report(status, judged(Phase.BETWEEN_WAVES), NOW + timedelta(hours=1)) == status


def test_a_halt_names_the_tenants_and_the_remedies() -> None:
    failing = tuple("abcdefg")
    status = report(TierStatus(), judged(Phase.HALTED, failing=failing), NOW)
    message = next(each.message for each in status.conditions if each.type == "Stalled")
    assert "a, b, c, d, e and 2 more" in message
    assert "kubectl describe tenant a" in message
    assert (
        """kubectl patch tenanttier standard --type=merge -p '{"spec":{"rollout":{"rollbackTo":"standard-a"}}}'"""
        in (message)
    )
    nowhere = report(TierStatus(), judged(Phase.HALTED, failing=failing, current=""), NOW)
    assert "rollbackTo" not in str(nowhere.conditions)


def test_a_revision_that_nobody_knows_is_named_and_stalls() -> None:
    status = report(TierStatus(), replace(judged(Phase.PAUSED), unknown="standard-x"), NOW)
    assert said(status)["Stalled"] == ("True", "RevisionNotFound")
    assert "standard-x" in str(status.conditions)


def test_only_a_new_stage_deserves_an_event() -> None:
    first = report(TierStatus(), judged(Phase.COMPLETE), NOW)
    assert news(TierStatus(), first) is None
    moving = report(first, judged(Phase.MOVING), NOW)
    assert news(first, moving) == (Reason.ROLLING_OUT, "wave 1 of 3 is on its way to standard-b")
    assert news(moving, replace(moving, ready=7)) is None
    done = news(moving, first)
    assert done is not None
    assert done == (Reason.UP_TO_DATE, Reason.UP_TO_DATE.meaning)


def test_numbers_alone_may_wait() -> None:
    status = report(TierStatus(), judged(Phase.MOVING), NOW)
    assert only_counts(status, replace(status, ready=9, updated=8, tenants=20))
    assert not only_counts(status, replace(status, ready=9, wave=2))
