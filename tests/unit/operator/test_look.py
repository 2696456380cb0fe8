"""A new chart or image waits for the tenant's wave; what the tenant itself changes does not."""

from datetime import UTC, datetime

from msgspec.structs import replace
from tenantry_operator.api.rollout import Standing
from tenantry_operator.api.tenant import Tenant, TenantStatus
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.look import Lookout
from tenantry_operator.plan import status as plan_status
from tenantry_operator.plan.desired import Wanted
from tenantry_operator.plan.facts import Facts
from tenantry_operator.plan.revisions import Image, TierRevision
from tenantry_operator.plan.waves import Decision, Phase
from tenantry_operator.queue import Turn
from tenantry_operator.render import Objects

from tests.unit.operator.tenants import KEY, PLATFORM, settled, tenant, tier

NOW = datetime(2026, 2, 1, tzinfo=UTC)


class Chart:
    """A renderer whose digest tells chart and values."""

    chart = "tenant-0.1.0"

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def digest(self, values: object) -> str:
        """Chart and values."""
        return f"{self.identity} {values}"

    async def render(self, release: str, namespace: str, values: object) -> Objects:
        """Nobody asks."""
        raise AssertionError


def world(*, may_move: frozenset[str] = frozenset()) -> Live:
    """acme's tier goes from the revision with image 1.0 to the one with 2.0."""
    live, standard = Live(), tier()
    live.tiers["standard"] = standard
    for number, tag in enumerate(("1.0", "2.0"), 1):
        image = Image(repository="tenantry", tag=tag)
        name = f"standard-{tag[0]}"
        live.revisions[name] = TierRevision(
            name=name, tier="standard", number=number, spec=standard.spec, image=image, chart=tag
        )
    live.decisions["standard"] = Decision(
        phase=Phase.MOVING, target="standard-2", current="standard-1", wave=1, may_move=may_move
    )
    return live


def looked(live: Live, chart: str, status: TenantStatus, acme: Tenant) -> tuple[Facts, Wanted]:
    """What a process with this chart wants of acme."""
    lookout = Lookout(live, Chart(chart), PLATFORM)
    record = TenantRecord(settled().meta, status, acme)
    facts = lookout.keyed(lookout.look(record, Turn(), NOW), (KEY,))
    assert facts.wanted is not None
    return facts, facts.wanted


def applied(wanted: Wanted) -> TenantStatus:
    """acme's status once this was applied on the first revision."""
    status = replace(settled().status, rollout=Standing(revision="standard-1"), applied=None)
    return plan_status.applied(
        status, wanted.digest, "tenant", "f", NOW, inputs=wanted.inputs, tier_revision=wanted.tier_revision
    )


def tag(wanted: Wanted) -> str:
    """The image's tag."""
    image = wanted.values["image"]
    assert isinstance(image, dict)
    return str(image["tag"])


BEFORE = replace(settled().status, rollout=Standing(revision="standard-1"), applied=None)


def test_a_new_chart_and_image_wait_for_the_wave() -> None:
    _, first = looked(world(), "chart-1", BEFORE, tenant())
    assert (tag(first), first.tier_revision) == ("1.0", "standard-1")
    status = applied(first)
    facts, held = looked(world(), "chart-2", status, tenant())
    assert facts.choice is not None
    assert facts.choice.held
    assert held.digest == first.digest
    _, moved = looked(world(may_move=frozenset({"acme"})), "chart-2", status, tenant())
    assert (tag(moved), moved.tier_revision) == ("2.0", "standard-2")
    assert moved.digest != first.digest


def test_what_the_tenant_itself_changes_does_not_wait_and_keeps_the_image() -> None:
    _, first = looked(world(), "chart-1", BEFORE, tenant())
    _, own = looked(world(), "chart-2", applied(first), tenant(limits={"requestsPerMinute": 7}))
    assert own.digest != first.digest
    assert (tag(own), own.tier_revision) == ("1.0", "standard-1")
