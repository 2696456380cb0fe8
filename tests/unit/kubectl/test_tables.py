"""Text that people read: columns, ages and shares as kubectl prints them."""

import pytest
from tenantry_kubectl.tables import fields, human, section, share, table
from tenantry_kubectl.usage import measured


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() -> None:
    assert table(("NAME", "TIER"), [("acme", "standard"), ("a-long-name", "")]) == (
        "NAME          TIER\nacme          standard\na-long-name"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (119, "119s"),
        (120, "2m"),
        (130, "2m10s"),
        (3600, "60m"),
        (4 * 3600 + 60, "4h1m"),
        (10 * 3600, "10h"),
        (3 * 86400, "3d"),
        (400 * 86400, "400d"),
    ],
)
def test_ages_have_at_most_two_units(seconds: int, text: str) -> None:
    assert human(seconds) == text


def test_a_share_is_whole_only_when_all_is_used() -> None:
    assert (share(999, 1000), share(1000, 1000), share(1, 0)) == ("99%", "100%", "-")


def test_names_and_values_stand_below_each_other_and_empty_sections_are_left_out() -> None:
    assert fields([("Name", "acme"), ("Tier revision", "s-1")]) == "Name:           acme\nTier revision:  s-1"
    assert section("Pods", "a\nb") == "Pods:\n  a\n  b"
    assert section("Pods", "") == ""


@pytest.mark.parametrize(
    ("quantity", "scale", "found"), [("1834500n", 1000, 2), ("250m", 1000, 250), ("2Ki", 1, 2048), ("12u", 1000, 1)]
)
def test_measured_quantities_are_rounded_up(quantity: str, scale: int, found: int) -> None:
    assert measured(quantity, scale) == found
