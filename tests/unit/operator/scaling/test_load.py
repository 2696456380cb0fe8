"""Whose pods are asked, how often, and who is not asked at all."""

import pytest
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling.inflight import InFlight, Scraper
from tenantry_operator.scaling.load import FOR_MARKS, FOR_SLEEP, RECENT, SELDOM, Loads, period
from tenantry_operator.scaling.noted import Noted
from tenantry_operator.scaling.readings import FRESH, Reading, Readings

from tests.unit.operator.tenants import NOW

PLAIN = Noted()
SCALED = Noted(scales=True)
SLEEPER = Noted(may_sleep=True, idle_after=900.0)


@pytest.mark.parametrize(
    ("tenant", "covered", "pods", "seconds"),
    [
        pytest.param(PLAIN, False, 1, None, id="one pod that never sleeps"),
        pytest.param(SCALED, False, 1, None, id="an HPA reads it, and asks itself"),
        pytest.param(SCALED, False, 2, FOR_MARKS, id="an HPA may take one away"),
        pytest.param(SLEEPER, False, 1, SELDOM, id="may sleep one day"),
        pytest.param(Noted(may_sleep=True, idle_after=15.0), False, 1, 2.5, id="may sleep soon"),
        pytest.param(SLEEPER, True, 1, FOR_SLEEP, id="falls asleep"),
        pytest.param(Noted(may_sleep=True, hands_off=True), True, 1, None, id="suspended"),
    ],
)
def test_pods_are_asked_as_often_as_somebody_needs_to_know(
    tenant: Noted, covered: bool, pods: int, seconds: float | None
) -> None:
    assert period(tenant, covered=covered, pods=pods) == seconds


def test_what_is_asked_for_is_asked_for_twice_before_it_is_stale() -> None:
    assert 2 * FOR_MARKS < FRESH


class Fives:
    """A scraper whose pods have five requests each; notes whom it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def read(self, address: str) -> InFlight:
        self.asked.append(address)
        return InFlight(requests=5)


async def test_who_reads_figures_has_the_pods_asked_that_said_nothing_for_a_moment() -> None:
    now, pods, readings, scraper = 10.0, Pods(), Readings(), Fives()
    loads = Loads(None, scraper, pods, readings, {}, lambda _: False, clock=lambda: now)  # type: ignore[arg-type]
    for number in range(3):
        pods.changed(
            Pod(
                tenant="acme",
                name=f"api-{number}",
                uid=f"u{number}",
                version=1,
                ip=f"10.0.0.{number}",
                phase="Running" if number else "Pending",
            ),
            False,
        )
    readings.put("u1", Reading(InFlight(requests=1), now - RECENT / 2, NOW))
    await loads.freshen("acme")
    assert scraper.asked == ["10.0.0.2"]
    assert readings.since(["u1", "u2"], 0.0) == [InFlight(requests=1), InFlight(requests=5)]
    now += 2 * RECENT
    await loads.freshen("acme")
    assert scraper.asked == ["10.0.0.2", "10.0.0.1", "10.0.0.2"]


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
