"""When a request is overdue: one deadline, for what its exchange waits for at the moment."""

from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.measured import Measured
from tenantry_service.proxy.messages import Timer
from tenantry_service.proxy.patience import NEVER
from tenantry_service.proxy.states import NEW, TIMERS


class Timed(Measured):
    """An exchange and its deadline. Deadlines are looked at once in a sweep, and set no more often."""

    __slots__ = ("_armed_at", "_armed_in", "_idle_by", "_paused", "_quiet", "deadline")

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        #: The client reads slowly, so the upstream has no deadline.
        self._paused = False
        #: The answer is a stream, which may be kept alive; and when it has been silent for too long.
        self._quiet = False
        self._idle_by = NEVER
        #: When the running timer is due (loop time), and when and for which state that was found.
        self.deadline = NEVER
        self._armed_at = NEVER
        self._armed_in = NEW

    @property
    def streams(self) -> bool:
        """Whether its answer has begun and comes in pieces."""
        return self._quiet

    def _arm(self) -> None:
        now, state = self._engine.now, self._exchange.state
        if now == self._armed_at and state is self._armed_in:
            # The engine's time moves once in a sweep; many chunks of a stream come in between.
            return
        self._armed_at, self._armed_in = now, state
        timer = TIMERS[state]
        if timer is None or self._paused:
            self.deadline = NEVER
        elif timer is Timer.RETRY:
            self.deadline = now + self._exchange.wait_seconds
        else:
            self.deadline = now + self._engine.seconds[timer]
            if self._quiet:
                self._idle_by = self.deadline
                self.deadline = min(self.deadline, now + self._engine.seconds[Timer.QUIET])

    def _disarm(self) -> None:
        self.deadline = NEVER
        self._armed_at = NEVER

    def _began_to_stream(self) -> None:
        self._quiet = True
        self._disarm()
        self._arm()

    def _stays_quiet(self) -> bool:
        """The deadline has passed: whether it was only that of a stream which is to be kept alive."""
        return self._quiet and self._idle_by > self._engine.now

    def _arm_quiet(self) -> None:
        """Its next keep-alive is due when it has been silent for as long again; its end, as before."""
        self._armed_at = NEVER
        self.deadline = min(self._engine.now + self._engine.seconds[Timer.QUIET], self._idle_by)
