"""What scaling goes by, from the facts of a reconcile."""

from datetime import timedelta

from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import TenantStatus, Usage
from tenantry_operator.plan import desired
from tenantry_operator.plan.assess import resolved
from tenantry_operator.plan.facts import Assessment, Facts, State
from tenantry_operator.scaling.noted import SHORTEST, noted

from tests.unit.operator.tenants import DIGEST, KEY, NOW, PLATFORM, new_facts, tenant, tier

READY = Assessment(state=State.READY, reason=Reason.READY)


def facts(usage: Usage | None = None, **spec: object) -> Facts:
    made = tenant(**spec)
    found = resolved(made, tier())
    assert isinstance(found, ResolvedSpec)
    document = desired.policy("acme", 3, found, [KEY])
    wanted = desired.Wanted(spec=found, values=desired.values("acme", found, document, PLATFORM), digest=DIGEST)
    return new_facts(tenant=made, wanted=wanted, status=TenantStatus(usage=usage))


def test_a_tenant_that_may_sleep_is_noted_with_its_keys() -> None:
    found = noted(facts(autoscaling={"minReplicas": 0, "idleAfter": "10m"}), READY)
    assert found is not None
    assert (found.may_sleep, found.scales, found.idle_after, found.least) == (True, False, 600.0, 1)
    assert [(key.id, key.sha256) for key in found.keys] == [(KEY.id, KEY.sha256)]


def test_one_that_may_not_is_noted_without() -> None:
    found = noted(facts(autoscaling={"minReplicas": 2, "maxReplicas": 4}), READY)
    assert found is not None
    assert (found.may_sleep, found.scales, found.least, found.keys) == (False, True, 2, ())


def test_nobody_sleeps_within_seconds() -> None:
    found = noted(facts(autoscaling={"minReplicas": 0, "idleAfter": "1s"}), READY)
    assert found is not None
    assert found.idle_after == SHORTEST


def test_what_cannot_be_told_leaves_what_was_known() -> None:
    assert noted(new_facts(tier=FieldError("spec", "is nonsense")), READY) is None


def test_a_sleeper_whose_keys_are_not_known_yet_is_not_told_of_without_them() -> None:
    known = facts(autoscaling={"minReplicas": 0})
    assert noted(replace(known, wanted=None), READY) is None


def test_hands_are_off_a_tenant_without_traffic_or_on_its_way_out() -> None:
    found = noted(facts(suspend={"traffic": True}), READY)
    assert found is not None
    assert found.hands_off
    frozen = noted(facts(suspend={"reconcile": True}), READY)
    assert frozen is not None
    assert (frozen.hands_off, frozen.frozen) == (False, True)
    leaving = noted(facts(), Assessment(state=State.DELETING, reason=Reason.DELETING))
    assert leaving is not None
    assert leaving.hands_off


def test_a_spent_budget_of_this_window_is_noted() -> None:
    budget = {"amount": "5", "window": "Month", "onExceeded": "Refuse"}
    sleeper = {"autoscaling": {"minReplicas": 0}}
    this_month = NOW.replace(day=1, hour=0, minute=0, second=0)

    def spent(usage: Usage | None, **more: str) -> bool:
        found = noted(facts(usage, budget={**budget, **more}, **sleeper), READY)
        assert found is not None
        return found.budget_spent

    assert spent(Usage(window_start=this_month, spend="5.00"))
    assert not spent(Usage(window_start=this_month, spend="4.99"))
    assert not spent(Usage(window_start=this_month - timedelta(days=1), spend="9.00"))
    assert not spent(Usage(window_start=this_month, spend="9.00"), onExceeded="Warn")
    assert not spent(None)
