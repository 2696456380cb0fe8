"""Show-back adds up: tenants, idle and overhead are the bill, whatever is divided among whomever."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_showback.apportion import apportion
from tenantry_showback.formats import IDLE, Window, allocations, focus
from tenantry_showback.statement import GIB, NodeCost, Sharing, Use, in_cents, state
from tenantry_usage.focus import COLUMNS, NEVER_NULL, UNIT_PRICES

HOUR = 3600
WINDOW = Window(datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))

amounts = st.integers(0, 10**13)
tenants = st.sampled_from(["", "acme", "globex", "initech"])
node_names = st.sampled_from(["a", "b", "gone"])
nodes = st.lists(
    st.builds(NodeCost, st.sampled_from(["a", "b", "c"]), amounts, st.integers(0, 64_000), st.integers(0, 2**38)),
    max_size=3,
    unique_by=lambda node: node.name,
)
uses = st.lists(st.builds(Use, tenants, node_names, st.integers(0, 10**9), st.integers(0, 2**50)), max_size=8)
token_costs = st.dictionaries(st.sampled_from(["acme", "globex"]), amounts)
sharings = st.sampled_from(Sharing)


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), min_size=1))
def test_what_is_divided_adds_up_and_no_share_is_a_unit_off(total: int, weights: list[int]) -> None:
    whole = sum(weights)
    if not whole:
        weights, whole = [*weights, 1], 1
    shares = apportion(total, weights)
    assert sum(shares) == total
    assert all(abs(share * whole - total * weight) < whole for share, weight in zip(shares, weights, strict=True))


@pytest.mark.parametrize(("total", "weights"), [(1, []), (1, [0, 0]), (-1, [1]), (1, [-1, 2])])
def test_nothing_is_given_to_nobody(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match=r"nobody|never negative"):
        apportion(total, weights)


@given(nodes, uses, amounts, token_costs, sharings, sharings)
def test_tenants_idle_and_overhead_are_the_bill(
    priced: list[NodeCost], taken: list[Use], extra: int, tokens: dict[str, int], idle: Sharing, overhead: Sharing
) -> None:
    found = state(priced, taken, seconds=HOUR, overhead=extra, tokens=tokens, share_idle=idle, share_overhead=overhead)
    assert found.bill == sum(node.nano_usd for node in priced) + extra + sum(tokens.values())
    cents = in_cents(found)
    assert sum(cents.tenants.values()) + cents.idle + cents.overhead == cents.bill
    assert abs(cents.bill * 10_000_000 - found.bill) <= 5_000_000
    (rows,) = allocations(found, taken, WINDOW)
    told = sum(row["totalCost"] for row in rows.values() if isinstance(row["totalCost"], float))
    assert told == pytest.approx(found.bill / 10**9, abs=1e-6, rel=1e-9)
    billed = sum(int(row["BilledCost"].replace(".", "")) for row in read(focus(found, WINDOW, account="here")))
    assert billed == found.bill


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_tenant_pays_for_what_it_asked_for_and_idle_is_what_nobody_did() -> None:
    # 2 cores and 8 GiB; acme has half of each for the whole hour, the platform an eighth.
    node = NodeCost("a", 8 * 10**9, 2000, 8 * GIB)
    taken = [Use("acme", "a", 1000 * HOUR, 4 * GIB * HOUR), Use("", "a", 250 * HOUR, GIB * HOUR)]
    found = state([node], taken, seconds=HOUR)
    (line,) = found.lines
    parts = (line.compute, found.overhead, found.idle)
    assert parts == pytest.approx((4 * 10**9, 10**9, 3 * 10**9), abs=2), "CPU and memory are each rounded"
    assert sum(parts) == node.nano_usd
    # OpenCost's ratio: 2 cores at .031611 against 8 GiB at .004237.
    assert line.cpu / line.compute == pytest.approx(2 * 0.031611 / (2 * 0.031611 + 8 * 0.004237))


def test_a_node_that_is_asked_for_more_than_it_has_leaves_nothing_idle() -> None:
    taken = [Use(name, "a", 3000 * HOUR, GIB * HOUR) for name in ("acme", "globex")]
    found = state([NodeCost("a", 10**9, 2000, GIB)], taken, seconds=HOUR)
    assert found.idle == 0
    assert [line.compute for line in found.lines] == pytest.approx([5 * 10**8, 5 * 10**8], abs=2)


@pytest.mark.parametrize(
    ("sharing", "acme", "globex", "kept"),
    [
        (Sharing.KEEP, 0, 0, 800),
        (Sharing.EVEN, 400, 400, 0),
        (Sharing.PROPORTIONAL, 600, 200, 0),
        (Sharing.TOKENS, 0, 800, 0),
    ],
)
def test_overhead_is_shared_as_declared(sharing: Sharing, acme: int, globex: int, kept: int) -> None:
    taken = [Use("acme", "a", 750, 750), Use("globex", "a", 250, 250)]
    found = state(
        [NodeCost("a", 1000, 1000, 1000)], taken, seconds=1, overhead=800, tokens={"globex": 7}, share_overhead=sharing
    )
    assert [line.overhead for line in found.lines] == [acme, globex]
    assert found.overhead == kept


def test_focus_rows_have_every_column_and_name_the_tenant_and_the_month() -> None:
    found = state(
        [NodeCost("a", 10**9, 1000, GIB)], [Use("acme", "a", 500 * HOUR, 0)], seconds=HOUR, tokens={"acme": 5}
    )
    rows = read(focus(found, WINDOW, account="prod", region="us-east-1"))
    assert {row["SkuId"] for row in rows} == {"cpu", "tokens", "idle"}
    for row in rows:
        assert tuple(row) == COLUMNS
        assert not [name for name in NEVER_NULL if not row[name]]
        for price in UNIT_PRICES:
            assert Decimal(row[price]) * Decimal(row["PricingQuantity"]) == Decimal(row["ListCost"]), price
        assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")
        assert row["SubAccountId"] == ("" if row["ResourceName"] == IDLE else "acme")
    assert next(row for row in rows if row["SkuId"] == "tokens")["BilledCost"] == "0.000000005"
