"""Every URL of the API, and what none of ours may be taken for."""

import ast
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_service.errors import ApiError
from tenantry_service.proxy import routes
from tenantry_service.proxy.routes import ROUTES, Match, Plan, Route


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.template}")
def test_every_row_is_found_by_its_own_url(route: Route) -> None:
    path = route.template.replace("{id}", "abc_1").replace("{model...}", "gpt-4o")
    found = routes.match(route.method, path.encode())
    assert isinstance(found, Match)
    assert found.route == route


def test_no_row_is_there_twice() -> None:
    assert len({(route.method, route.template) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("path", [b"/v1/models/org/model", b"/v1/models/org%2Fmodel"])
def test_the_name_of_a_model_may_hold_slashes(path: bytes) -> None:
    found = routes.match("GET", path)
    assert isinstance(found, Match)
    assert found.parameter == "org/model"


@pytest.mark.parametrize("path", [b"/v1/novelties", b"/v1/responses/r_1/novelty", b"/v1/a/b:c/d.e_f~@g"])
def test_an_unknown_url_passes_as_other(path: bytes) -> None:
    found = routes.match("PATCH", path)
    assert isinstance(found, Match)
    assert (found.route.plan, found.route.operation, found.route.template) == (Plan.OTHER, "other", "/v1/{other}")


@pytest.mark.parametrize("path", [b"/v1/novelties", b"/v1/models", b"/v1/files/f_1/content"])
def test_an_answer_without_a_body_is_never_waited_for(path: bytes) -> None:
    """What HEAD brings looks like an answer whose body is missing."""
    assert isinstance(routes.match("HEAD", path), ApiError)


@given(
    st.sampled_from([route.template for route in ROUTES if "{" not in route.template]),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["/", "//", "/./", "/../", "%2f", "%2e", "\\", ";", "X"]))),
    st.booleans(),
)
def test_nothing_that_another_server_could_take_for_a_known_url_passes_as_other(
    template: str, insertions: list[tuple[int, str]], upper: bool
) -> None:
    """Servers fold slashes, resolve dots, decode escapes and ignore case; after all of that it must not be ours."""
    path = template
    for position, what in insertions:
        if what != "X":
            path = path[: 3 + position] + what + path[3 + position :]
    if upper:
        path = path[:3] + path[3:].upper()
    found = routes.match("POST", path.encode())
    if isinstance(found, ApiError) or found.route.plan is not Plan.OTHER:
        return
    known = {route.template.lower() for route in ROUTES}
    assert path.lower().rstrip("/") not in known
    assert not set(path) & set("%\\;")
    assert "//" not in path
    assert "/." not in path


#: Families of the SDK that the table does not know: they pass as ``other`` where the policy lets them.
UNKNOWN = frozenset(
    [
        "agents",
        "assistants",
        "chatkit",
        "containers",
        "content_provenance_checks",
        "decisions",
        "evals",
        "live",
        "safety",
        "skills",
        "threads",
        "vaults",
        "videos",
        "webhook_endpoints",
        "webhook_event_types",
    ]
)
#: What administers the account of the platform: nobody's here.
REFUSED = frozenset(["organization", "projects"])
#: Newer members of families that the table knows. Calls are media that the upstream exchanges with the browser itself,
#: graders run models that they name deep in their bodies: a policy that refuses what cannot be judged refuses them.
LEFT_OUT = (
    "/audio/voice_consents",
    "/audio/voices",
    "/fine_tuning/alpha/graders/",
    "/realtime/calls",
)


def urls_of_the_sdk() -> set[tuple[str, str]]:
    """Method and path (parameters as in a template) of every request that the installed OpenAI SDK can make."""
    found = set()
    for source in (Path(openai.__file__).parent / "resources").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            method = {"_get_api_list": "GET"}.get(node.func.attr, node.func.attr.removeprefix("_").upper())
            if node.func.attr.startswith("_") and method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
                given = [word.value.value for word in node.keywords if word.arg == "method"]  # type: ignore[attr-defined]
                text = next(one.value for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant))
                assert isinstance(text, str)
                found.add(((given or [method])[0].upper(), text.partition("?")[0]))
    return found


def test_every_url_of_the_sdk_is_in_the_table_or_left_out_for_a_reason() -> None:
    urls = urls_of_the_sdk()
    assert len(urls) > 300
    seen = set()
    for method, path in urls:
        family = path.split("/")[1]
        seen.add(family)
        found = routes.match(method, f"/v1{path}".replace("{", "").replace("}", "").encode())
        if family in REFUSED:
            assert isinstance(found, ApiError), path
            continue
        assert isinstance(found, Match), path
        unknown = family in UNKNOWN or path.startswith(LEFT_OUT)
        assert (found.route.plan is Plan.OTHER) is unknown, (method, path)
    assert seen >= UNKNOWN | REFUSED
