"""Estimates: what is learned lowers tokens and never money, and a tenant may insist on a declared cap."""

from hypothesis import given
from hypothesis import strategies as st
from tenantry_service.errors import ApiError
from tenantry_service.policy import Limits, Models
from tenantry_service.proxy import body as bodies
from tenantry_service.proxy.learned import Learned
from tenantry_service.proxy.messages import Refuse, Reserve

from tests.unit.service.playbook import chat_body, play, policy, request, snapshot


@given(st.lists(st.integers(0, 100_000), min_size=64, max_size=400))
def test_what_is_learned_covers_nearly_all_answers_and_not_much_more(lengths: list[int]) -> None:
    learned = Learned()
    for tokens in lengths:
        learned.observe(tokens)
    looked_at = sorted(lengths[: len(lengths) - len(lengths) % 32])
    covered = sum(tokens <= learned.most for tokens in looked_at)
    assert covered * 100 >= len(looked_at) * 95
    at_least = looked_at[-(-len(looked_at) * 95 // 100) - 1]
    assert learned.most <= max(1, at_least + (at_least + 1) // 2)


def test_a_few_answers_teach_nothing() -> None:
    learned = Learned()
    for _ in range(63):
        learned.observe(10)
    assert learned.most == 0


def test_what_is_learned_lowers_the_estimate_of_tokens_and_never_of_money() -> None:
    view = snapshot().views[0]
    target = view.find("gpt-4o-mini")
    assert not isinstance(target, ApiError)
    body = chat_body()
    chat = bodies.inspect_chat(body)
    assert not isinstance(chat, ApiError)
    before = bodies.estimate(chat, body, target, Limits())
    assert before.learned is target.learned
    for _ in range(64):
        target.learned.observe(100)
    after = bodies.estimate(chat, body, target, Limits())
    assert after.output_tokens < before.output_tokens
    assert after.output_tokens >= 100
    assert after.demand.nano_usd == before.demand.nano_usd


def test_who_wants_caps_declared_refuses_what_has_none() -> None:
    strict = policy(limits=Limits(require_declared_max_tokens=True))
    open_ended = play(strict)
    for event in request(body=chat_body()):
        open_ended.on(event)
    (refused,) = [command for command in open_ended.commands if isinstance(command, Refuse)]
    assert (refused.error.status, refused.error.code) == (400, "max_tokens_required")
    assert refused.error.param == "max_completion_tokens"
    for document, body in (
        (strict, chat_body(max_tokens=5)),
        (policy(limits=strict.limits, models=Models(max_output_tokens=10)), chat_body()),
    ):
        declared = play(document)
        for event in request(body=body):
            declared.on(event)
        assert any(isinstance(command, Reserve) for command in declared.commands)
