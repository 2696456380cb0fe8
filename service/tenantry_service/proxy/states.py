"""Where an exchange can be, and what it waits for there. Pure."""

import enum
from typing import Final

from tenantry_service.proxy.messages import Timer


class State(enum.IntEnum):
    """Where an exchange is."""

    NEW = 0
    RECEIVING = 1
    RESERVING = 2
    ABANDONED = 3
    CONNECTING = 4
    #: The body passes through: the client owes the next piece, or the upstream takes none.
    UPLOADING = 5
    BLOCKED = 6
    WAITING = 7
    #: The same upstream is asked again when it said that it may be.
    BACKING_OFF = 8
    ANSWERING = 9
    DONE = 10
    #: It may have been answered before.
    RECALLING = 11


#: The timer that runs in each state. It starts anew with every byte of request and answer.
TIMERS: Final[tuple[Timer | None, ...]] = (
    None,
    Timer.REQUEST_BODY,
    None,
    None,
    Timer.CONNECT,
    Timer.REQUEST_BODY,
    Timer.IDLE,
    Timer.FIRST_BYTE,
    Timer.RETRY,
    Timer.IDLE,
    None,
    None,
)

# Asking an enum class for a member costs ten times as much as asking the module.
NEW: Final = State.NEW
RECEIVING: Final = State.RECEIVING
RESERVING: Final = State.RESERVING
ABANDONED: Final = State.ABANDONED
CONNECTING: Final = State.CONNECTING
UPLOADING: Final = State.UPLOADING
BLOCKED: Final = State.BLOCKED
WAITING: Final = State.WAITING
BACKING_OFF: Final = State.BACKING_OFF
ANSWERING: Final = State.ANSWERING
DONE: Final = State.DONE
RECALLING: Final = State.RECALLING
#: While the client shall send no more of a body that passes through.
HOLDING: Final = frozenset([RECALLING, RESERVING, ABANDONED, CONNECTING, BLOCKED, BACKING_OFF])
