"""The route table of ``/v1``: what each URL is, and how it is treated. A new route is a new row.

Source: OpenAI's API reference, https://platform.openai.com/docs/api-reference. What the table does not know is passed
on as ``other`` if the tenant's policy allows it. Pure.
"""

import enum
import re
from typing import Final
from urllib.parse import unquote

from tenantry_service import errors
from tenantry_service.errors import ApiError


class Plan(enum.Enum):
    """How an exchange treats a route."""

    # JSON bodies that are read before they are sent: which model, and what it may cost.
    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    IMAGES = "images"
    SPEECH = "speech"
    #: A model is named, nothing is charged: moderations, secrets and sessions of realtime.
    FREE_OF_CHARGE = "free_of_charge"
    # Forms, which name their model somewhere while they pass.
    TRANSCRIPTION = "transcription"
    IMAGE_FORM = "image_form"
    #: Everything passes, one request is counted.
    FORWARD = "forward"
    #: The same for what is not in the table; usage is charged where an answer says it.
    OTHER = "other"
    # WebSockets: the model is in the query, or in each message.
    REALTIME = "realtime"
    RESPONSES_SOCKET = "responses_socket"
    MODEL_LIST = "model_list"  # ask the upstreams, keep what the tenant may use
    MODEL = "model"  # one model, if the tenant may use it


#: Bodies that are held until they have been read; all others pass through as they come.
INSPECTED = frozenset(
    [
        Plan.CHAT,
        Plan.COMPLETIONS,
        Plan.RESPONSES,
        Plan.EMBEDDINGS,
        Plan.IMAGES,
        Plan.SPEECH,
        Plan.FREE_OF_CHARGE,
        Plan.MODEL_LIST,
        Plan.MODEL,
    ]
)
#: Bodies that are multipart forms with a field ``model``.
FORMS = frozenset([Plan.TRANSCRIPTION, Plan.IMAGE_FORM])


class Route:
    """One row. ``operation`` is the metric label (``gen_ai.operation.name`` where the convention has one);
    ``metered``: it is counted against the limits and written to the ledger."""

    __slots__ = ("metered", "method", "operation", "plan", "template")

    def __init__(self, method: str, template: str, operation: str, plan: Plan, metered: bool) -> None:
        self.method = method
        self.template = template
        self.operation = operation
        self.plan = plan
        self.metered = metered


#: The label of what the table does not know.
OTHER_OPERATION = "other"
_OTHER_TEMPLATE = "/v1/{other}"

_READ_BEFORE = (
    ("/v1/chat/completions", "chat", Plan.CHAT),
    ("/v1/completions", "text_completion", Plan.COMPLETIONS),
    ("/v1/responses", "responses", Plan.RESPONSES),
    ("/v1/responses/compact", "responses", Plan.RESPONSES),
    ("/v1/responses/input_tokens", "responses", Plan.FREE_OF_CHARGE),
    ("/v1/embeddings", "embeddings", Plan.EMBEDDINGS),
    ("/v1/images/generations", "images", Plan.IMAGES),
    ("/v1/audio/speech", "speech", Plan.SPEECH),
    ("/v1/moderations", "moderations", Plan.FREE_OF_CHARGE),
    ("/v1/realtime/client_secrets", "realtime", Plan.FREE_OF_CHARGE),
    ("/v1/realtime/sessions", "realtime", Plan.FREE_OF_CHARGE),
    ("/v1/realtime/transcription_sessions", "realtime", Plan.FREE_OF_CHARGE),
    ("/v1/realtime/translations/client_secrets", "realtime", Plan.FREE_OF_CHARGE),
    ("/v1/audio/transcriptions", "transcription", Plan.TRANSCRIPTION),
    ("/v1/audio/translations", "transcription", Plan.TRANSCRIPTION),
    ("/v1/images/edits", "images", Plan.IMAGE_FORM),
    ("/v1/images/variations", "images", Plan.IMAGE_FORM),
)
#: Methods, template, operation of what passes.
_PASSED = (
    ("GET", "/v1/chat/completions", "chat"),
    ("GET POST DELETE", "/v1/chat/completions/{id}", "chat"),
    ("GET", "/v1/chat/completions/{id}/messages", "chat"),
    ("GET DELETE", "/v1/responses/{id}", "responses"),
    ("POST", "/v1/responses/{id}/cancel", "responses"),
    ("GET", "/v1/responses/{id}/input_items", "responses"),
    ("POST", "/v1/conversations", "conversations"),
    ("GET POST DELETE", "/v1/conversations/{id}", "conversations"),
    ("GET POST", "/v1/conversations/{id}/items", "conversations"),
    ("GET DELETE", "/v1/conversations/{id}/items/{id}", "conversations"),
    ("GET POST", "/v1/files", "files"),
    ("GET DELETE", "/v1/files/{id}", "files"),
    ("GET", "/v1/files/{id}/content", "files"),
    ("POST", "/v1/uploads", "uploads"),
    ("POST", "/v1/uploads/{id}/parts", "uploads"),
    ("POST", "/v1/uploads/{id}/complete", "uploads"),
    ("POST", "/v1/uploads/{id}/cancel", "uploads"),
    ("GET POST", "/v1/batches", "batches"),
    ("GET", "/v1/batches/{id}", "batches"),
    ("POST", "/v1/batches/{id}/cancel", "batches"),
    ("GET POST", "/v1/fine_tuning/jobs", "fine_tuning"),
    ("GET", "/v1/fine_tuning/jobs/{id}", "fine_tuning"),
    ("POST", "/v1/fine_tuning/jobs/{id}/cancel", "fine_tuning"),
    ("POST", "/v1/fine_tuning/jobs/{id}/pause", "fine_tuning"),
    ("POST", "/v1/fine_tuning/jobs/{id}/resume", "fine_tuning"),
    ("GET", "/v1/fine_tuning/jobs/{id}/events", "fine_tuning"),
    ("GET", "/v1/fine_tuning/jobs/{id}/checkpoints", "fine_tuning"),
    ("GET POST", "/v1/fine_tuning/checkpoints/{id}/permissions", "fine_tuning"),
    ("DELETE", "/v1/fine_tuning/checkpoints/{id}/permissions/{id}", "fine_tuning"),
    ("GET POST", "/v1/vector_stores", "vector_stores"),
    ("GET POST DELETE", "/v1/vector_stores/{id}", "vector_stores"),
    ("POST", "/v1/vector_stores/{id}/search", "vector_stores"),
    ("GET POST", "/v1/vector_stores/{id}/files", "vector_stores"),
    ("GET POST DELETE", "/v1/vector_stores/{id}/files/{id}", "vector_stores"),
    ("GET", "/v1/vector_stores/{id}/files/{id}/content", "vector_stores"),
    ("POST", "/v1/vector_stores/{id}/file_batches", "vector_stores"),
    ("GET", "/v1/vector_stores/{id}/file_batches/{id}", "vector_stores"),
    ("POST", "/v1/vector_stores/{id}/file_batches/{id}/cancel", "vector_stores"),
    ("GET", "/v1/vector_stores/{id}/file_batches/{id}/files", "vector_stores"),
)

ROUTES = (
    *(Route("POST", template, operation, plan, metered=True) for template, operation, plan in _READ_BEFORE),
    *(
        Route(method, template, operation, Plan.FORWARD, metered=True)
        for methods, template, operation in _PASSED
        for method in methods.split()
    ),
    Route("GET", "/v1/models", "models", Plan.MODEL_LIST, metered=False),
    Route("GET", "/v1/models/{model...}", "models", Plan.MODEL, metered=False),
    # Of a fine-tuned model.
    Route("DELETE", "/v1/models/{model...}", "models", Plan.MODEL, metered=True),
)
#: What is spoken to by WebSocket.
SOCKETS = {
    b"/v1/realtime": Route("GET", "/v1/realtime", "realtime", Plan.REALTIME, metered=True),
    b"/v1/responses": Route("GET", "/v1/responses", "responses", Plan.RESPONSES_SOCKET, metered=True),
}
#: What the account of the platform is administered by: never a tenant's business, whatever its policy says.
_NOBODYS = frozenset(["organization", "organizations", "projects", "dashboard"])


class Match:
    """A row, and the decoded last parameter of its path if it has one."""

    __slots__ = ("parameter", "route")

    def __init__(self, route: Route, parameter: str = "") -> None:
        self.route = route
        self.parameter = parameter


class _Node:
    """One segment of the table's paths."""

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, Route] = {}
        #: Its parameter takes the rest of the path, slashes and all.
        self.takes_rest = False


def _tree() -> _Node:
    root = _Node()
    for route in ROUTES:
        node = root
        for segment in route.template.split("/")[2:]:
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node.takes_rest = segment.endswith("...}")
                node = node.parameter
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.routes[route.method] = route
    return root


_ROOT = _tree()
_EXACT_MATCH: Final = {
    (route.method, route.template.encode()): Match(route) for route in ROUTES if "{" not in route.template
}
#: What a path that nobody here knows may consist of: nothing that another server could read as a path which we do know.
_PLAIN = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.~:@-]+")
_METHOD = re.compile(r"[A-Z]{3,16}")
#: Never passed on: the first two speak to proxies, and the answer to the last looks as if its body were missing.
_NO_METHODS = frozenset(["CONNECT", "TRACE", "HEAD"])


def match(method: str, path: bytes) -> Match | ApiError:
    """Find the row of a request: 404 for a URL that can be nobody's, 405 for a known one with another method."""
    found = _EXACT_MATCH.get((method, path))
    return found if found is not None else _search(method, path)


def _search(method: str, path: bytes) -> Match | ApiError:
    text = path.decode("ascii", "replace")
    segments = text.split("/")[2:]
    decoded = [unquote(segment) for segment in segments]
    # A dot segment would walk to another route of the upstream, and so would what becomes one when it is decoded.
    steps = [step for segment in decoded for step in re.split(r"[/\\]", segment)]
    if not path.startswith(b"/v1/") or any(step in (".", "..") for step in steps):
        return errors.route_not_found(method, text)
    node, parameter = _walk(_ROOT, decoded)
    if node is None:
        return _other(method, text, segments)
    found = node.routes.get(method)
    if found is None:
        return errors.method_not_allowed(method, text, ", ".join(node.routes))
    return Match(found, parameter)


def _walk(node: _Node, segments: list[str]) -> tuple[_Node | None, str]:
    parameter = ""
    for index, segment in enumerate(segments):
        following = node.fixed.get(segment)
        if following is None and node.parameter is not None and segment:
            following = node.parameter
            if node.takes_rest:
                return following, "/".join(segments[index:])
            # An id that decodes to a path would reach another route.
            if "/" in segment:
                return None, ""
            parameter = segment
        if following is None:
            return None, ""
        node = following
    return (node if node.routes else None), parameter


def _other(method: str, text: str, segments: list[str]) -> Match | ApiError:
    """A URL that we do not know. One that some server might take for one that we know is refused: it would get around
    what is known about that one."""
    lower = [segment.lower() for segment in segments]
    known, _ = _walk(_ROOT, lower)
    if (
        known is not None
        or lower[0] in _NOBODYS
        or not all(_PLAIN.fullmatch(segment) for segment in segments)
        or not _METHOD.fullmatch(method)
        or method in _NO_METHODS
    ):
        return errors.route_not_found(method, text)
    return Match(Route(method, _OTHER_TEMPLATE, OTHER_OPERATION, Plan.OTHER, metered=True))
