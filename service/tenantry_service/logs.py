"""Logs: one JSON object per line on stderr. Nothing on the hot path logs; secrets are never given to a logger."""

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

#: What a LogRecord has anyway; everything else in it was given as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Libraries hang whole objects on their records (uvicorn, Kopf); a log line is no place for them.
_REFUSED = frozenset({"color_message", "settings", "k8s_ref", "k8s_skip"})


def _nothing() -> Mapping[str, object]:
    return {}


class JsonFormatter(logging.Formatter):
    """A record as JSON: time, level, logger, message, what ``bound`` and ``extra`` give, and the traceback if any."""

    def __init__(self, bound: Callable[[], Mapping[str, object]] = _nothing) -> None:
        super().__init__()
        self._bound = bound

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._bound(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD | _REFUSED}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str, bound: Callable[[], Mapping[str, object]] = _nothing) -> None:
    """Send everything from ``level`` up to stderr; ``bound`` gives the fields that every line has at that moment."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(bound))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
