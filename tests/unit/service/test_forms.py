"""The field ``model`` of a form, wherever it stands and however the form is cut."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenantry_service.proxy.forms import MAX_VALUE, FormScanner, scanner

HEAD = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n'


def form(*parts: bytes) -> bytes:
    return b"\r\n".join([*parts, b"--b--\r\n"])


MODEL = HEAD % b"model" + b"whisper-1"
SOUND = FILE + b"\r\n-- \r\n--a\r\n\x00\xff" + b"\r\n" * 5


def scan(body: bytes, *cuts: int) -> FormScanner:
    found = scanner(b"multipart/form-data; boundary=b")
    assert found is not None
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, stop in itertools.pairwise(edges):
        found.feed(body[start:stop])
    return found


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), max_size=8), st.booleans(), st.binary(max_size=60))
def test_the_model_is_found_however_the_form_is_cut(cuts: list[int], first: bool, noise: bytes) -> None:
    other = SOUND + noise.replace(b"--b", b"")
    body = form(MODEL, other) if first else form(other, MODEL)
    found = scan(body, *cuts)
    assert (found.model, found.error, found.ended) == ("whisper-1", None, True)
    assert body[slice(*found.value_at)] == b"whisper-1"


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_no_form_makes_the_scanner_fail_or_hold_much(body: bytes, cuts: list[int]) -> None:
    found = scan(b"--b\r\n" + body, *cuts)
    assert len(found._buffer) <= 8 * 1024 + 20


def test_an_empty_model_and_empty_parts_are_seen() -> None:
    assert scan(form(HEAD % b"model", HEAD % b"x")).model == ""
    assert scan(form(b"--b\r\n\r\nno headers", MODEL)).model == "whisper-1"


@pytest.mark.parametrize(
    "body",
    [
        form(MODEL, HEAD % b"model" + b"gpt-4o-transcribe"),
        form(b"--b\r\nContent-Disposition: form-data; name*=utf-8''model\r\n\r\nx"),
        form(b'--b\r\nContent-Disposition: form-data; name="a"; name="model"\r\n\r\nx'),
        form(HEAD % b"model" + b"m" * (MAX_VALUE + 1)),
        form(HEAD % b"model" + b"\xff\xfe"),
        form(b"--bb\r\n\r\nanother delimiter, or ours?"),
        b"--b\r\n" + b"x-long: " + b"y" * 9000,
    ],
)
def test_what_two_readers_could_understand_in_two_ways_is_refused(body: bytes) -> None:
    assert scan(body).error is not None


@pytest.mark.parametrize("name", [b'"model"', b"model", b'model; filename=""'])
def test_the_name_may_be_written_in_any_way(name: bytes) -> None:
    assert scan(form(b"--b\r\ncontent-disposition: form-data; name=" + name + b"\r\n\r\nx")).model == "x"


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (b"multipart/form-data; boundary=b", True),
        (b'Multipart/Form-Data; charset=x; boundary="b"', True),
        (b"multipart/form-data", False),
        (b"multipart/form-data; boundary=b; boundary=c", False),
        (b"application/json", False),
    ],
)
def test_a_form_says_its_boundary(kind: bytes, known: bool) -> None:
    assert (scanner(kind) is not None) is known
