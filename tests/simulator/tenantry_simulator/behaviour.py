"""How the simulator behaves: set by flags, by ``PUT /simulator/behaviour``, or per request by ``x-simulator-*``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Behaviour:
    """Every field is also a flag (``--output-tokens``), a key of the control route and a header
    (``x-simulator-output-tokens``)."""

    #: Words (= tokens) of the answer; a smaller max_tokens of the request wins.
    output_tokens: int = 10
    #: Input tokens reported as cached.
    cached_tokens: int = 0
    #: Milliseconds before the answer begins, and between the events of a stream.
    latency_ms: int = 0
    gap_ms: int = 0
    #: Answer with this status (and an OpenAI-shaped error) instead; 0: do not. ``retry_after_ms`` goes with it.
    error_status: int = 0
    retry_after_ms: int = 0
    #: Streams: stop sending, but keep the connection, after so many events (-1: do not). 0 stalls before the head.
    stall_after: int = -1
    #: Streams: cut the connection after so many events (-1: do not). 0 cuts before the head; others: within the body.
    die_after: int = -1
    #: Streams: wait after so many events for ``POST /simulator/release`` (-1: do not). 0: any answer, before its head.
    hold_after: int = -1
    #: 1: no usage anywhere.
    omit_usage: int = 0
    #: 1: close the connection after the answer instead of keeping it, without declaring a length.
    until_close: int = 0
    #: Bytes of filler in the answer, for large bodies.
    padding: int = 0

    def changed(self, values: Mapping[str, str | int]) -> "Behaviour":
        """The same with some values changed.

        Raises:
            ValueError: no such behaviour, or not a number.
        """
        known = {field.name for field in fields(self)}
        unknown = values.keys() - known
        if unknown:
            raise ValueError(f"no behaviour {sorted(unknown)}; there are {sorted(known)}")
        return replace(self, **{name: int(value) for name, value in values.items()})
