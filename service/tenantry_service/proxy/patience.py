"""How long the connection of a client may keep us waiting, and for what. Pure; all times are the loop's, in seconds."""

import enum

NEVER = float("inf")

#: Seconds given to a client to close after its last answer, once it has taken all of it.
LINGER_SECONDS = 2.0


class Overdue(enum.Enum):
    """What a client has failed to do in time."""

    SEND = "send"
    READ = "read"
    CLOSE = "close"


class Patience:
    """The deadlines of one connection, side by side: a client may owe us both a body and its attention."""

    __slots__ = ("_close_by", "_read_by", "_stalled_seconds", "_unread", "send_by")

    def __init__(self, stalled_seconds: float) -> None:
        self._stalled_seconds = stalled_seconds
        #: When it must have sent what we wait for: a head, the rest of one, the next request, the rest of a body.
        self.send_by = NEVER
        self._read_by = NEVER
        self._close_by = NEVER
        self._unread = 0

    def expect_reading(self, now: float, unread: int) -> None:
        """``unread`` bytes of output wait for the client."""
        self._unread = unread
        self._read_by = now + self._stalled_seconds

    def has_read(self) -> None:
        """The output is as good as taken."""
        self._read_by = NEVER

    def expect_closing(self, now: float, unread: int) -> None:
        """The last answer is on its way, and after that the client has to go."""
        self.send_by = NEVER
        self.expect_reading(now, unread)
        self._close_by = now + LINGER_SECONDS

    @property
    def watches_output(self) -> bool:
        """Whether :meth:`overdue` has to know how much is unread."""
        return self._read_by != NEVER

    def overdue(self, now: float, unread: int) -> Overdue | None:
        """What is overdue at ``now``, with ``unread`` bytes of output left. A client that takes anything, however slow,
        is not stalled."""
        if self._read_by != NEVER:
            if unread < self._unread:
                self.expect_reading(now, unread)
            elif unread and now >= self._read_by:
                return Overdue.READ
        if unread and self._close_by != NEVER:
            self._close_by = now + LINGER_SECONDS
        if now >= self._close_by:
            return Overdue.CLOSE
        return Overdue.SEND if now >= self.send_by else None
