"""``tenantry advise``: asks what it was not told, and answers."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from tenantry_cost.bill import System, usd
from tenantry_cost.book import PriceError
from tenantry_cost.main import add_workload, workload_of

from tenantry_advise.advice import PEAK, STREAM_SECONDS, Advice, Judged, advise
from tenantry_advise.questions import QUESTIONS, Answers, Operator, Question, Runtime, Traffic, Unit

USAGE_ERROR = 2

#: What one gets there, and where its template is.
WHAT = {
    System.EKS: "the whole platform: a Tenant resource for each customer (docs/install-on-eks.md)",
    System.ECS_FARGATE: "`tenantry serve` behind a load balancer, without the operator (infra/ecs-fargate)",
    System.EC2_ASG: "`tenantry serve` on instances, without the operator (infra/ec2-asg)",
    System.LAMBDA: "`tenantry serve` behind a function URL, without the operator (infra/lambda)",
    System.APP_RUNNER: "`tenantry serve`, without the operator (infra/app-runner)",
}


class UnansweredError(Exception):
    """A question has no answer, and there is nobody to ask."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="tenantry advise",
        description="Four questions about what is to run, and where it should; what is not given is asked for.",
        allow_abbrev=False,
    )
    asked = parse.add_argument_group("the four questions")
    for question, answers in zip(QUESTIONS, (Unit, Traffic, Runtime, Operator), strict=True):
        choices = "; ".join(f"{answer}: {meaning}" for answer, meaning in question.answers.items())
        asked.add_argument(
            f"--{question.field}", type=answers, choices=list(answers), help=f"{question.text} {choices}"
        )
    add_workload(parse)
    parse.set_defaults(stream_seconds=None, peak=None)
    parse.add_argument("--format", choices=("text", "json"), default="text")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, judge, print. Returns 0, or 2 when there is no answer to a question or no price."""
    options = parser().parse_args(argv)
    try:
        answers = answers_of(options, input if sys.stdin.isatty() else None)
        if options.stream_seconds is None:
            options.stream_seconds = STREAM_SECONDS[answers.unit]
        if options.peak is None:
            options.peak = PEAK[answers.traffic]
        workload, book = workload_of(options)
    except (UnansweredError, PriceError) as error:
        sys.stderr.write(f"tenantry advise: {error}\n")
        return USAGE_ERROR
    given = advise(answers, workload, book)
    print(as_json(given) if options.format == "json" else as_text(given))
    return 0


def answers_of(options: argparse.Namespace, ask: Callable[[str], str] | None) -> Answers:
    """The answers on the command line, and those that somebody at the terminal gives.

    Raises:
        UnansweredError: some are missing and there is no terminal, or it was closed.
    """
    given = {question.field: getattr(options, question.field) for question in QUESTIONS}
    missing = [question for question in QUESTIONS if given[question.field] is None]
    if missing and ask is None:
        flags = ", ".join(f"--{question.field} {'|'.join(question.answers)}" for question in missing)
        raise UnansweredError(f"not answered, and there is no terminal to ask on: {flags}")
    for question in missing:
        assert ask is not None
        given[question.field] = _asked(question, ask)
    return Answers(**given)


def _asked(question: Question, ask: Callable[[str], str]) -> object:
    answers = list(question.answers)
    lines = [f"\n{question.text}"]
    lines += [f"  {number}  {answer}: {question.answers[answer]}" for number, answer in enumerate(answers, 1)]
    prompt = "\n".join([*lines, f"1-{len(answers)}: "])
    while True:
        try:
            said = ask(prompt).strip()
        except EOFError:
            raise UnansweredError(f"--{question.field} was not answered") from None
        for number, answer in enumerate(answers, 1):
            if said in (str(number), answer):
                return answer
        prompt = f"One of 1-{len(answers)}: "


def as_text(advice: Advice) -> str:
    """The answer, what speaks for and against it, and the same for the others."""
    best = advice.best
    assert best.cents is not None
    lines = [
        f"{best.system}, about {usd(best.cents)} USD a month for {advice.workload.tenants:,} tenants",
        f"  That is {WHAT[best.system]}.",
        *_reasons(best),
        "",
        "The others",
    ]
    for other in advice.judged[1:]:
        price = "" if other.cents is None else f", {usd(other.cents)} USD a month"
        lines += [f"  {other.system}{price}{'' if other.possible else ': ruled out'}", *_reasons(other, "  ")]
    lines.append("")
    if advice.eks_cheapest_from is None:
        lines.append("EKS does not become the cheapest with more tenants like these, up to 2,000.")
    else:
        lines.append(f"EKS is the cheapest from about {advice.eks_cheapest_from:,} tenants like these.")
    lines.append("`tenantry cost` with the same options shows the lines of each price.")
    return "\n".join(lines)


def _reasons(judged: Judged, indent: str = "") -> list[str]:
    return [f"{indent}  {_sign(weight)} {text}" for weight, text in sorted(judged.reasons, reverse=True)]


def _sign(weight: int) -> str:
    return "+" if weight > 0 else "-" if weight < 0 else "="


def as_json(advice: Advice) -> str:
    """The same for programs."""
    return json.dumps(
        {
            "answers": advice.answers._asdict(),
            "tenants": advice.workload.tenants,
            "answer": advice.best.system,
            "eksCheapestFromTenants": advice.eks_cheapest_from,
            "systems": [
                {
                    "system": each.system,
                    "possible": each.possible,
                    "points": each.points if each.possible else None,
                    "usd": None if each.cents is None else usd(each.cents).replace(",", ""),
                    "reasons": [{"weight": int(reason.weight), "text": reason.text} for reason in each.reasons],
                }
                for each in advice.judged
            ],
        },
        indent=2,
    )
