"""Answers that are kept: given again to who may have them, bounded, and never half."""

from hypothesis import given
from hypothesis import strategies as st
from tenantry_service.policy import Keeping
from tenantry_service.proxy.kept import TOO_LARGE, Claim, KeptAnswer, MemoryAnswers, Purpose, Recalled, Verdict

KEEPING = Keeping(ttl_seconds=60, max_bytes=65_536)
ANSWER = KeptAnswer(200, b"content-type: application/json\r\n", b"{}")


def claim(
    key: bytes = b"k", fingerprint: bytes = b"f", tenant: str = "acme", purpose: Purpose = Purpose.IDEMPOTENCY
) -> Claim:
    return Claim(tenant, purpose, key, fingerprint, KEEPING)


def ask(store: MemoryAnswers, what: Claim, now: float = 0.0) -> Recalled:
    told: list[Recalled] = []
    store.claim(what, now, told.append)
    (answer,) = told
    return answer


def test_the_first_may_go_on_the_second_waits_and_then_gets_the_same_answer() -> None:
    store = MemoryAnswers()
    assert ask(store, claim()) is Verdict.GRANTED
    assert ask(store, claim()) is Verdict.IN_PROGRESS
    store.keep(claim(), ANSWER, 1.0)
    assert ask(store, claim(), 60.0) is ANSWER
    assert ask(store, claim(), 61.0) is Verdict.GRANTED


def test_a_key_of_another_request_is_a_conflict_while_it_is_made_and_afterwards() -> None:
    store = MemoryAnswers()
    ask(store, claim())
    assert ask(store, claim(fingerprint=b"other")) is Verdict.CONFLICT
    store.keep(claim(), ANSWER, 0.0)
    assert ask(store, claim(fingerprint=b"other")) is Verdict.CONFLICT


def test_who_gives_no_answer_leaves_the_next_one_to_try_and_a_large_one_is_not_tried_again() -> None:
    store = MemoryAnswers()
    ask(store, claim())
    store.keep(claim(), None, 0.0)
    assert ask(store, claim()) is Verdict.GRANTED
    store.keep(claim(), TOO_LARGE, 0.0)
    assert ask(store, claim()) is Verdict.TOO_LARGE


def test_nothing_passes_from_one_tenant_or_purpose_to_another() -> None:
    store = MemoryAnswers()
    store.keep(claim(), ANSWER, 0.0)
    assert ask(store, claim(tenant="globex")) is Verdict.GRANTED
    assert ask(store, claim(purpose=Purpose.CACHE)) is Verdict.GRANTED


def test_the_cache_lets_everybody_ask_who_comes_before_the_first_answer() -> None:
    store = MemoryAnswers()
    cached = claim(purpose=Purpose.CACHE)
    assert [ask(store, cached), ask(store, cached)] == [Verdict.GRANTED] * 2
    assert store.size == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 16_000), st.booleans()), max_size=60))
def test_what_is_kept_is_bounded_and_the_last_used_stays(steps: list[tuple[int, int, bool]]) -> None:
    store = MemoryAnswers()
    for number, size, used_again in steps:
        key = b"%d" % number
        store.keep(claim(key), KeptAnswer(200, b"", b"x" * size), 0.0)
        assert store.size <= KEEPING.max_bytes
        if used_again:
            assert isinstance(ask(store, claim(key)), KeptAnswer)
