"""The route table of ``/v1``: what each URL is, and how it is treated. A new route is a new row."""

import enum
from typing import NamedTuple
from urllib.parse import unquote

from tenantry_service import errors
from tenantry_service.errors import ApiError


class Plan(enum.Enum):
    """How an exchange treats a route."""

    CHAT = "chat"  # inspect the body, reserve, forward, meter
    MODEL_LIST = "model_list"  # ask the upstream, keep what the tenant may use
    MODEL = "model"  # one model, if the tenant may use it


class Route(NamedTuple):
    """One row. ``operation`` is the metric label (``gen_ai.operation.name`` where the convention has one)."""

    method: str
    template: str
    operation: str
    plan: Plan
    metered: bool


ROUTES = (
    Route("POST", "/v1/chat/completions", "chat", Plan.CHAT, metered=True),
    Route("GET", "/v1/models", "models", Plan.MODEL_LIST, metered=False),
    Route("GET", "/v1/models/{id}", "models", Plan.MODEL, metered=False),
)

#: The label of what the table does not know.
OTHER_OPERATION = "other"

_EXACT: dict[bytes, list[Route]] = {}
_WITH_ID: dict[bytes, list[Route]] = {}
for _route in ROUTES:
    _fixed, _, _parameter = _route.template.partition("{")
    (_WITH_ID if _parameter else _EXACT).setdefault(_fixed.encode(), []).append(_route)


class Match(NamedTuple):
    """A row, and the decoded ``{id}`` if it has one."""

    route: Route
    parameter: str = ""


_EXACT_MATCH = {(route.method, route.template.encode()): Match(route) for route in ROUTES if "{" not in route.template}


def match(method: str, path: bytes) -> Match | ApiError:
    """Find the row of a request: 404 for an unknown URL, 405 for a known one with another method."""
    found = _EXACT_MATCH.get((method, path))
    return found if found is not None else _search(method, path)


def _search(method: str, path: bytes) -> Match | ApiError:
    candidates, parameter = _EXACT.get(path, []), ""
    if not candidates:
        for prefix, routes in _WITH_ID.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                candidates, parameter = routes, unquote(path[len(prefix) :].decode("latin-1"))
    text = path.decode("ascii", "replace")
    # A dot segment would walk to another route of the upstream.
    if not candidates or any(part in (".", "..") for part in parameter.split("/")):
        return errors.route_not_found(method, text)
    for route in candidates:
        if route.method == method:
            return Match(route, parameter)
    return errors.method_not_allowed(method, text, ", ".join(route.method for route in candidates))
