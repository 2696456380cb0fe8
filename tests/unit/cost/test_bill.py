"""Money: every line is whole cents, the total is their sum, and every price says when and where it was seen."""

from datetime import date
from fractions import Fraction
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_cost import book
from tenantry_cost.bill import Bill, Kind, System, item, usd
from tenantry_cost.book import Price, PriceError
from tenantry_cost.systems import PROCESS_CPU, PROCESS_MEMORY, bills, eks
from tenantry_cost.workload import TARGET_IN_FLIGHT, Isolation, Workload
from tenantry_operator.api.defaults import DEFAULTS

BOOK = book.shipped("us-east-1")

workloads = st.builds(
    Workload,
    tenants=st.integers(1, 2000),
    requests=st.integers(0, 5_000_000),
    stream_seconds=st.fractions(Fraction(1, 10), 2000, max_denominator=10),
    input_tokens=st.integers(0, 100_000),
    output_tokens=st.integers(0, 20_000),
    peak=st.fractions(1, 20, max_denominator=10),
    isolation=st.sampled_from(Isolation),
    datastores=st.booleans(),
    model=st.sampled_from([None, "gpt-4o-mini"]),
    node=st.sampled_from([None, *BOOK.instances]),
)


@given(workloads)
def test_a_total_is_the_sum_of_its_lines_and_each_line_is_its_quantity_times_its_price(workload: Workload) -> None:
    for bill in bills(workload, BOOK):
        assert bill.cents == sum(line.cents for line in bill.items)
        for line in bill.items:
            exact = line.quantity * line.pico_usd / 10**10
            assert abs(line.cents - exact) <= Fraction(1, 2)
            assert line.quantity >= 0


@given(workloads, st.integers(1, 500))
def test_more_tenants_never_cost_less(workload: Workload, more: int) -> None:
    grown = workload._replace(tenants=workload.tenants + more)
    for few, many in zip(bills(workload, BOOK), bills(grown, BOOK), strict=True):
        assert many.cents >= few.cents, few.system


@given(st.integers(0, 10**9), st.integers(1, 10**15))
def test_half_a_cent_is_rounded_up(quantity: int, pico: int) -> None:
    line = item(Kind.COMPUTE, "x", quantity, Price(pico, "hour", date(2026, 1, 1), "https://example.com"))
    assert line.cents == int(Fraction(quantity * pico, 10**10) + Fraction(1, 2))


def test_every_line_says_when_and_where_its_price_was_seen() -> None:
    for bill in bills(Workload(), BOOK):
        for line in bill.items:
            assert line.source.startswith("https://")
            assert date(2025, 1, 1) <= line.seen <= date(2026, 12, 31)


@pytest.mark.parametrize(
    ("system", "cents"),
    [
        # 10 tasks x 730 h x (0.25 x 0.03238 + 0.5 x 0.00356) = 59.09 + 12.99; balancer 16.43 + 0.25 + 7.30; IPv4 36.50;
        # PostgreSQL 11.68 + 2.30; Valkey 9.34
        (System.ECS_FARGATE, 15588),
        # 2 t4g.medium: 49.06 + 3.20 + 7.30; balancer, datastores as above
        (System.EC2_ASG, 10686),
        # (10 x 30,000 x 20 s x 0.5 GB - 400,000) x 0.0000133334 = 34.67; NAT 32.85 + 1.39 + 3.65; datastores
        (System.LAMBDA, 9588),
        # cluster 73.00; system node 24.53 + 1.60 + 3.65; m7g.large Spot 21.44 + 1.60 + 3.65; balancer; PostgreSQL;
        # Redis' volume 0.64; 0.35
        (System.EKS, 16842),
        # 10 x 0.228 active of 0.25 vCPU: 26.67; memory 25.55; NAT, datastores
        (System.APP_RUNNER, 11343),
    ],
)
def test_ten_tenants_cost_what_paper_and_pencil_say(system: System, cents: int) -> None:
    (bill,) = (each for each in bills(Workload(), BOOK) if each.system is system)
    assert bill.cents == cents


def test_few_tenants_are_dearest_on_eks_and_many_are_cheapest_there() -> None:
    def cheapest(tenants: int) -> System:
        return min(bills(Workload(tenants=tenants), BOOK), key=lambda bill: bill.cents).system

    assert cheapest(1) is not System.EKS
    assert cheapest(500) is System.EKS


def test_a_function_that_would_outlive_its_limit_is_impossible_not_cheap() -> None:
    (bill,) = (each for each in bills(Workload(stream_seconds=Fraction(901)), BOOK) if each.system is System.LAMBDA)
    assert "900 s" in bill.impossible


def test_a_function_is_billed_for_every_second_it_waits() -> None:
    quick, slow = (
        next(each for each in bills(Workload(stream_seconds=Fraction(s)), BOOK) if each.system is System.LAMBDA)
        for s in (10, 600)
    )
    assert slow.of(Kind.COMPUTE) > 60 * quick.of(Kind.COMPUTE)


def test_many_tasks_leave_through_nat_because_it_is_cheaper_than_an_address_each() -> None:
    def way_out(tenants: int) -> str:
        bill: Bill = bills(Workload(tenants=tenants), BOOK)[0]
        return next(line.what for line in bill.items if line.kind is Kind.EGRESS)

    assert "public IPv4" in way_out(10)
    assert "2 NAT" in way_out(100)


def test_tokens_are_priced_as_the_ledger_prices_them() -> None:
    # 800 x 0.15 + 400 x 0.60 USD per million tokens = 0.00036 USD, times 300,000 requests
    assert Workload(model="gpt-4o-mini").token_cents == 10800


def test_processes_ask_for_what_a_tenants_pods_ask_for_by_default() -> None:
    defaults = DEFAULTS
    assert defaults.resources is not None
    assert defaults.resources.requests is not None
    assert defaults.autoscaling is not None
    assert defaults.resources.requests.cpu == f"{PROCESS_CPU}m"
    assert defaults.resources.requests.memory == f"{PROCESS_MEMORY}Mi"
    assert defaults.autoscaling.target_in_flight == TARGET_IN_FLIGHT


def test_nodes_are_counted_by_what_runs_out_first() -> None:
    def nodes(node: str) -> str:
        bill = eks(Workload(tenants=35, node=node), BOOK)
        return next(line.what for line in bill.items if line.kind is Kind.COMPUTE)

    # 2 vCPU - 0.245 for the node leave room for 17 pods of 0.1; one vCPU for 7.
    assert nodes("m7g.large").startswith("3 m7g.large")
    assert nodes("m7g.medium").startswith("5 m7g.medium")


def test_amounts_read_as_money() -> None:
    assert (usd(0), usd(5), usd(123_456_789), usd(-250)) == ("0.00", "0.05", "1,234,567.89", "-2.50")


PRICES = (resources.files("tenantry_cost") / "prices" / "us-east-1.toml").read_text()


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ('source = "https://', 'source = "ftp://', "https"),
        ("seen = 2026-08-21\n", "", "seen"),
        ('usd = "0.04048"', 'usd = "cheap"', "fargate.x86.vcpu"),
        ('[price."nat.hour"]', '[price."nat.hours"]', "nat.hour"),
        ("spot_saving = 64", "spot_saving = 164", "spot_saving"),
        ("region =", "regoin =", "regoin"),
    ],
)
def test_a_price_book_with_a_flaw_is_refused_by_name(wrong: str, right: str, said: str) -> None:
    with pytest.raises(PriceError, match=said):
        book.parse(PRICES.replace(wrong, right, 1), "test")


def test_lambdas_ten_decimals_are_kept() -> None:
    assert BOOK.prices["lambda.arm.memory"].pico_usd == 13_333_400
