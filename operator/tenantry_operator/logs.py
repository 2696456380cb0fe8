"""One JSON object for each log line, with the tenant, generation and attempt that it belongs to.

The fields are bound to the running task, so every line written on behalf of a tenant carries them, whoever writes it.
"""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

import msgspec

_bound: ContextVar[dict[str, object]] = ContextVar("log fields", default={})  # noqa: B039 - never mutated

#: What a LogRecord has anyway; everything else in it was given as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Kopf hangs whole objects on its records; a log line is no place for them.
_REFUSED = frozenset({"settings", "k8s_ref", "k8s_skip"})


def bind(**fields: object) -> None:
    """Put these fields on every later line of the running task."""
    _bound.set({**_bound.get(), **fields})


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, what is bound, what was given as ``extra``, and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_bound.get(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD | _REFUSED}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str) -> None:
    """Log to standard error. Kopf speaks up for warnings only: what it does in between is not ours to tell."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("kopf", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
