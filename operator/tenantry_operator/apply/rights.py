"""Our rights in a namespace that we made a moment ago."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenantry_operator.kube import errors

T = TypeVar("T")

#: The API server's authorizer learns of a new RoleBinding from its own watch, 10-300 ms after it was made,
#: and says 403 until then.
TRIES = 10
PAUSE = 0.15


async def once_granted(call: Callable[[], Awaitable[T]], *, fresh: bool) -> T:
    """``call``, again while it is forbidden, if the namespace is ``fresh``. Raises Forbidden when it stays so."""
    for _ in range(TRIES if fresh else 0):
        try:
            return await call()
        except errors.NamespaceTerminating:
            raise
        except errors.Forbidden:
            await asyncio.sleep(PAUSE)
    return await call()
