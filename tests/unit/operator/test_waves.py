"""Roll-outs: who may move when, as laws over whole roll-outs and as single situations."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tenantry_operator.api.conditions import Condition, ConditionStatus, Reason
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.rollout import Rollout, Standing
from tenantry_operator.api.tenant import Outcome, Revision, TenantStatus
from tenantry_operator.plan.waves import Decision, Health, Member, Phase, Policy, decide, member, policy

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = Policy(waves=(10, 50, 100), pause=timedelta(minutes=5), deadline=timedelta(minutes=10))
OLD, NEW = "standard-old", "standard-new"


def fleet(number: int, revision: str = OLD) -> list[Member]:
    """Ready Tenants."""
    return [
        Member(name=f"t{each}", uid=f"uid-{each}", revision=revision, health=Health.READY, ready_since=START)
        for each in range(number)
    ]


def moved(each: Member, now: datetime, health: Health = Health.READY) -> Member:
    """The Tenant after its move."""
    since = now if health is Health.READY else None
    return replace(each, revision=NEW, health=health, counted=True, moved_at=now, ready_since=since)


def ask(
    members: Sequence[Member],
    *,
    wave: int = 0,
    now: datetime = START,
    rules: Policy = RULES,
    target: str = NEW,
    current: str = OLD,
    ordered_back: bool = False,
) -> Decision:
    """The decision on these."""
    return decide(members, rules, target=target, current=current, wave=wave, ordered_back=ordered_back, now=now)


def carried_out(members: Sequence[Member], decision: Decision, now: datetime) -> list[Member]:
    """Everybody who may move has moved and is Ready."""
    return [moved(each, now) if each.name in decision.may_move else each for each in members]


WAVES = st.lists(st.integers(1, 100), max_size=5).map(lambda found: tuple(sorted({*found, 100})))


@given(number=st.integers(0, 30), waves=WAVES, data=st.data())
def test_a_roll_out_whose_tenants_stay_ready_reaches_all_of_them_and_never_more_than_its_waves_share(
    number: int, waves: tuple[int, ...], data: st.DataObject
) -> None:
    rules = replace(RULES, waves=waves)
    members, wave, now, came_from = fleet(number), 0, START, OLD
    for _ in range(4 * number + 4 * len(waves) + 4):
        before = {each.name for each in members if each.revision == NEW}
        decision = ask(members, wave=wave, now=now, rules=rules, current=came_from)
        assert decision.wave >= wave
        assert not decision.may_move & before
        share = -(-number * waves[max(decision.wave, 1) - 1] // 100)
        assert len(before | decision.may_move) <= share
        if decision.phase is Phase.COMPLETE:
            break
        wave = decision.wave
        # Some of them at a time: the operator may be slow, or killed in between.
        some = data.draw(st.integers(1, len(decision.may_move))) if decision.may_move else 0
        names = sorted(decision.may_move)[:some]
        members = [moved(each, now) if each.name in names else each for each in members]
        assert before <= {each.name for each in members if each.revision == NEW}
        now = decision.look_again or now + timedelta(seconds=1)
    assert decision.phase is Phase.COMPLETE
    assert all(each.revision == NEW for each in members)
    assert decision.current == NEW


@given(
    number=st.integers(1, 60), waves=WAVES, bad=st.integers(1, 5), allowed=st.integers(0, 4), later=st.integers(0, 9)
)
def test_a_halted_roll_out_never_moves_another_tenant(
    number: int, waves: tuple[int, ...], bad: int, allowed: int, later: int
) -> None:
    rules = replace(RULES, waves=waves, max_unready=allowed)
    members = fleet(number)
    first = ask(members, rules=rules)
    gone = sorted(first.may_move)
    failing = gone[:bad]
    members = [
        moved(each, START, Health.FAILING if each.name in failing else Health.READY) if each.name in gone else each
        for each in members
    ]
    for minutes in (0, 5, 60 * later):
        decision = ask(members, wave=first.wave, now=START + timedelta(minutes=minutes), rules=rules)
        if len(failing) > allowed:
            assert decision.phase is Phase.HALTED
            assert decision.may_move == frozenset()
            assert decision.failing == tuple(sorted(failing))
            assert decision.for_newcomers == OLD
        else:
            assert decision.phase is not Phase.HALTED


@given(number=st.integers(1, 40), data=st.data())
def test_the_order_is_the_same_whoever_decides(number: int, data: st.DataObject) -> None:
    members = fleet(number)
    shuffled = data.draw(st.permutations(members))
    assert ask(members) == ask(shuffled)


def test_the_next_wave_begins_when_all_that_were_moved_have_been_ready_for_the_pause() -> None:
    members = fleet(20)
    first = ask(members)
    assert (first.phase, first.wave, len(first.may_move)) == (Phase.MOVING, 1, 2)
    members = carried_out(members, first, START)
    waiting = ask(members, wave=1, now=START + timedelta(minutes=4))
    assert (waiting.phase, waiting.may_move) == (Phase.BETWEEN_WAVES, frozenset())
    assert waiting.look_again == START + RULES.pause
    second = ask(members, wave=1, now=START + RULES.pause)
    assert (second.phase, second.wave, len(second.may_move)) == (Phase.MOVING, 2, 8)


def test_a_wave_that_has_begun_goes_on_although_its_first_tenants_are_not_ready_yet() -> None:
    members = [moved(each, START) for each in fleet(2)] + fleet(20)[2:]
    now = START + RULES.pause
    begun = ask(members, wave=1, now=now)
    one = sorted(begun.may_move)[0]
    members = [moved(each, now, Health.UNREADY) if each.name == one else each for each in members]
    going_on = ask(members, wave=begun.wave, now=now)
    assert going_on.may_move == begun.may_move - {one}


def test_a_tenant_that_takes_its_time_holds_up_the_next_wave_until_its_deadline() -> None:
    slow = [moved(each, START, Health.UNREADY) for each in fleet(2)]
    decision = ask([*slow, *fleet(20)[2:]], wave=1, now=START + timedelta(minutes=9))
    assert decision.phase is Phase.SETTLING
    assert decision.look_again == START + RULES.deadline


def test_tenants_that_may_be_unready_do_not_hold_up_anything() -> None:
    one, other = fleet(2)
    members = [moved(one, START, Health.FAILING), moved(other, START), *fleet(20)[2:]]
    rules = replace(RULES, max_unready=1)
    assert ask(members, wave=1, now=START + RULES.pause, rules=rules).phase is Phase.MOVING


def test_who_was_unfit_before_or_has_changed_his_spec_since_says_nothing_about_the_revision() -> None:
    own = replace(moved(fleet(1)[0], START, Health.FAILING), counted=False)
    decision = ask([own, *fleet(20)[1:]], wave=1, now=START + RULES.pause)
    assert decision.phase is Phase.MOVING


def test_back_to_what_last_reached_everybody_goes_at_once() -> None:
    members = [moved(each, START, Health.FAILING) for each in fleet(10)] + fleet(20)[10:]
    back = ask(members, target=OLD, wave=0)
    assert back.phase is Phase.AT_ONCE
    assert back.may_move == {f"t{each}" for each in range(10)}
    assert back.for_newcomers == OLD


def test_an_ordered_return_goes_at_once_and_holds_from_then_on() -> None:
    members = fleet(20)
    back = ask(members, target="standard-older", ordered_back=True)
    assert len(back.may_move) == 20
    arrived = [replace(each, revision="standard-older") for each in members]
    done = ask(arrived, target="standard-older", ordered_back=True)
    assert (done.phase, done.current) == (Phase.COMPLETE, "standard-older")


def test_a_paused_roll_out_moves_nobody_forward_or_back() -> None:
    rules = replace(RULES, paused=True)
    assert ask(fleet(20), rules=rules).may_move == frozenset()
    assert ask(fleet(20), rules=rules, ordered_back=True).may_move == frozenset()
    assert ask(fleet(20), rules=rules).for_newcomers == OLD


def test_victims_of_a_former_roll_out_come_first_in_the_next() -> None:
    members = fleet(20)
    victims = sorted(ask(members).may_move)
    last = sorted(each.name for each in members if each.name not in victims)[0]
    hit = [moved(each, START, Health.FAILING) if each.name == last else each for each in members]
    assert last in ask(hit, target="standard-fix").may_move


def test_once_complete_it_stays_so_whatever_becomes_of_its_tenants_later() -> None:
    members = [moved(each, START, Health.FAILING) for each in fleet(5)]
    later = ask(members, target=NEW, current=NEW, wave=3, now=START + timedelta(days=30))
    assert later.phase is Phase.COMPLETE


def test_new_tenants_begin_on_the_newest_revision_unless_it_is_doubted() -> None:
    assert ask(fleet(20)).for_newcomers == NEW
    assert ask(fleet(20), rules=replace(RULES, paused=True), current="").for_newcomers == NEW


def test_defaults_and_waves_out_of_order() -> None:
    assert policy(None) == Policy()
    said = policy(Rollout(waves=(50, 5), pause="1m", progress_deadline="30s", max_unready=2, paused=True))
    assert said.waves == (5, 50, 100)
    assert (said.pause, said.deadline) == (timedelta(minutes=1), timedelta(seconds=30))
    assert (said.max_unready, said.paused) == (2, True)


META = ObjectMeta(name="acme", uid="u", generation=3)


def status(ready: str, reason: Reason, outcome: Outcome, *, stalled: str = "False", **standing: object) -> TenantStatus:
    """A Tenant's status after its move to NEW."""
    place = replace(Standing(revision=NEW, moved_at=START, generation=3, counted=True), **standing)
    conditions = tuple(
        Condition(type=kind, status=ConditionStatus(said), reason=why.value, last_transition_time=START)
        for kind, said, why in (("Ready", ready, reason), ("Stalled", stalled, Reason.AS_EXPECTED))
    )
    entry = Revision(revision=2, digest="d", chart="c", time=START, outcome=outcome)
    return TenantStatus(conditions=conditions, history=(entry,), rollout=place)


@pytest.mark.parametrize(
    ("said", "minutes", "health"),
    [
        (status("True", Reason.READY, Outcome.READY), 1, Health.READY),
        (status("False", Reason.PROGRESSING, Outcome.APPLIED), 1, Health.UNREADY),
        (status("False", Reason.PROGRESSING, Outcome.APPLIED), 10, Health.FAILING),
        (status("False", Reason.PROGRESSING, Outcome.READY), 1, Health.FAILING),
        (status("False", Reason.QUOTA_BLOCKED, Outcome.FAILED), 1, Health.FAILING),
        (status("False", Reason.CREDENTIALS_NOT_FOUND, Outcome.APPLIED, stalled="True"), 1, Health.FAILING),
        (status("False", Reason.ASLEEP, Outcome.READY), 1, Health.READY),
        (status("False", Reason.TRAFFIC_SUSPENDED, Outcome.READY), 1, Health.READY),
    ],
)
def test_health_is_read_from_the_status(said: TenantStatus, minutes: int, health: Health) -> None:
    found = member(META, said, RULES, START + timedelta(minutes=minutes))
    assert (found.health, found.revision, found.counted) == (health, NEW, True)


def test_a_tenant_that_changed_its_own_spec_since_the_move_no_longer_counts() -> None:
    said = status("False", Reason.PROGRESSING, Outcome.READY)
    assert not member(replace(META, generation=4), said, RULES, START).counted
