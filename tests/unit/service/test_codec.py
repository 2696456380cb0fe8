"""Usage events as bytes: what is read is what was written, and what no database takes is no event."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_service.ledger import codec
from tenantry_service.ledger.event import UsageEvent

MADE = UsageEvent(
    "req_1", "acme", "k", 1, 2, "/v1/chat/completions", "m", "m", "main", 200, "none", False,
    1, 0, 2, 0, 3, False, "v", "r", None,
)  # fmt: skip
WORDS = ("tenant", "key_id", "route", "requested_model", "served_model", "error_type", "usage", "key_name")


def saying(field: str, text: str) -> UsageEvent:
    fields: dict[str, Any] = {field: text}
    return MADE._replace(**fields)


@given(
    st.sampled_from(WORDS),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40).map(
        lambda text: text + r"\u0000"
    ),
)
def test_any_text_comes_back_as_it_was_even_one_that_looks_like_an_escaped_nul(field: str, text: str) -> None:
    event = saying(field, text)
    assert codec.decode(codec.encode(event)) == event


@pytest.mark.parametrize("field", WORDS)
def test_a_nul_is_no_event_wherever_it_stands(field: str) -> None:
    with pytest.raises(codec.NoEvent, match="NUL"):
        codec.decode(codec.encode(saying(field, "a\0b")))


@pytest.mark.parametrize("bad", ["", "a b", "a\0", "a\n", "ä", "\x7f", "x" * 201])
def test_an_id_is_short_and_printable(bad: str) -> None:
    with pytest.raises(codec.NoEvent):
        codec.decode(codec.encode(MADE._replace(event_id=bad)))


def test_missing_fields_at_the_end_have_their_defaults_and_unknown_ones_are_ignored() -> None:
    fields = codec.encode(MADE).removesuffix(b',0,0,0,0,0,"",""]')
    assert codec.decode(fields + b"]") == MADE
    assert codec.decode(codec.encode(MADE)[:-1] + b',"later"]') == MADE
