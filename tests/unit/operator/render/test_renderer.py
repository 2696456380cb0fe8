"""The renderer: right objects, a digest that knows all inputs, and a helper that may die, hang or lie."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tenantry_operator.render import HelmRenderer, RenderError
from tenantry_operator.render.helper import Helper
from tenantry_operator.render.renderer import ChartIdentity, canonical, digest_of

CHART = Path(__file__).resolve().parents[4] / "charts" / "tenant"
ACME: dict[str, object] = {
    "tenant": {"name": "acme", "generation": 1},
    "image": {"repository": "tenantry", "tag": "dev"},
    "policy": {"apiVersion": "policy.tenantry.dev/v1", "tenant": "acme", "budget": {"amountNanoUsd": 10**18 - 1}},
    "namespace": {"create": True, "name": "tenant-acme"},
}
#: Seconds for an answer. A helper that is well gives one, however slow the machine is.
PATIENCE = 60.0


def named(name: str) -> dict[str, object]:
    return {**ACME, "tenant": {"name": name, "generation": 1}}


async def started(helper: Helper, **options: int) -> HelmRenderer:
    renderer = HelmRenderer(CHART, helper=helper, **options)
    await renderer.start()
    return renderer


#: A helper in Python that does one thing wrong: what it does with each request is filled in.
FAKE = """
import json, os, sys, time
print(json.dumps({{"renderer": "fake/1", "chart": "fake-1.0.0", "digest": "d"}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    name = request["release"]
    {behaviour}
    print(json.dumps({{"id": request["id"], "objects": [{{"kind": name}}]}}), flush=True)
"""


def fake(behaviour: str, **options: float) -> Helper:
    command = [sys.executable, "-c", FAKE.format(behaviour=behaviour)]
    return Helper(command, **{"timeout": PATIENCE, **options})  # type: ignore[arg-type]


async def test_objects_come_in_the_order_of_installation(render_helper: Path) -> None:
    renderer = await started(Helper([str(render_helper), str(CHART)], timeout=PATIENCE))
    try:
        objects = await renderer.render("acme", "tenant-acme", ACME)
    finally:
        await renderer.close()
    kinds = [str(each["kind"]) for each in objects]
    assert kinds[0] == "Namespace"
    assert kinds.index("NetworkPolicy") < kinds.index("Deployment")
    assert kinds.index("ServiceAccount") < kinds.index("Deployment")
    assert renderer.chart == "tenant-0.1.0"


async def test_integers_stay_exact_beyond_what_a_float_can_hold(render_helper: Path) -> None:
    renderer = await started(Helper([str(render_helper), str(CHART)], timeout=PATIENCE))
    try:
        objects = await renderer.render("acme", "tenant-acme", ACME)
    finally:
        await renderer.close()
    (policy,) = (each["data"] for each in objects if each["kind"] == "ConfigMap")
    assert isinstance(policy, dict)
    assert '"amountNanoUsd":999999999999999999' in policy["policy.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resources": {"requests": {"cpu": "much"}}}, "resources.requests.cpu"),
        ({"unheardOf": 1}, "unheardOf"),
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "autoscaling.minReplicas is 3"),
    ],
)
async def test_values_that_the_chart_refuses_are_named(
    render_helper: Path, change: Mapping[str, object], message: str
) -> None:
    renderer = await started(Helper([str(render_helper), str(CHART)], timeout=PATIENCE))
    try:
        with pytest.raises(RenderError, match=message):
            await renderer.render("acme", "tenant-acme", {**ACME, **change})
    finally:
        await renderer.close()


@pytest.mark.parametrize("function", ["now", "randAlphaNum 5", "uuidv4", "lookup `v1` `Secret` `a` `b`", 'tpl "x" .'])
async def test_a_chart_that_is_not_a_function_of_its_values_is_not_loaded(
    render_helper: Path, tmp_path: Path, function: str
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: tenant\nversion: 1.0.0\n")
    (tmp_path / "templates" / "a.yaml").write_text("a: {{ " + function + " }}\n")
    helper = Helper([str(render_helper), str(tmp_path)])
    with pytest.raises(RenderError, match="did not start"):
        await helper.start()


async def test_hooks_are_refused_because_nobody_would_run_them(render_helper: Path, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: tenant\nversion: 1.0.0\n")
    hook = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {helm.sh/hook: pre-install}}\n"
    (tmp_path / "templates" / "a.yaml").write_text(hook)
    helper = Helper([str(render_helper), str(tmp_path)], timeout=PATIENCE)
    try:
        with pytest.raises(RenderError, match="hooks are not run here: ConfigMap a"):
            await helper.render("a", "a", b"{}")
    finally:
        await helper.close()


async def test_a_missing_helper_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENANTRY_RENDER", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RenderError, match="make render-helper"):
        HelmRenderer(CHART)


def test_the_digest_depends_on_chart_renderer_and_values_and_on_nothing_else() -> None:
    base = ChartIdentity(renderer="r/1", chart="tenant-1", digest="a")
    values = canonical({"b": 1, "a": {"y": 1, "x": 2}})
    same = canonical({"a": {"x": 2, "y": 1}, "b": 1})
    assert digest_of(base, values) == digest_of(base, same)
    others = {
        digest_of(ChartIdentity(renderer="r/2", chart="tenant-1", digest="a"), values),
        digest_of(ChartIdentity(renderer="r/1", chart="tenant-1", digest="b"), values),
        digest_of(base, canonical({"b": 1, "a": {"y": 1, "x": 3}})),
    }
    assert len(others) == 3
    assert digest_of(base, values) not in others


async def test_equal_values_are_rendered_once_and_results_do_not_share_anything() -> None:
    renderer = await started(fake("pass"))
    try:
        first = await renderer.render("acme", "tenant-acme", ACME)
        assert isinstance(first[0], dict)
        first[0]["kind"] = "changed by the caller"
        second = await renderer.render("acme", "tenant-acme", ACME)
    finally:
        await renderer.close()
    assert second == [{"kind": "acme"}]
    assert (renderer.hits, renderer.misses) == (1, 1)


async def test_a_helper_that_reads_no_more_gets_no_second_request(tmp_path: Path) -> None:
    mark = tmp_path / "deaf"
    # Its output stays open for a while, so that only a refused write tells.
    first = f"if not os.path.exists({str(mark)!r}): os.close(0); open({str(mark)!r}, 'w').close(); time.sleep(1)"
    helper = fake(first)
    try:
        unheard = asyncio.create_task(helper.render("unheard", "n", b"{}"))
        while not mark.exists():  # noqa: ASYNC110 - another process has no Event to wait for
            await asyncio.sleep(0.01)
        answers = [await helper.render("next", "n", b"{}"), await unheard]
    finally:
        await helper.close()
    assert [objects for _, objects in answers] == [b'[{"kind": "next"}]', b'[{"kind": "unheard"}]']
    assert helper.starts == 2


async def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    renderer = await started(fake("pass"), cache_entries=2)
    try:
        for name in ("a", "b", "a", "c", "a", "b"):
            await renderer.render(name, name, named(name))
    finally:
        await renderer.close()
    assert (renderer.hits, renderer.misses) == (2, 4)


async def test_requests_of_a_helper_that_dies_are_answered_by_the_next_one(tmp_path: Path) -> None:
    mark = tmp_path / "died"
    helper = fake(f"if not os.path.exists({str(mark)!r}): open({str(mark)!r}, 'w').close(); os._exit(9)")
    try:
        answers = await asyncio.gather(*(helper.render(str(n), "n", b"{}") for n in range(20)))
    finally:
        await helper.close()
    assert [objects for _, objects in answers] == [b'[{"kind": "%d"}]' % n for n in range(20)]
    assert helper.starts == 2


async def test_a_request_that_kills_every_helper_is_refused_and_the_others_are_not() -> None:
    helper = fake("if name == 'poison': os._exit(9)")
    try:
        with pytest.raises(RenderError, match="died 2 times"):
            await helper.render("poison", "n", b"{}")
        assert (await helper.render("good", "n", b"{}"))[1] == b'[{"kind": "good"}]'
    finally:
        await helper.close()


async def test_a_helper_that_hangs_is_ended_and_the_next_request_gets_another() -> None:
    helper = fake("if name == 'slow': time.sleep(60)", timeout=0.3)
    try:
        with pytest.raises(RenderError, match=r"did not answer within 0\.3 s"):
            await helper.render("slow", "n", b"{}")
        helper._timeout = PATIENCE
        assert (await helper.render("good", "n", b"{}"))[1] == b'[{"kind": "good"}]'
    finally:
        await helper.close()
    assert helper.starts == 2


async def test_a_cancelled_request_leaves_the_helper_usable(tmp_path: Path) -> None:
    begun, over = tmp_path / "begun", tmp_path / "over"
    waits = f"open({str(begun)!r}, 'w').close()\n        while not os.path.exists({str(over)!r}): time.sleep(0.01)"
    helper = fake(f"if name == 'slow':\n        {waits}", in_flight=1)
    try:
        await helper.start()
        slow = asyncio.create_task(helper.render("slow", "n", b"{}"))
        while not begun.exists():  # noqa: ASYNC110 - another process has no Event to wait for
            await asyncio.sleep(0.01)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        good = asyncio.create_task(helper.render("good", "n", b"{}"))
        await asyncio.sleep(0.05)
        over.touch()
        assert (await good)[1] == b'[{"kind": "good"}]'
    finally:
        await helper.close()
    assert helper.starts == 1


async def test_a_helper_that_answers_nonsense_is_replaced() -> None:
    helper = fake("if name == 'odd': print('not json', flush=True); continue")
    try:
        with pytest.raises(RenderError, match="died 2 times"):
            await helper.render("odd", "n", b"{}")
        assert (await helper.render("good", "n", b"{}"))[1] == b'[{"kind": "good"}]'
    finally:
        await helper.close()


@pytest.mark.parametrize("command", [["/nowhere/tenantry-render"], [sys.executable, "-c", "raise SystemExit(1)"]])
async def test_a_helper_that_does_not_start_is_an_error_and_not_a_wait(command: list[str]) -> None:
    with pytest.raises(RenderError, match="start"):
        await Helper(command).start()
