"""What the ledger says when it is asked: roll-ups in Redis, and `tenantry usage`."""

import csv
import io
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tenantry_service.ledger import spend
from tenantry_service.ledger.spend import Day, Spend
from tenantry_service.ledger.sqlite import SqliteLedger
from tenantry_service.writer import rollups
from tenantry_service.writer.retention import Retention
from tenantry_service.writer.rollups import Publisher
from tenantry_usage import focus
from tenantry_usage.lines import Line

from tests.component.ledger.making import event, lost, put
from tests.component.ledger.world import PATIENT, World

DAY_MS = 86_400_000


def publisher(world: World) -> Publisher:
    made = Publisher(world.redis, world.mover.connect, world.figures)
    world.mover.wrote = made.changed
    return made


async def published(world: World, tenant: str = "acme") -> Spend | None:
    value = await world.redis.one("GET", spend.spend_key(tenant))
    return spend.decode(value) if isinstance(value, bytes) else None


async def test_a_tenant_s_spend_is_what_the_ledger_says(world: World, today: date) -> None:
    publishing = publisher(world)
    await put(world.redis, event("a"), event("b", served_model="gpt-5", nano_usd=7), lost(event("c")))
    await put(world.redis, event("d", tenant="globex"))
    await world.round()
    await publishing.publish()
    found = await published(world)
    assert found is not None
    assert (found.day.start, found.day.requests, found.day.nano_usd, found.day.estimated) == (today, 3, 91_007, 1)
    assert (found.month.start, found.month.requests) == (today.replace(day=1), 3)
    by_model = {line.model: (line.requests, line.nano_usd) for line in found.days}
    assert by_model == {"gpt-4o": (2, 91_000), "gpt-5": (1, 7)}
    other = await published(world, "globex")
    assert other is not None
    assert other.day.requests == 1


@pytest.mark.usefixtures("today")  # a new day is a change
async def test_a_roll_up_is_written_when_it_changes_and_not_before(world: World) -> None:
    publishing = publisher(world)
    made = event("a")
    await put(world.redis, made)
    await world.round()
    await publishing.publish()
    await publishing.publish()
    await put(world.redis, made)
    await world.round()
    await publishing.publish()
    assert world.figures.published == 1
    await put(world.redis, event("b"))
    await world.round()
    await publishing.publish()
    assert world.figures.published == 2


async def test_a_redis_that_forgot_gets_its_roll_ups_again(world: World) -> None:
    publishing = publisher(world)
    await put(world.redis, event("a"))
    await world.round()
    await publishing.publish()
    await world.redis.one("FLUSHALL")
    await world.redis.close()
    await world.redis.one("PING")
    await publishing.publish()
    assert await published(world) is not None


def test_more_models_than_anybody_reads_are_told_as_one_line(today: date) -> None:
    lines = [Day(day=today, model=f"m{number}", requests=1, nano_usd=number) for number in range(700)]
    made = rollups.build(lines, datetime.now(UTC))
    assert len(made.days) == rollups.MOST_LINES + 1
    assert made.days[-1].model == rollups.OTHER
    assert sum(line.nano_usd for line in made.days) == made.day.nano_usd == sum(range(700))


async def test_a_month_is_dropped_once_its_sums_are_right_and_only_then(world: World, today: date) -> None:
    now = time.time_ns() // 1_000_000
    old = event("old")._replace(occurred_at_ms=now - 100 * DAY_MS)
    old = old._replace(event_id=f"req_{old.occurred_at_ms:011x}old")
    await put(world.redis, old, event("new"))
    await world.round()
    connection = await world.mover.connect()
    await connection.execute(
        "UPDATE usage_daily SET nano_usd = nano_usd + 1 WHERE day < $1", today - timedelta(days=50)
    )
    retention = Retention(world.mover.connect, 2, world.figures)
    await retention.enforce()
    assert (world.figures.dropped_partitions, world.figures.unequal_partitions) == (0, 1)
    await connection.execute(
        "UPDATE usage_daily SET nano_usd = nano_usd - 1 WHERE day < $1", today - timedelta(days=50)
    )
    connection.terminate()
    await retention.enforce()
    assert (world.figures.dropped_partitions, world.figures.unequal_partitions) == (1, 0)
    assert [row["event_id"] for row in await world.rows()] != [old.event_id]
    assert len(await world.rows("SELECT * FROM usage_daily")) == 2, "sums stay"


def usage(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenantry", "usage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


async def test_usage_is_exported_from_postgres_as_csv_and_as_focus(
    world: World, database: str, tmp_path: Path, today: date
) -> None:
    await put(world.redis, event("a", key_name="web"), event("b", key_name="web"), event("c", tenant="globex"))
    await world.round()
    file = tmp_path / "url"
    file.write_text(database)
    done = usage("export", "--database-file", file, "--tenant", "acme")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["day"], row["key"], row["requests"], row["usd"]) == (str(today), "web", "2", "0.000002000")
    done = usage("export", "--database-file", file, "--format", "focus", "--account", "ACME Platform")
    assert done.returncode == 0, done.stderr
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["SubAccountId"] for row in found} == {"acme", "globex"}
    assert tuple(found[0]) == (*focus.COLUMNS, *focus.OWN_COLUMNS)
    assert sum(int(row["x_Requests"]) for row in found) == 3
    for row in found:
        assert not [column for column in focus.NEVER_NULL if not row[column]]
        for price in focus.UNIT_PRICES:
            assert Decimal(row[price]) * Decimal(row["PricingQuantity"]) == Decimal(row["ListCost"]), price
        assert row["ChargePeriodStart"] == f"{today}T00:00:00Z"


@pytest.mark.usefixtures("today")
def test_a_laptop_s_usage_is_shown(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    for made in (event("a"), event("b", nano_usd=1_500_000_000)):
        ledger.append(made)
    assert ledger.close(PATIENT) == 0
    done = usage("show", "--state-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    head, line, total = done.stdout.splitlines()
    assert head.split()[:3] == ["DAY", "TENANT", "KEY"]
    assert line.split()[-2:] == total.split()[-2:] == ["1.500001000", "0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "--state-dir", "/nonexistent"), "--state-dir: /nonexistent/ledger.sqlite"),
        (("show", "--database-file", "/nonexistent"), "--database-file: /nonexistent"),
        (("show", "--state-dir", "/x", "--from", "2026-02-02", "--to", "2026-02-02"), "--to: 2026-02-02 is not after"),
        (("export", "--state-dir", "/x", "--from", "yesterday"), "'yesterday' is not a day such as"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_flag(arguments: tuple[str, ...], message: str) -> None:
    done = usage(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_focus_row_s_periods_are_whole_days_and_months() -> None:
    (row,) = focus.rows(Line(date(2026, 12, 31), "acme", "web", "m", 1, 2, 0, 3, -5, 0), "p")
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")
    assert (row["ChargePeriodEnd"], row["BilledCost"]) == ("2027-01-01T00:00:00Z", "-0.000000005")
