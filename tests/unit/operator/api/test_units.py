"""Money, durations and quantities: exact, and wrong ones refused with what a right one looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_operator.api import units


@given(st.integers(min_value=0, max_value=9_000_000 * units.NANO_PER_USD - 1))
def test_money_survives_printing_and_parsing(nano_usd: int) -> None:
    assert units.parse_usd(units.format_usd(nano_usd)) == nano_usd


@pytest.mark.parametrize(
    ("text", "nano_usd"),
    [
        ("0", 0),
        ("25", 25 * 10**9),
        ("12.50", 12_500_000_000),
        ("0.000000001", 1),
        ("8999999.999999999", 9 * 10**15 - 1),
    ],
)
def test_money_is_exact(text: str, nano_usd: int) -> None:
    assert units.parse_usd(text) == nano_usd


@pytest.mark.parametrize("text", ["-5", "+5", "", "1e3", "5.", ".5", "05", "1,50", "1.0000000001", "NaN", "5\n", "١"])
def test_money_that_is_not_a_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="plain decimal string"):
        units.parse_usd(text)


def test_money_is_printed_with_at_least_cents() -> None:
    assert [units.format_usd(n) for n in (0, 5 * 10**9, 1_230_000_000, 1, -2_500_000_000)] == [
        "0.00",
        "5.00",
        "1.23",
        "0.000000001",
        "-2.50",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("1h30m", 5_400), ("1h1m1s", 3_661), ("0s", 0)]
)
def test_durations_are_seconds(text: str, seconds: int) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "1d", "30m1h", "-5m", "1.5h", "5m ", "5m\n", "1h1h"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hours, minutes and seconds"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        (1, 1_000),
        ("250m", 250),
        ("0.5", 500),
        ("1k", 10**6),
        ("128Mi", 128 * 2**20 * 1_000),
        ("1.5Gi", 3 * 2**29 * 1_000),
    ],
)
def test_quantities_are_thousandths(text: str | int, milli: int) -> None:
    assert units.parse_quantity(text) == milli


@pytest.mark.parametrize("text", ["-1", "1e3", "5X", "Mi", "", " 1", "1Kib"])
def test_other_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Kubernetes quantity"):
        units.parse_quantity(text)


@given(st.integers(0, 10**6), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_canonical_quantities_keep_their_value(number: int, suffix: str) -> None:
    canonical = units.canonical_quantity(f"{number}{suffix}")
    assert units.parse_quantity(canonical) == units.parse_quantity(f"{number}{suffix}")
    assert units.canonical_quantity(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        (2, "2"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1000M", "1G"),
        ("0.5Gi", "512Mi"),
        (2**40, "1099511627776"),
    ],
)
def test_canonical_quantities_are_those_of_the_api_server(text: str | int, canonical: str) -> None:
    assert units.canonical_quantity(text) == canonical
