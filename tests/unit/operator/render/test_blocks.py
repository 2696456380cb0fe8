"""The renderer reads YAML block by block and remembers them; what comes out is what a YAML library reads."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

Render = Callable[[str], object]

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: anything\nversion: 0.1.0\n",
    "values.yaml": "{}\n",
    "templates/all.yaml": "{{ .Values.text }}\n",
}


@pytest.fixture(scope="module")
def render(render_helper: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Render]:
    """Renders a chart that is nothing but the text given; one process for all, for what it remembers counts."""
    chart = tmp_path_factory.mktemp("chart")
    for name, content in CHART.items():
        (chart / name).parent.mkdir(exist_ok=True)
        (chart / name).write_text(content)
    with subprocess.Popen([render_helper, chart], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = process.stdout
        lines.readline()

        def ask(text: str) -> object:
            request = {"id": 1, "release": "r", "namespace": "n", "values": {"text": text}}
            print(json.dumps(request), file=process.stdin, flush=True)
            answer = json.loads(lines.readline())
            return answer.get("error") or answer["objects"]

        yield ask
        process.stdin.close()


# Letters that mean something in YAML, and words that are no strings in it.
WORDS = st.one_of(
    st.text("ab:#-'\"{}[]&*!|>%@,?\\ \n.1é", max_size=12),
    st.sampled_from(["yes", "null", "~", "1e3", "0x1f", "- a", "a: b", "key:", "&x", "*x", "---", "a\n\n", "  a", "#"]),
)
KEYS = st.one_of(st.sampled_from(["a", "b", "kubernetes.io/name", "a-b_c.d", "on", "y", "1", "<<", "a b", "a:"]), WORDS)
VALUES = st.recursive(
    st.one_of(WORDS, st.integers(-(10**18), 10**18), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
STYLES = st.fixed_dictionaries(
    {
        "indent": st.integers(2, 6),
        "width": st.sampled_from([8, 40, 4096]),
        "default_flow_style": st.sampled_from([False, False, False, None, True]),
        "default_style": st.sampled_from([None, None, None, '"', "'", "|", ">"]),
        "allow_unicode": st.booleans(),
    }
)


@given(content=st.dictionaries(KEYS, VALUES, max_size=4), style=STYLES)
def test_any_document_is_what_the_library_reads(
    render: Render, content: dict[str, object], style: dict[str, object]
) -> None:
    text = yaml.safe_dump({"kind": "ConfigMap", "metadata": {"name": "x"}, "content": content}, **style)  # type: ignore[call-overload]
    assert render(text) == render(WHOLE + text)


#: What nobody may take apart, for it might be a directive: so the library reads such a text as a whole.
WHOLE = "# %\n"
HEAD = "kind: ConfigMap\nmetadata:\n  name: x\n"


@pytest.mark.parametrize(
    "text",
    [
        "a: |\n  b: c\n    d\n\n  # e\ng: h\n",
        "a: |+\n  b\n\n\ng: h\n",
        "a: >-\n  b\n  c: d\ng: h\n",
        "a: |2\n    b\ng: h\n",
        "a:\n- b\n- c: d\n  e: f\ng: h\n",
        "a:\n  - b\n  # between\n  - c\ng: h\n",
        "a:  # beside\n  b: c\n# at the edge\n  d: e\ng: h\n",
        "a:\ng: h\n",
        "a:\n\n  b:\n\n    c: d\n",
        "a: 'b\n  c: d'\ng: h\n",
        "a: {b: c,\ng: h}\n",
        'a: "b\ng: h"\n',
        "a: [b,\n  c]\ng: h\n",
        "a: &x {b: c}\ng: *x\n",
        "a: &x\n  b: c\ng:\n  <<: *x\n  d: e\n",
        "a: b # c: d\ng: h\n",
        "a: b:c\ng: http://h:80/\n",
        "a: b\n  c\n  d\ng: h\n",
        "yes: b\n1: c\n",
        "a:\n    b: c\n    d:\n     e: f\n",
        '"a": b\n? g\n: h\n',
        "a: b\rg: h\n",
        "a: b\u2028g: h\n",
        "a: b\na: c\n",
        "a: !!str 1\ng: !!int '2'\n",
    ],
)
def test_every_style_of_yaml_is_read_as_the_library_reads_it(render: Render, text: str) -> None:
    expected = render(WHOLE + HEAD + text)
    for _ in range(2):  # the second time from memory
        assert render(HEAD + text) == expected
    nested = HEAD + "inner:\n" + "".join(f"  {line}" if line.strip() else line for line in text.splitlines(True))
    assert render(nested) == render(WHOLE + nested)
