"""What the operator's benchmark says of its measurements."""

import pytest

from tests.bench.operator.figures import quantile, summary, table


def test_a_quantile_is_one_of_the_values_and_not_exceeded_by_its_share() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_the_table_says_which_goal_is_missed_and_leaves_out_what_was_not_measured() -> None:
    lines = table({"convergence_ratio": 1.3, "restart_writes": 0.0}).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["NO", "yes"]


def test_the_last_line_holds_what_was_measured() -> None:
    assert summary({"rss_mb": 120.12345, "bare_s": 57.0}) == {"rss_mb": 120.123}
