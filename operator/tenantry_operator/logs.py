"""The product's log lines, each with the tenant, generation and attempt that it belongs to.

The fields are bound to the running task, so every line written on behalf of a tenant carries them, whoever writes it.
"""

import logging
from collections.abc import Mapping
from contextvars import ContextVar

from tenantry_service import logs

_bound: ContextVar[dict[str, object]] = ContextVar("log fields", default={})  # noqa: B039 - never mutated


def bind(**fields: object) -> None:
    """Put these fields on every later line of the running task."""
    _bound.set({**_bound.get(), **fields})


def bound() -> Mapping[str, object]:
    """What is on every line of the running task."""
    return _bound.get()


def configure(level: str) -> None:
    """Log to standard error. Kopf speaks up for warnings only: what it does in between is not ours to tell."""
    logs.configure(level, bound)
    for noisy in ("kopf", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
