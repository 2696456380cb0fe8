"""Ratios are ours / theirs, taken within a round; goals are judged by the right side."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.bench.proxy.figures import GOALS, Figure, Result, Round, results, shown, table, verdicts


def rounds_with(ours: Sequence[float], envoy: Sequence[float], figure: Figure = Figure.RPS) -> list[Round]:
    return [{"ours": {figure: a}, "envoy": {figure: b}} for a, b in zip(ours, envoy, strict=True)]


def about(value: float) -> Any:
    """pytest.approx: it stands for a number, but its type is none."""
    return pytest.approx(value)


def test_ratio_is_of_the_same_round_so_that_a_slow_round_is_fair_to_both() -> None:
    told = results(rounds_with(ours=[1200, 120, 1100], envoy=[1000, 100, 1100]))
    assert told["envoy_rps_ratio"] == Result(value=about(1.2), low=1.0, high=about(1.2))


def test_a_round_that_other_programs_disturbed_counts_only_if_there_is_no_better_one() -> None:
    noise = Figure.OTHER_LOAD_PERCENT
    calm = {"ours": {Figure.RPS: 1000.0, noise: 2.0}, "envoy": {Figure.RPS: 1000.0, noise: 3.0}}
    noisy = {"ours": {Figure.RPS: 1000.0, noise: 1.0}, "envoy": {Figure.RPS: 200.0, noise: 78.0}}
    assert results([noisy, calm, noisy])["envoy_rps_ratio"].value == 1.0
    alone = results([noisy])
    assert alone["envoy_rps_ratio"].value == 5.0
    assert verdicts(alone).splitlines()[0].endswith("goal >= 1: met, but disturbed")


def test_a_loss_in_one_round_is_not_hidden_by_the_median() -> None:
    told = results([{"ours": {Figure.LOST_CHUNKS: lost}} for lost in (0, 0, 7)])
    assert told["lost_chunks"].value == 7


def test_delay_of_the_first_chunk_is_what_we_add_to_a_direct_connection() -> None:
    figure = Figure.FIRST_CHUNK_P99_US
    told = results([{"ours": {figure: 350.0}, "direct": {figure: 50.0}}])
    assert told["first_chunk_added_p99_ms"].value == pytest.approx(0.3)


def test_what_did_not_take_part_is_absent_instead_of_zero() -> None:
    told = results([{"ours": {Figure.RPS: 1000.0}, "direct": {Figure.RPS: 9000.0}}])
    assert told.keys() == {"rps"}
    assert results([{"envoy": {Figure.RPS: 1000.0}}]) == {}


def test_a_gateway_that_did_nothing_gives_no_ratio() -> None:
    assert "envoy_rps_ratio" not in results(rounds_with(ours=[1000], envoy=[0]))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("envoy_rps_ratio", 1.0, 0.99), ("p99_ratio", 1.5, 1.51), ("lost_chunks", 0, 1), ("ready_s", 0.4, 1.2)],
)
def test_goals_know_their_good_side(name: str, good: float, bad: float) -> None:
    assert GOALS[name].met_by(good)
    assert not GOALS[name].met_by(bad)


def test_table_shows_medians_and_a_dash_for_what_was_not_measured() -> None:
    text = table([*rounds_with([1000, 3000, 2000], [500, 600, 700]), {"direct": {Figure.READY_S: 0.25}}])
    rps = next(line for line in text.splitlines() if line.startswith(Figure.RPS))
    ready = next(line for line in text.splitlines() if line.startswith(Figure.READY_S))
    assert rps.split()[-3:] == ["2,000", "600", "-"]
    assert ready.split()[-3:] == ["-", "-", "0.25"]


def test_verdict_names_the_goal_that_was_missed() -> None:
    (line,) = verdicts({"p50_ratio": Result(1.25, 1.1, 1.4)}).splitlines()
    assert line.split() == ["p50_ratio", "1.25", "(1.1", "..", "1.4)", "goal", "<=", "1:", "MISSED"]


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.12345, "0.123"), (24_600.4, "24,600"), (-0.01, "-0.01")])
def test_numbers_have_three_digits_and_large_ones_all_of_theirs(value: float, text: str) -> None:
    assert shown(value) == text
