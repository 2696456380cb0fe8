"""The status page: what it shows, in which order, and that nothing in it is markup that somebody else wrote."""

from datetime import timedelta
from html.parser import HTMLParser

from tenantry_operator.api.decode import FieldError
from tenantry_operator.interruption.signals import Kind
from tenantry_operator.kube.events import Told
from tenantry_operator.live import Leaving, Live
from tenantry_operator.live import TenantRecord as Record
from tenantry_operator.page.html import page
from tenantry_operator.page.view import WHY, Board, Overview, overview

from tests.unit.operator.picture import live, record
from tests.unit.operator.tenants import NOW


def shown(picture: Live, events: tuple[Told, ...] = ()) -> Overview:
    return overview(picture, time=NOW, leading=True, in_flight={"acme": 3}.get, events=events)


def test_those_that_are_not_ready_come_first_with_their_share_of_the_budget() -> None:
    content = shown(live(record("acme", spend="45"), record("globex", ready=False, message="quota"), record("b")))
    assert [row.name for row in content.rows] == ["globex", "acme", "b"]
    acme = content.rows[1]
    assert (acme.in_flight, acme.spend, acme.budget, acme.used) == (3, "45", "50", 90)
    assert content.reasons == (("Ready", 2), ("QuotaBlocked", 1))
    assert content.rows[0].used is None, "nobody knows what it has spent"


def test_a_tenant_that_cannot_be_read_is_shown_all_the_same() -> None:
    broken = replace_tenant(record("acme"), FieldError("spec.tier", "is a number"))
    assert [(row.name, row.tier, row.budget) for row in shown(live(broken)).rows] == [("acme", "", "")]


def replace_tenant(known: Record, wrong: FieldError) -> Record:
    return Record(known.meta, known.status, wrong)


class Tags(HTMLParser):
    """What a page consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_others_have_written_is_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    told = Told(NOW, evil, "KeyRotated", evil, warning=False)
    picture = live(record("acme", ready=False, message=evil))
    picture.leaving[evil] = Leaving(Kind.SPOT)
    content = shown(picture, (told,))
    read = Tags()
    read.feed(page(content))
    assert "img" not in read.tags
    assert read.text.count(evil) == 4
    assert read.tags.count("script") == 1


def test_nodes_that_go_away_are_shown_with_why_and_when() -> None:
    picture = live()
    picture.leaving["b"] = Leaving(Kind.SPOT, NOW + timedelta(seconds=94))
    picture.leaving["a"] = Leaving(Kind.DRAIN)
    content = shown(picture)
    assert [(node.name, node.why) for node in content.nodes] == [("a", WHY[Kind.DRAIN]), ("b", WHY[Kind.SPOT])]
    read = Tags()
    read.feed(page(content))
    assert f"b{WHY[Kind.SPOT]}{NOW + timedelta(seconds=94):%H:%M:%S} UTC" in read.text
    assert set(WHY) == set(Kind), "each has its words"


def test_the_latest_event_comes_first() -> None:
    events = tuple(Told(NOW, "acme", reason, "", warning=False) for reason in ("First", "Second"))
    text = page(shown(live(), events=events))
    assert text.index("Second") < text.index("First")


def test_a_replica_that_stands_by_says_so_and_nothing_else() -> None:
    text = page(Board().show(NOW))
    assert "This replica stands by" in text
    assert "<table" not in text
