"""From the ledger's roll-up to the Tenant's status."""

from datetime import UTC, datetime

import pytest
from tenantry_operator.api.allowance import BudgetWindow
from tenantry_operator.plan.usage import RollUp, next_window, rolled_up, usage

NOW = datetime(2026, 11, 21, 17, 30, tzinfo=UTC)
DOCUMENT = """{"v":1,"asOf":"2026-11-21T17:20:00Z",
 "day":{"start":"2026-11-21","requests":3,"inputTokens":30,"cachedInputTokens":4,"outputTokens":12,"nanoUsd":4500,"estimated":0},
 "month":{"start":"2026-11-01","requests":7,"inputTokens":50,"cachedInputTokens":4,"outputTokens":20,"nanoUsd":12500000000,"estimated":1},
 "days":[{"day":"2026-11-21","model":"gpt-4o","requests":3}],"later":true}"""


def read() -> RollUp:
    found = rolled_up(DOCUMENT)
    assert found is not None
    return found


def test_the_window_of_the_budget_is_shown() -> None:
    month, day = (usage(read(), window, NOW) for window in (BudgetWindow.MONTH, BudgetWindow.DAY))
    assert (month.requests, month.tokens, month.spend) == (7, 70, "12.50")
    assert month.window_start == datetime(2026, 11, 1, tzinfo=UTC)
    assert (day.requests, day.tokens, day.spend) == (3, 42, "0.0000045")
    assert day.window_start == datetime(2026, 11, 21, tzinfo=UTC)


def test_a_new_window_begins_with_nothing_even_if_nobody_has_rolled_up_since() -> None:
    tomorrow = datetime(2026, 11, 22, tzinfo=UTC)
    assert usage(read(), BudgetWindow.DAY, tomorrow).spend == "0.00"
    assert usage(read(), BudgetWindow.MONTH, tomorrow).requests == 7
    assert usage(read(), BudgetWindow.MONTH, datetime(2026, 12, 1, tzinfo=UTC)).requests == 0


@pytest.mark.parametrize("document", [None, "", "[]", "{", '{"day": 3}', '{"month": {"requests": "many"}}'])
def test_what_is_no_roll_up_says_nothing(document: str | None) -> None:
    assert rolled_up(document) is None


@pytest.mark.parametrize(
    ("window", "now", "following"),
    [
        (BudgetWindow.DAY, NOW, datetime(2026, 11, 22, tzinfo=UTC)),
        (BudgetWindow.MONTH, NOW, datetime(2026, 12, 1, tzinfo=UTC)),
        (BudgetWindow.MONTH, datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (BudgetWindow.MONTH, datetime(2027, 1, 31, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)),
        (BudgetWindow.DAY, datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_next_window_begins_at_midnight_utc(window: BudgetWindow, now: datetime, following: datetime) -> None:
    assert next_window(window, now) == following
