"""A circuit breaker per upstream address: who fails again and again is left alone for a while. Pure; loop time."""

#: Failures in a row that open the circuit: connections that fail, answers that never come, 502, 503 and 504.
THRESHOLD = 5
#: Seconds until one request may try again; each failed trial doubles them, up to the most.
OPEN_SECONDS = 1.0
MOST_OPEN_SECONDS = 30.0


class Breaker:
    """Closed, open until a time, or half-open: one request is under way to find out."""

    __slots__ = ("_seconds", "_trial", "failures", "open_until")

    def __init__(self) -> None:
        #: In a row; 0 nearly always, which is all that a request has to look at.
        self.failures = 0
        self.open_until = 0.0
        self._seconds = OPEN_SECONDS
        #: Somebody is finding out whether the upstream is well again.
        self._trial = False

    def allows(self, now: float) -> bool:
        """Whether a request may be sent at ``now``. A yes while the circuit is open is the one trial."""
        if self.failures < THRESHOLD:
            return True
        if now < self.open_until:
            return False
        self.open_until = now + self._seconds
        self._trial = True
        return True

    def failed(self, now: float) -> None:
        """A request failed in a way that another one would. All that were under way when the circuit opened fail with
        it; only a trial that fails says that the upstream needs longer."""
        self.failures += 1
        if self._trial:
            self._seconds = min(self._seconds * 2, MOST_OPEN_SECONDS)
        elif self.failures != THRESHOLD:
            return
        self._trial = False
        self.open_until = now + self._seconds

    def succeeded(self) -> None:
        """The upstream answered."""
        self.failures = 0
        self._seconds = OPEN_SECONDS
        self._trial = False
