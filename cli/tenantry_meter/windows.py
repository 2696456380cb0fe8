"""Windows as OpenCost's API names them. Pure.

https://www.opencost.io/docs/integrations/api/#allocation-api
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tenantry_showback.formats import Window

from tenantry_meter.hours import HOUR, hour_of

_AGO = re.compile(r"(\d{1,4})([hd])")
DAY = timedelta(days=1)

FORMS = (
    "today, yesterday, week, lastweek, month, a duration such as 24h or 7d, or two RFC 3339 times with a comma between"
)


class WindowProblem(ValueError):  # noqa: N818  (it is the one who asks who solves it)
    """A window or step that is none; the message says what may be asked for."""


def window(text: str, now: datetime) -> Window:
    """The window that is meant, from a full hour on; its end is never after ``now``. Raises WindowProblem."""
    now = now.astimezone(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - today.weekday() * DAY
    named = {
        "today": (today, now),
        "yesterday": (today - DAY, today),
        "week": (monday, now),
        "lastweek": (monday - 7 * DAY, monday),
        "month": (today.replace(day=1), now),
    }
    if text in named:
        return Window(*named[text])
    ago = _AGO.fullmatch(text)
    if ago is not None and int(ago[1]):
        return Window(hour_of(now - int(ago[1]) * (DAY if ago[2] == "d" else HOUR)), now)
    try:
        start, end = (datetime.fromisoformat(part) for part in text.split(","))
    except ValueError:
        raise WindowProblem(f"window: {text!r} is none of: {FORMS}") from None
    if start.tzinfo is None or end.tzinfo is None or start >= end:
        raise WindowProblem("window: both times need an offset, and the first has to be the earlier one")
    start, end = hour_of(start), end.astimezone(UTC)
    return Window(start, min(end, now) if start < now else end)


def steps(whole: Window, step: str) -> Iterator[Window]:
    """The window in parts of this length: ``1h``, ``1d`` (any number of them), or ``window``: in one. Raises."""
    if step in ("", "window"):
        yield whole
        return
    found = _AGO.fullmatch(step)
    if found is None or not int(found[1]):
        raise WindowProblem(f"step: {step!r} is none of: a duration such as 1h or 1d, or window")
    length = int(found[1]) * (DAY if found[2] == "d" else HOUR)
    if (whole.end - whole.start) / length > 1000:
        raise WindowProblem("step: makes more than 1,000 parts of the window; take a longer one")
    start = whole.start
    while start < whole.end:
        yield Window(start, min(start + length, whole.end))
        start += length
