"""The status page in a real browser: quickly there with a thousand tenants, filtered, refreshed, without a fault."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from localcluster import chromium
from localcluster.chromium import Browser
from localcluster.paths import Checkout
from tenantry_operator.api.conditions import Condition, ConditionStatus
from tenantry_operator.api.decode import decode_tier
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.tenant import Tenant, TenantSpec, TenantStatus, Usage
from tenantry_operator.interruption.signals import Kind
from tenantry_operator.kube.events import Told
from tenantry_operator.live import Leaving, Live, TenantRecord
from tenantry_operator.page.server import serve
from tenantry_operator.page.view import Board

from tests.component.operator.browser import Page, opened

MANY = 1000
#: Milliseconds until a page with many tenants can be used, of which a busy machine takes its part.
INTERACTIVE = 1000

NOW = datetime(2026, 11, 21, 17, 30, tzinfo=UTC)


def record(name: str, tier: str, reason: str = "Ready", message: str = "", spend: str = "0.00") -> TenantRecord:
    """A Tenant."""
    meta, spec = ObjectMeta(name=name), TenantSpec(tier=tier)
    condition = Condition(
        type="Ready",
        status=ConditionStatus.TRUE if reason == "Ready" else ConditionStatus.FALSE,
        reason=reason,
        message=message,
        last_transition_time=NOW,
    )
    ready = int(reason == "Ready")
    status = TenantStatus(conditions=(condition,), replicas=1, ready_replicas=ready, usage=Usage(spend=spend))
    return TenantRecord(meta, status, Tenant(metadata=meta, spec=spec, status=status))


def picture(count: int) -> Live:
    """So many tenants in two tiers, one of which cannot get a pod, and a node that goes away."""
    live = Live(leaving={"ip-10-0-1-17": Leaving(Kind.SPOT, NOW + timedelta(seconds=94))})
    for tier, amount in (("standard", "500"), ("trial", "5")):
        live.tiers[tier] = decode_tier({"metadata": {"name": tier}, "spec": {"budget": {"amount": amount}}})
    names = ["acme", "globex", "initech", *(f"tenant-{at:04}" for at in range(count - 3))]
    spends = {"acme": "131.90", "globex": "4.21", "initech": "512.00"}
    for at, name in enumerate(names):
        live.tenants[name] = record(
            name, "trial" if name == "globex" else "standard", spend=spends.get(name, f"{at % 90}.50")
        )
    live.tenants["hooli"] = record(
        "hooli", "standard", "QuotaBlocked", "the namespace's ResourceQuota refuses a pod: exceeded quota: tenant"
    )
    del live.tenants[names[-1]]
    return live


@dataclass
class Shown:
    """A page that is being served, and what it is made from."""

    url: str
    board: Board
    told: list[Told] = field(default_factory=list)


@pytest.fixture
async def shown() -> AsyncIterator[Shown]:
    """A page about a thousand tenants, a node at risk and an Event."""
    told = [Told(NOW, "hooli", "QuotaBlocked", "exceeded quota: tenant, requested: pods=1", warning=True)]
    board = Board(picture(MANY), told, {"acme": 12, "globex": 1}.get)
    runner = await serve(lambda: board.show(NOW), port=0)
    yield Shown(f"http://localhost:{runner.addresses[0][1]}/", board, told)
    await runner.cleanup()


@pytest.fixture(scope="session")
def browser() -> Browser:
    return chromium.ensure(Checkout.here())


@pytest.fixture
async def page(browser: Browser, tmp_path: Path) -> AsyncIterator[Page]:
    async with opened(browser, tmp_path / "profile") as tab:
        yield tab
        assert not tab.complaints


READY = "document.documentElement?.dataset.interactive === 'yes'"
VISIBLE = "[...document.querySelectorAll('#tenants tbody tr')].filter(row => !row.hidden).length"


async def test_a_thousand_tenants_are_interactive_within_a_second(page: Page, shown: Shown) -> None:
    took = []
    for _ in range(5):
        await page.open("about:blank", "true")
        await page.open(shown.url, READY)
        took.append(await page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
    print(f"status page with {MANY} tenants: interactive after {min(took):.0f} ms")
    assert await page.evaluate(VISIBLE) == MANY
    assert min(took) <= INTERACTIVE


async def test_it_filters_and_refreshes_in_place(page: Page, shown: Shown) -> None:
    await page.open(shown.url, READY)
    first = "document.querySelector('#tenants tbody th').textContent"
    assert await page.evaluate(first) == "hooli", "those that are not ready come first"
    await page.evaluate(
        "const box = document.getElementById('filter'); box.value = 'QUOTA'; box.dispatchEvent(new Event('input'))"
    )
    assert await page.evaluate(VISIBLE) == 1
    assert await page.evaluate("document.getElementById('shown').textContent") == "1"
    assert shown.board.live is not None
    shown.board.live.tenants["late"] = record("late", "standard", "QuotaBlocked")
    shown.told.append(Told(NOW, "late", "QuotaBlocked", "as well", warning=True))
    await page.evaluate("refresh()")
    assert await page.evaluate(VISIBLE) == 2, "the filter holds for what has come"
    assert "as well" in await page.evaluate("document.getElementById('events').textContent")
    nodes = "document.getElementById('nodes').textContent"
    assert "ip-10-0-1-17" in await page.evaluate(nodes)
    shown.board.live.leaving = {}
    await page.evaluate("refresh()")
    assert "None." in await page.evaluate(nodes)
    assert await page.evaluate("document.getElementById('lost').hidden")


async def test_it_can_be_used_by_everybody(page: Page, shown: Shown) -> None:
    await page.open(shown.url, READY)
    assert await page.evaluate("document.documentElement.lang") == "en"
    assert await page.evaluate("document.title") != ""
    tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")}
    assert ("searchbox", "Filter") in named
    assert ("table", "Those that are not ready come first.") in named
    assert {("region", "Tenants"), ("region", "Nodes at risk"), ("region", "Last events")} <= named
    assert {("columnheader", "In flight"), ("rowheader", "acme"), ("heading", "Tenantry")} <= named


async def test_without_javascript_everything_is_there(page: Page, shown: Shown) -> None:
    await page.call("Emulation.setScriptExecutionDisabled", value=True)
    await page.open(shown.url, f"{VISIBLE} === {MANY}")
    assert not await page.evaluate(READY)
    async with aiohttp.ClientSession() as session, session.get(shown.url) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        text = await answer.text()
    assert text.count('<th scope="row">') == MANY + 1


async def test_a_page_of_another_name_gets_nothing(shown: Shown) -> None:
    async with aiohttp.ClientSession() as session:
        for host, status in (("evil.example", 403), ("evil.example:80", 403), ("localhost:9", 200), ("127.0.0.1", 200)):
            async with session.get(shown.url, headers={"Host": host}) as answer:
                assert answer.status == status, host


async def test_the_picture_in_the_docs_can_be_taken(page: Page, shown: Shown, tmp_path: Path) -> None:
    shown.board.live = picture(5)
    await page.open(shown.url, READY)
    image = await page.screenshot()
    assert image.startswith(b"\x89PNG")
    (tmp_path / "status.png").write_bytes(image)
