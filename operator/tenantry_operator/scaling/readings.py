"""What pods have last said of their load, and for how long that counts. No I/O, no clock: times are passed in."""

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct

from tenantry_operator.scaling.inflight import InFlight

#: Seconds after which what a pod said is no news any more: nobody scales by it.
FRESH = 5.0


class Reading(Struct, frozen=True, gc=False):
    """One pod's answer, and when it came: by the monotonic clock, and by that on the wall."""

    load: InFlight
    at: float
    time: datetime


class Readings:
    """The last reading of each pod, by uid."""

    def __init__(self) -> None:
        self._last: dict[str, Reading] = {}

    def put(self, uid: str, reading: Reading) -> None:
        """A pod has answered."""
        self._last[uid] = reading

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._last.pop(uid, None)

    def fresh(self, uid: str, now: float) -> Reading | None:
        """What the pod said, if it was at most ``FRESH`` seconds before ``now`` (monotonic)."""
        last = self._last.get(uid)
        return last if last is not None and now - last.at <= FRESH else None

    def since(self, uids: Collection[str], moment: float) -> list[InFlight] | None:
        """What these pods said at ``moment`` (monotonic) or later; None unless all of them did."""
        said = [self._last.get(uid) for uid in uids]
        loads = [each.load for each in said if each is not None and each.at >= moment]
        return loads if len(loads) == len(said) else None
