"""Budget windows: days and months of UTC. Pure."""

from datetime import UTC, datetime

from tenantry_service.policy import Window

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def window_start(window: Window, wall_ms: int) -> int:
    """Unix seconds at which the budget window that holds ``wall_ms`` began (UTC)."""
    seconds = wall_ms // 1000
    if window is Window.DAY:
        return seconds - seconds % 86400
    now = datetime.fromtimestamp(seconds, UTC)
    return int((datetime(now.year, now.month, 1, tzinfo=UTC) - _EPOCH).total_seconds())


def window_end(window: Window, start: int) -> int:
    """Unix seconds at which the window that began at ``start`` ends."""
    if window is Window.DAY:
        return start + 86400
    begun = datetime.fromtimestamp(start, UTC)
    following = datetime(begun.year + begun.month // 12, begun.month % 12 + 1, 1, tzinfo=UTC)
    return int((following - _EPOCH).total_seconds())
