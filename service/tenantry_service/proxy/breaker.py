"""A circuit breaker per upstream address: who fails again and again is left alone for a while. Pure; loop time."""

#: Failures in a row that open the circuit: connections that fail, answers that never come, 502, 503 and 504.
THRESHOLD = 5
#: Seconds until one request may try again; each failed trial doubles them, up to the most.
OPEN_SECONDS = 1.0
MOST_OPEN_SECONDS = 30.0


class Breaker:
    """Closed, open until a time, or half-open: one request is under way to find out."""

    __slots__ = ("_seconds", "failures", "open_until")

    def __init__(self) -> None:
        #: In a row; 0 nearly always, which is all that a request has to look at.
        self.failures = 0
        self.open_until = 0.0
        self._seconds = OPEN_SECONDS

    def allows(self, now: float) -> bool:
        """Whether a request may be sent at ``now``. A yes while the circuit is open is the one trial."""
        if self.failures < THRESHOLD:
            return True
        if now < self.open_until:
            return False
        self.open_until = now + self._seconds
        return True

    def failed(self, now: float) -> None:
        """A request failed in a way that another one would."""
        self.failures += 1
        if self.failures < THRESHOLD:
            return
        if self.failures > THRESHOLD:
            self._seconds = min(self._seconds * 2, MOST_OPEN_SECONDS)
        self.open_until = now + self._seconds

    def succeeded(self) -> None:
        """The upstream answered."""
        self.failures = 0
        self._seconds = OPEN_SECONDS
