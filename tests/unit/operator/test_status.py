"""The status that is written: kstatus' rules, times that move on transitions only, history."""

from datetime import timedelta

import pytest
from msgspec.structs import replace
from tenantry_operator.api.conditions import Condition, ConditionStatus, Reason
from tenantry_operator.api.tenant import HISTORY_LENGTH, PENDING, Outcome, TenantStatus
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.plan.assess import assess, failed
from tenantry_operator.plan.facts import Assessment, Facts, Failure, State
from tenantry_operator.plan.status import applied, first_ready, report, turned, verdicts

from tests.unit.operator.tenants import NOW, PLATFORM, new_facts, settled, tenant, told, workload

LATER = NOW + timedelta(minutes=5)


def written(facts: Facts) -> TenantStatus:
    """The status of these facts, written later."""
    return report(facts, assess(facts, GROUP_KINDS), PLATFORM, LATER)


def said(status: TenantStatus) -> dict[str, str]:
    """What each condition says."""
    return {condition.type: condition.status.value for condition in status.conditions}


def condition(status: TenantStatus, kind: str) -> Condition:
    """One condition."""
    return next(each for each in status.conditions if each.type == kind)


def kstatus(status: TenantStatus) -> str:
    """How kstatus reads the conditions (cli-utils pkg/kstatus/status/generic.go)."""
    says = said(status)
    if says.get("Stalled") == "True":
        return "Failed"
    if says.get("Reconciling") == "True" or says.get("Ready") != "True":
        return "InProgress"
    return "Current"


def test_before_the_operator_says_anything_a_tenant_is_on_its_way() -> None:
    assert said(PENDING) == {"Ready": "Unknown"}
    assert kstatus(PENDING) == "InProgress"


def test_the_first_touch_says_not_ready_and_reconciling() -> None:
    status = written(new_facts())
    assert said(status) == {
        "Ready": "False",
        "Reconciling": "True",
        "Stalled": "False",
        "Suspended": "False",
        "Drifted": "False",
        "Degraded": "False",
    }


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_verdict_on_every_condition_and_never_contradicts_itself(state: State) -> None:
    for stalled in (False, True):
        found = verdicts(Assessment(state=state, reason=Reason.PROGRESSING, stalled=stalled))
        true = {verdict.type.value for verdict in found if verdict.status is ConditionStatus.TRUE}
        assert len(found) == 6
        assert not {"Reconciling", "Stalled"} <= true
        # Who sleeps answers, too.
        assert ("Ready" in true) == (state in (State.READY, State.ASLEEP))


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (settled(), "Current"),
        (new_facts(), "InProgress"),
        (settled(workload=workload(available=0)), "InProgress"),
        (settled(tier=None), "Failed"),
        (settled(workload=workload(deadline_exceeded=True, available=0)), "Failed"),
    ],
)
def test_kstatus_judges_it_rightly(facts: Facts, verdict: str) -> None:
    assert kstatus(written(facts)) == verdict


def test_every_condition_names_the_generation_that_it_judged() -> None:
    status = written(settled())
    assert status.observed_generation == 3
    assert {each.observed_generation for each in status.conditions} == {3}


def test_nothing_new_is_nothing_to_write() -> None:
    facts = settled()
    assert written(facts) == facts.status


def test_a_transition_time_moves_when_the_status_turns_and_only_then() -> None:
    before = settled()
    broken = written(told(before, tier=None))
    assert condition(broken, "Ready").last_transition_time == LATER
    assert condition(broken, "Suspended").last_transition_time == NOW
    other = told(before, status=broken, tier=None, tenant=tenant(tier="gone-too"))
    even_later = report(other, assess(other, GROUP_KINDS), PLATFORM, LATER + timedelta(hours=1))
    assert condition(even_later, "Ready").message != condition(broken, "Ready").message
    assert condition(even_later, "Ready").last_transition_time == LATER


def test_suspension_adds_its_condition_and_leaves_the_rest_as_it_was_judged() -> None:
    before = settled()
    meta = replace(before.meta, generation=4)
    status = written(told(before, meta=meta, tenant=tenant(suspend={"reconcile": True})))
    assert condition(status, "Suspended").status is ConditionStatus.TRUE
    assert condition(status, "Ready") == condition(before.status, "Ready")
    assert status.observed_generation == 3


def test_a_tenant_that_begins_suspended_is_not_taken_for_finished() -> None:
    assert kstatus(written(new_facts(tenant=tenant(suspend={"reconcile": True})))) == "InProgress"


def test_failing_to_put_drift_back_shows_as_drift() -> None:
    refused = failed(Failure(Reason.APPLY_FORBIDDEN, "Deployment api: no"), drifted=True)
    status = report(settled(), refused, PLATFORM, LATER)
    assert said(status)["Drifted"] == "True"
    assert said(status)["Stalled"] == "True"


def test_a_hiccup_is_reconciling_not_stalled() -> None:
    passing = failed(Failure(Reason.PROGRESSING_WITH_RETRY, "no answer", stalled=False))
    assert kstatus(report(settled(), passing, PLATFORM, LATER)) == "InProgress"


def test_the_endpoint_is_inside_the_cluster_or_on_the_node_port() -> None:
    assert written(settled()).endpoint == "http://api.tenant-acme.svc.cluster.local/v1"
    exposed = settled(tenant=tenant(exposure={"nodePort": 30080}))
    assert written(exposed).endpoint == "http://127.0.0.1:30080/v1"


def test_pods_on_the_way_up_cause_no_write_for_each_of_them() -> None:
    pending = settled(workload=workload(available=0, ready=0, total=1))
    first = written(pending)
    more = replace(pending, status=first, workload=workload(available=0, ready=1, total=2))
    assert written(more) == first


def test_a_new_digest_is_a_new_revision_and_history_keeps_the_latest() -> None:
    status = TenantStatus()
    for number in range(HISTORY_LENGTH + 3):
        status = applied(status, f"sha256:{number}", "tenant-0.1.0", "f", NOW)
    assert status.applied is not None
    assert status.applied.revision == HISTORY_LENGTH + 3
    assert [entry.revision for entry in status.history] == [8, 7, 6, 5, 4]
    assert {entry.outcome for entry in status.history} == {Outcome.APPLIED}


def test_applying_the_same_digest_again_is_no_new_revision() -> None:
    once = applied(TenantStatus(), "sha256:a", "tenant-0.1.0", "f", NOW)
    again = applied(once, "sha256:a", "tenant-0.1.0", "g", LATER)
    assert again.history == once.history
    assert again.applied is not None
    assert (again.applied.revision, again.applied.fingerprint) == (1, "g")


def test_a_revision_that_became_ready_stays_so_whatever_happens_to_it_later() -> None:
    ready = settled(status=applied(settled().status, "sha256:wanted2", "tenant-0.1.0", "f", NOW))
    done = report(ready, Assessment(state=State.READY, reason=Reason.READY), PLATFORM, NOW)
    assert done.history[0].outcome is Outcome.READY
    stuck = Assessment(state=State.STUCK, reason=Reason.DEADLINE_EXCEEDED)
    assert report(replace(ready, status=done), stuck, PLATFORM, NOW).history[0].outcome is Outcome.READY
    assert report(ready, stuck, PLATFORM, NOW).history[0].outcome is Outcome.FAILED


def test_events_are_for_transitions_that_somebody_wants_to_hear_of() -> None:
    ready, begun = settled().status, written(new_facts())
    blocked = written(settled(tier=None))
    assert turned(TenantStatus(), begun) == []
    assert turned(begun, ready) == [], "the first Ready is no news"
    shared = Assessment(state=State.READY, reason=Reason.READY, degraded=(Reason.LIMITS_PER_REPLICA, "for each pod"))
    assert turned(begun, report(settled(), shared, PLATFORM, NOW)) == [], "nor is what comes with the settings"
    assert [each.type for each in turned(ready, report(settled(), shared, PLATFORM, NOW))] == ["Degraded"]
    assert [each.type for each in turned(written(new_facts(tier=None)), ready)] == ["Ready"], "unless it was stalled"
    assert [each.type for each in turned(ready, blocked)] == ["Ready", "Stalled"]
    assert [each.type for each in turned(blocked, ready)] == ["Ready"]
    assert turned(ready, ready) == []


def test_becoming_ready_for_the_first_time_happens_once() -> None:
    ready = settled().status
    begun = replace(ready, history=(replace(ready.history[0], outcome=Outcome.APPLIED),)) if ready.history else None
    assert begun is not None
    assert first_ready(begun, ready)
    assert not first_ready(ready, ready)
    assert not first_ready(begun, begun)
    assert first_ready(PENDING, ready), "also when all of it is in one write"
    assert not first_ready(replace(begun, history=(replace(begun.history[0], revision=6),)), ready), "who knows"


@pytest.mark.parametrize("facts", [settled(), settled(workload=None), settled(tier=None)])
def test_an_open_circuit_shows_whatever_else_is_the_case(facts: Facts) -> None:
    open_circuit = written(replace(facts, throttled=True))
    assert said(open_circuit)["Degraded"] == "True"
    assert condition(open_circuit, "Degraded").reason == Reason.CIRCUIT_OPEN
    assert said(open_circuit)["Ready"] == said(written(facts))["Ready"]


def test_history_names_the_revision_of_the_tier_also_where_the_tier_had_none_yet_when_it_was_applied() -> None:
    facts = settled()
    first = applied(TenantStatus(), facts.wanted.digest if facts.wanted else "", "tenant-1", "f", NOW)
    assert first.history[0].tier_revision == ""
    assert facts.wanted is not None
    later = replace(facts, status=first, wanted=replace(facts.wanted, tier_revision="standard-1"))
    assert written(later).history[0].tier_revision == "standard-1"
    moved = replace(later, wanted=replace(facts.wanted, digest="sha256:other", tier_revision="standard-2"))
    assert written(moved).history[0].tier_revision == "", "what is not applied is nobody's past"
