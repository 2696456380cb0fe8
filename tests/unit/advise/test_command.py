"""`tenantry advise` on a terminal and without one."""

import json
from collections.abc import Iterator

import pytest
from tenantry_advise.main import UnansweredError, answers_of, main, parser
from tenantry_advise.questions import Answers, Operator, Runtime, Traffic, Unit

ALL = ["--unit", "seconds", "--traffic", "steady", "--runtime", "small", "--operator", "platform-team"]


def test_flags_answer_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ALL, "--tenants", "500"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("eks, about ")
    assert "+ the team has it already" in shown
    assert "app-runner" in shown
    assert "ruled out" in shown


def test_json_has_the_answer_and_every_systems_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ALL, "--format", "json", "--tenants", "500"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"] == told["systems"][0]["system"] == "eks"
    assert all(system["reasons"] for system in told["systems"])


def test_what_is_missing_is_asked_for_until_it_is_answered() -> None:
    said: Iterator[str] = iter(["2", "many", "", "rare", "3", " nobody "])
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return next(said)

    answers = answers_of(parser().parse_args([]), ask)
    assert answers == Answers(Unit.MINUTES, Traffic.RARE, Runtime.ACCELERATED, Operator.NOBODY)
    assert sum("?" in prompt for prompt in prompts) == 4, "each question once"


def test_a_terminal_that_closes_is_no_answer() -> None:
    def ask(_: str) -> str:
        raise EOFError

    with pytest.raises(UnansweredError, match="--traffic"):
        answers_of(parser().parse_args(["--unit", "seconds"]), ask)


def test_without_a_terminal_the_missing_flags_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert main(ALL[:4]) == 2
    said = capsys.readouterr().err
    assert "--runtime small|image|accelerated" in said
    assert "--unit" not in said


def test_answers_shape_the_workload_unless_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    def cents(*more: str) -> str:
        assert main(["--unit", "minutes", *ALL[2:], "--format", "json", *more]) == 0
        told = json.loads(capsys.readouterr().out)
        return str(next(system["usd"] for system in told["systems"] if system["system"] == "lambda"))

    assert cents() == cents("--stream-seconds", "120")
    assert cents() != cents("--stream-seconds", "60")
