"""Whose pods are asked, how often, and who is not asked at all."""

import pytest
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling.inflight import InFlight, Scraper
from tenantry_operator.scaling.load import FOR_HPA, FOR_SLEEP, SELDOM, Loads, period
from tenantry_operator.scaling.noted import Noted
from tenantry_operator.scaling.readings import FRESH, Reading, Readings

from tests.unit.operator.tenants import NOW

PLAIN = Noted()
SCALED = Noted(scales=True)
SLEEPER = Noted(may_sleep=True, idle_after=900.0)


@pytest.mark.parametrize(
    ("tenant", "covered", "seconds"),
    [
        pytest.param(PLAIN, False, None, id="one pod that never sleeps"),
        pytest.param(SCALED, False, FOR_HPA, id="an HPA reads it"),
        pytest.param(SLEEPER, False, SELDOM, id="may sleep one day"),
        pytest.param(Noted(may_sleep=True, idle_after=15.0), False, 2.5, id="may sleep soon"),
        pytest.param(SLEEPER, True, FOR_SLEEP, id="falls asleep"),
        pytest.param(Noted(may_sleep=True, hands_off=True), True, None, id="suspended"),
    ],
)
def test_pods_are_asked_as_often_as_somebody_needs_to_know(tenant: Noted, covered: bool, seconds: float | None) -> None:
    assert period(tenant, covered=covered) == seconds


def test_what_an_hpa_reads_is_asked_for_twice_before_it_is_stale() -> None:
    assert 2 * FOR_HPA < FRESH


async def test_what_a_pod_said_goes_with_it() -> None:
    pods, readings = Pods(), Readings()
    noted = {"acme": SCALED}
    Loads(None, Scraper(), pods, readings, noted, lambda _: False, clock=lambda: 5.0)  # type: ignore[arg-type]
    pod = Pod(tenant="acme", name="api-0", uid="u", version=1, ip="10.0.0.7", phase="Running")
    pods.changed(pod, False)
    readings.put("u", Reading(InFlight(requests=1), 5.0, NOW))
    assert readings.since(["u"], 5.0) == [InFlight(requests=1)]
    assert readings.since(["u", "other"], 0.0) is None
    assert readings.fresh("u", 5.0 + FRESH + 0.1) is None
    pods.changed(pod, True)
    assert readings.fresh("u", 5.0) is None
