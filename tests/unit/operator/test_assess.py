"""Which state a tenant is in: one situation at a time, and their order."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.plan import names
from tenantry_operator.plan.assess import assess, missing_credentials, pause, retains
from tenantry_operator.plan.facts import FALLBACK, Assessment, Facts, LimiterMode, State
from tenantry_operator.plan.observed import Workload

from tests.unit.operator.tenants import NOW, SPACE, WANTED, child, new_facts, settled, tenant, tier, workload

CREDENTIALS = [{"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "openai"}]
GONE = datetime(2026, 1, 1, tzinfo=UTC)


def judge(facts: Facts) -> Assessment:
    """The assessment of these facts."""
    return assess(facts, GROUP_KINDS)


def test_what_is_known_to_be_due_shortens_the_pause_and_never_lengthens_it() -> None:
    ready, waiting = Assessment(state=State.READY, reason=Reason.READY), judge(settled(workload=None))
    assert waiting.requeue == FALLBACK
    assert pause(ready, None, NOW) is None
    assert pause(ready, NOW + timedelta(seconds=90), NOW) == 90
    assert pause(waiting, NOW + timedelta(seconds=90), NOW) == 90
    assert pause(waiting, NOW + timedelta(hours=1), NOW) == FALLBACK
    assert pause(ready, NOW - timedelta(seconds=1), NOW) == 0


def test_a_settled_tenant_is_ready_and_asks_for_nothing() -> None:
    assert judge(settled()) == Assessment(state=State.READY, reason=Reason.READY)


def test_a_new_tenant_is_first_prepared() -> None:
    assert judge(new_facts()).state is State.UNPREPARED


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (settled(meta=replace(settled().meta, finalizers=())), State.UNPREPARED),
        (settled(meta=replace(settled().meta, annotations={})), State.UNPREPARED),
        (settled(meta=replace(settled().meta, labels={})), State.UNPREPARED),
        (settled(namespace=None), State.UNCLAIMED),
        (settled(namespace=child("Namespace", SPACE, tenant_uid="somebody")), State.UNCLAIMED),
        (settled(children=settled().children[:1]), State.UNCLAIMED),
        (settled(keys=None), State.KEYLESS),
        (settled(wanted=None), State.KEYLESS),
        (settled(wanted=replace(WANTED, digest="sha256:other")), State.OUTDATED),
        (settled(status=replace(settled().status, applied=None)), State.OUTDATED),
        (settled(children=settled().children[:2]), State.DRIFTED),
    ],
)
def test_each_thing_that_is_missing_leads_to_the_step_that_makes_it(facts: Facts, state: State) -> None:
    assert judge(facts).state is state


def test_a_field_changed_by_somebody_else_is_drift() -> None:
    namespace, binding, deployment = settled().children
    changed = settled(children=(namespace, binding, replace(deployment, fields="other")))
    assert judge(changed).state is State.DRIFTED


def test_an_object_that_is_not_of_the_set_is_no_drift() -> None:
    stranger = child("ConfigMap", "notes", set_id="")
    assert judge(settled(children=(*settled().children, stranger))).state is State.READY


def test_deletion_comes_before_everything_else() -> None:
    dying = replace(settled().meta, deletion_timestamp=GONE)
    suspended = tenant(suspend={"reconcile": True})
    assert judge(settled(meta=dying, tenant=suspended)).state is State.DELETING
    assert judge(settled(meta=dying, tier=None)).state is State.DELETING
    assert judge(settled(meta=dying, tenant=FieldError("spec", "broken"))).state is State.DELETING


@pytest.mark.parametrize(
    ("facts", "reason", "word"),
    [
        (settled(tenant=FieldError("spec.tier", "is required")), Reason.INVALID_SPEC, "spec.tier"),
        (settled(tier=None), Reason.TIER_NOT_FOUND, "standard"),
        (settled(tier=FieldError("spec.keys", "is odd")), Reason.TIER_INVALID, "spec.keys"),
        (settled(tier=tier(upstreams=[])), Reason.INVALID_SPEC, "spec.upstreams"),
        (settled(tenant=tenant(upstreams=CREDENTIALS)), Reason.CREDENTIALS_NOT_FOUND, "openai"),
    ],
)
def test_what_only_somebody_else_can_heal_is_stalled_and_says_what_to_do(
    facts: Facts, reason: Reason, word: str
) -> None:
    verdict = judge(facts)
    assert (verdict.state, verdict.reason, verdict.stalled) == (State.BLOCKED, reason, True)
    assert word in verdict.message


def test_a_blocked_tenant_is_blocked_also_when_it_is_new() -> None:
    assert judge(new_facts(tier=None)).reason is Reason.TIER_NOT_FOUND


def test_suspended_means_hands_off_even_from_drift() -> None:
    facts = settled(tenant=tenant(suspend={"reconcile": True}), children=())
    assert judge(facts).state is State.SUSPENDED


@pytest.mark.parametrize("own_tier", [None, FieldError("spec.keys", "is odd"), tier(upstreams=[])])
def test_suspended_means_hands_off_also_when_the_tier_is_of_no_use(own_tier: TenantTier | FieldError | None) -> None:
    held = tenant(suspend={"reconcile": True})
    assert judge(settled(tenant=held, tier=own_tier)).state is State.SUSPENDED
    assert judge(settled(tenant=tenant(suspend={"reconcile": False}), tier=own_tier)).state is State.BLOCKED


def test_a_tier_may_suspend_and_its_tenant_go_on() -> None:
    suspending = tier(suspend={"reconcile": True})
    assert judge(settled(tier=suspending)).state is State.SUSPENDED
    assert judge(settled(tier=suspending, tenant=tenant(suspend={"reconcile": False}))).state is State.READY


def test_a_dying_namespace_is_waited_for() -> None:
    verdict = judge(settled(namespace=child("Namespace", SPACE, terminating=True)))
    assert (verdict.state, verdict.stalled) == (State.NAMESPACE_TERMINATING, False)
    assert verdict.requeue is not None


@pytest.mark.parametrize(
    ("pods", "state", "reason"),
    [
        (workload(current=False), State.PROGRESSING, Reason.PROGRESSING),
        (workload(available=0), State.PROGRESSING, Reason.PROGRESSING),
        (workload(wanted=2, updated=1), State.PROGRESSING, Reason.PROGRESSING),
        (workload(total=2), State.PROGRESSING, Reason.PROGRESSING),
        (workload(wanted=0, total=0, available=0), State.ASLEEP, Reason.ASLEEP),
        (workload(refused="pods is forbidden: exceeded quota: tenant"), State.STUCK, Reason.QUOTA_BLOCKED),
        (workload(refused="pods is forbidden: violates PodSecurity"), State.STUCK, Reason.PODS_NOT_READY),
        (workload(deadline_exceeded=True, available=0), State.STUCK, Reason.DEADLINE_EXCEEDED),
        (None, State.PROGRESSING, Reason.PROGRESSING),
    ],
)
def test_health_follows_the_deployment(pods: object, state: State, reason: Reason) -> None:
    never_up = replace(settled().status, history=())
    verdict = judge(settled(workload=pods, status=never_up))
    assert (verdict.state, verdict.reason) == (state, reason)


@pytest.mark.parametrize(
    "pods",
    [
        workload(current=False),
        workload(wanted=3, total=3, updated=1),
        workload(wanted=3, refused="exceeded quota"),
        workload(wanted=2, deadline_exceeded=True),
    ],
)
def test_a_revision_that_was_up_stays_ready_while_pods_come_and_go_with_the_load(pods: Workload) -> None:
    assert judge(settled(workload=pods)).state is State.READY
    assert judge(settled(workload=replace(pods, available=0))).state is not State.READY


def test_what_is_on_its_way_out_is_not_there() -> None:
    namespace, binding, deployment = settled().children
    leaving = settled(children=(namespace, binding, replace(deployment, terminating=True)))
    assert judge(leaving).state is State.DRIFTED
    orphan = child("ConfigMap", "old", terminating=True)
    assert judge(settled(children=(*settled().children, orphan))).state is State.READY


def test_traffic_suspended_is_a_state_of_its_own() -> None:
    facts = settled(tenant=tenant(suspend={"traffic": True}))
    assert judge(facts).state is State.PAUSED


def test_fewer_pods_than_wanted_is_ready_but_degraded() -> None:
    verdict = judge(settled(workload=workload(wanted=3, updated=3, available=2)))
    assert verdict.state is State.READY
    assert verdict.degraded == (Reason.PARTLY_AVAILABLE, "2 of 3 pods are available")


@pytest.mark.parametrize(
    ("spec", "degraded"),
    [
        ({"autoscaling": {"maxReplicas": 2}, "limits": {"requestsPerMinute": 60}}, True),
        ({"autoscaling": {"maxReplicas": 2}, "budget": {"amount": "10"}}, True),
        ({"autoscaling": {"maxReplicas": 2}}, False),
        ({"limits": {"requestsPerMinute": 60}}, False),
    ],
)
def test_limits_that_hold_per_pod_only_are_said_to_be_so(spec: dict[str, object], degraded: bool) -> None:
    verdict = judge(settled(tenant=tenant(**spec)))
    assert (verdict.degraded is not None and verdict.degraded[0] is Reason.LIMITS_PER_REPLICA) is degraded


def test_limits_that_hold_for_all_pods_together_need_no_warning() -> None:
    spec = tenant(autoscaling={"maxReplicas": 2}, limits={"requestsPerMinute": 60})
    assert judge(settled(tenant=spec, counts_shared=True)).degraded is None


def test_counters_that_cannot_be_reached_degrade_whoever_is_served() -> None:
    problem = (Reason.LIMITS_UNREACHABLE, "Redis does not answer")
    verdict = judge(settled(counts_shared=True, store_problem=problem))
    assert (verdict.state, verdict.degraded) == (State.READY, problem)


@pytest.mark.parametrize(
    ("mode", "reason", "said"),
    [
        (LimiterMode.REFUSING, Reason.LIMITS_REFUSING, "1 of 2 pods .* refuse requests"),
        (LimiterMode.LOCAL_SHARE, Reason.LIMITS_LOCAL_SHARE, "1 of 2 pods .* grant a share"),
    ],
)
def test_pods_that_are_cut_off_from_the_counters_degrade_their_tenant(
    mode: LimiterMode, reason: Reason, said: str
) -> None:
    facts = settled(counts_shared=True, limiter_mode=(mode, 1, 2), store_problem=(Reason.LIMITS_UNREACHABLE, ""))
    verdict = judge(facts)
    assert verdict.degraded is not None
    assert verdict.degraded[0] is reason
    assert re.match(said, verdict.degraded[1])


def test_only_usable_credentials_count() -> None:
    facts = settled(tenant=tenant(upstreams=CREDENTIALS), credentials={"openai": "hash"})
    spec = facts.spec
    assert not isinstance(spec, Assessment)
    assert missing_credentials(spec, facts.credentials) == []
    assert missing_credentials(spec, {"other": "hash"}) == ["openai"]


def test_retention_is_decided_by_the_spec_then_by_what_was_applied_last() -> None:
    assert retains(settled(tenant=tenant(deletionPolicy="Retain")), None)
    assert retains(settled(tier=tier(deletionPolicy="Retain")), "Delete")
    assert not retains(settled(), "Retain")
    assert retains(settled(tier=None), "Retain")
    assert not retains(settled(tier=None), None)
    assert retains(settled(tier=None, tenant=tenant(deletionPolicy="Retain")), "Delete")


def test_a_set_is_prepared_also_when_it_lists_more_kinds_than_we_know() -> None:
    meta = settled().meta
    more = {**meta.annotations, names.SET_GROUP_KINDS: meta.annotations[names.SET_GROUP_KINDS] + ",Widget.example"}
    assert judge(settled(meta=replace(meta, annotations=more))).state is State.READY
