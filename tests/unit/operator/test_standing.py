"""Which revision of its tier holds for a Tenant, and what revisions are."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tenantry_operator.api.conditions import Condition, ConditionStatus
from tenantry_operator.api.decode import decode_tenant, decode_tier
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.rollout import Rollout, Standing
from tenantry_operator.api.tenant import Applied, TenantSpec, TenantStatus
from tenantry_operator.api.tier import TierSpec
from tenantry_operator.plan import desired
from tenantry_operator.plan.revisions import (
    KEPT,
    Image,
    TierRevision,
    from_object,
    revision_of,
    superfluous,
    to_object,
)
from tenantry_operator.plan.standing import Choice, choose, takes_part
from tenantry_operator.plan.waves import Decision, Phase

NOW = datetime(2026, 1, 1, tzinfo=UTC)
META = ObjectMeta(name="acme", uid="u", generation=3)
IMAGE = Image(repository="tenantry", tag="1.0")


def spec(**fields: object) -> TierSpec:
    """A tier's spec."""
    return decode_tier({"metadata": {"name": "standard"}, "spec": fields}).spec


def acme(**own: object) -> TenantSpec:
    """A Tenant's spec."""
    return decode_tenant({"metadata": {"name": "acme"}, "spec": {"tier": "standard", **own}}).spec


def revision(name: str, tier: str = "standard", number: int = 1) -> TierRevision:
    """One revision."""
    return TierRevision(name=name, tier=tier, number=number, spec=spec(), image=IMAGE, chart="c")


KNOWN = {name: revision(name) for name in ("standard-a", "standard-b")} | {"other-a": revision("other-a", "other")}
HALTED = Decision(phase=Phase.HALTED, target="standard-b", current="standard-a", wave=1)
MOVING = replace(HALTED, phase=Phase.MOVING, may_move=frozenset({"acme"}))


def on(name: str, **standing: object) -> TenantStatus:
    """A Ready Tenant that is on this revision."""
    ready = Condition(type="Ready", status=ConditionStatus.TRUE, reason="Ready", last_transition_time=NOW)
    return TenantStatus(conditions=(ready,), rollout=replace(Standing(revision=name), **standing))


def chosen(
    status: TenantStatus, decision: Decision, known: Mapping[str, TierRevision] = KNOWN, **own: object
) -> Choice:
    """The choice for acme."""
    found = choose(META, acme(**own), status, known, decision, NOW)
    assert found is not None
    return found


def test_a_tenant_stays_where_it_is_until_its_turn() -> None:
    choice = chosen(on("standard-a"), HALTED)
    assert (choice.revision.name, choice.held) == ("standard-a", True)
    assert choice.standing == Standing(revision="standard-a")


def test_a_tenant_whose_turn_it_is_goes_on_and_the_move_is_noted() -> None:
    choice = chosen(on("standard-a"), MOVING)
    assert (choice.revision.name, choice.held) == ("standard-b", False)
    assert choice.standing == Standing(revision="standard-b", moved_at=NOW, generation=3, counted=True)


def test_a_move_is_noted_once() -> None:
    moved = chosen(on("standard-a"), MOVING).standing
    again = choose(META, acme(), TenantStatus(rollout=moved), KNOWN, HALTED, NOW.replace(year=2027))
    assert again is not None
    assert (again.standing, again.held) == (moved, False)


def test_who_was_not_ready_says_nothing_about_the_new_revision_unless_a_roll_out_made_it_so() -> None:
    unready = replace(on("standard-a"), conditions=())
    assert not chosen(unready, MOVING).standing.counted
    victim = replace(unready, rollout=Standing(revision="standard-a", moved_at=NOW, generation=3, counted=True))
    assert chosen(victim, MOVING).standing.counted


@pytest.mark.parametrize("status", [TenantStatus(), on("other-a"), on("standard-gone")])
def test_who_is_new_to_the_tier_begins_on_the_newest_revision_or_on_the_last_good_one(status: TenantStatus) -> None:
    assert chosen(status, MOVING).revision.name == "standard-b"
    assert chosen(status, HALTED).revision.name == "standard-a"


def test_a_pinned_tenant_has_what_it_names_or_nothing() -> None:
    pinned = chosen(on("standard-b"), MOVING, tierRevision="standard-a")
    assert (pinned.revision.name, pinned.held) == ("standard-a", True)
    for name in ("standard-gone", "other-a"):
        wanted = acme(tierRevision=name)
        assert choose(META, wanted, on("standard-a"), KNOWN, MOVING, NOW) is None


def test_waves_pass_by_who_is_pinned_suspended_or_on_its_way_out() -> None:
    assert takes_part(META, acme())
    assert takes_part(META, acme(suspend={"traffic": True}))
    assert not takes_part(META, acme(tierRevision="standard-a"))
    assert not takes_part(META, acme(suspend={"reconcile": True}))
    assert not takes_part(replace(META, deletion_timestamp=NOW), acme())


def test_equal_content_is_the_same_revision_and_what_reaches_no_tenant_is_no_content() -> None:
    first = revision_of("standard", "u", spec(), IMAGE, "c", [])
    other = revision_of("standard", "u", spec(budget={"amount": "1"}), IMAGE, "c", [first])
    assert (first.number, other.number) == (1, 2)
    assert first.name.startswith("standard-")
    assert first.name != other.name
    talked_about = replace(spec(summary="Cheap."), rollout=Rollout(paused=True))
    assert revision_of("standard", "u", talked_about, IMAGE, "c", [other, first]) == first
    for changed in (
        revision_of("standard", "u", spec(), replace(IMAGE, tag="2.0"), "c", []),
        revision_of("standard", "u", spec(), IMAGE, "d", []),
        revision_of("standard", "v", spec(), IMAGE, "c", []),
    ):
        assert changed.name != first.name


def test_a_revision_comes_back_from_its_object_as_it_was() -> None:
    made = revision_of("standard", "u", spec(budget={"amount": "1"}, limits={"requestsPerMinute": 5}), IMAGE, "c", [])
    raw = to_object(made, "tenantry-system")
    assert from_object(raw) == made
    assert from_object({**raw, "data": {"spec": {"keys": 5}}}) is None
    assert from_object({**raw, "metadata": {"name": "x", "labels": {}}}) is None


@given(numbers=st.sets(st.integers(1, 60), max_size=40), data=st.data())
def test_history_keeps_the_latest_and_all_that_are_in_use(numbers: set[int], data: st.DataObject) -> None:
    known = [revision(f"standard-{number}", number=number) for number in sorted(numbers)]
    used = data.draw(st.sets(st.sampled_from([each.name for each in known]))) if known else set()
    gone = {each.name for each in superfluous(known, used)}
    assert not gone & used
    kept = [each for each in known if each.name not in gone | used]
    assert len(kept) == min(KEPT, len(known) - len(used))
    assert all(each.number < kept[0].number for each in known if each.name in gone)


def test_a_held_tenant_keeps_what_was_applied_until_it_brings_in_something_itself() -> None:
    def inputs(credentials: Mapping[str, str], **own: object) -> str:
        return desired.inputs(acme(**own), (), credentials)

    applied = Applied(digest="d", chart="c", revision=1, inputs=inputs({}), tier_revision="standard-a")
    assert desired.unmoved(applied, inputs({}), revision("standard-a"))
    assert desired.unmoved(applied, inputs({}, tierRevision="standard-a"), revision("standard-a"))
    assert not desired.unmoved(applied, inputs({}, deletionProtection=True), revision("standard-a"))
    assert not desired.unmoved(applied, inputs({"openai": "rotated"}), revision("standard-a"))
    assert not desired.unmoved(applied, inputs({}), revision("standard-b"))
