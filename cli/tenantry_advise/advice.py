"""From answers and bills to advice. Pure."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from tenantry_cost.bill import Bill, System, usd
from tenantry_cost.book import Book
from tenantry_cost.systems import bills
from tenantry_cost.workload import Workload

from tenantry_advise.questions import Answers, Traffic, Unit
from tenantry_advise.rules import RULES, Weight

#: What an answer means for the workload, unless it is given exactly.
STREAM_SECONDS = {Unit.SECONDS: Fraction(20), Unit.MINUTES: Fraction(120), Unit.LONGER: Fraction(1200)}
PEAK = {Traffic.STEADY: Fraction(2), Traffic.BURSTS: Fraction(10), Traffic.RARE: Fraction(10)}

#: Where "when does EKS become the cheapest" is looked for.
_COUNTS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000)


class Reason(NamedTuple):
    """Something for or against a system."""

    weight: int
    text: str


class Judged(NamedTuple):
    """A system with all that speaks for and against it; ``cents`` is its bill for a month."""

    system: System
    reasons: tuple[Reason, ...]
    cents: int | None

    @property
    def possible(self) -> bool:
        """Nothing rules it out."""
        return all(reason.weight != Weight.RULED_OUT for reason in self.reasons)

    @property
    def points(self) -> int:
        """The sum of its reasons."""
        return sum(reason.weight for reason in self.reasons)


class Advice(NamedTuple):
    """Systems, the best first, those that are ruled out last; and from how many tenants EKS is the cheapest of the
    possible ones (None: not up to 2,000)."""

    answers: Answers
    workload: Workload
    judged: tuple[Judged, ...]
    eks_cheapest_from: int | None

    @property
    def best(self) -> Judged:
        """The answer."""
        return self.judged[0]


def advise(answers: Answers, workload: Workload, book: Book) -> Advice:
    """Judge every system. There is always an answer: nothing rules EC2 out."""
    billed = bills(workload, book)
    costs = _cost_reasons(billed, answers)
    judged = [
        Judged(
            bill.system, (*_reasons(bill.system, answers), *costs[bill.system]), None if bill.impossible else bill.cents
        )
        for bill in billed
    ]
    # Ties go to the cheaper one.
    judged.sort(key=lambda one: (not one.possible, -one.points, one.cents or 0))
    return Advice(answers, workload, tuple(judged), _eks_cheapest_from(answers, workload, book))


def _reasons(system: System, answers: Answers) -> list[Reason]:
    return [
        Reason(rule.weight, rule.reason)
        for rule in RULES
        if rule.system is system and (rule.answer is None or rule.answer in answers)
    ]


def _rules_out(system: System, answers: Answers) -> bool:
    return any(reason.weight == Weight.RULED_OUT for reason in _reasons(system, answers))


def _cost_reasons(billed: Sequence[Bill], answers: Answers) -> dict[System, list[Reason]]:
    possible = [bill.cents for bill in billed if not bill.impossible and not _rules_out(bill.system, answers)]
    least = min(possible)
    reasons: dict[System, list[Reason]] = {bill.system: [] for bill in billed}
    for bill in billed:
        if bill.impossible:
            reasons[bill.system] = [Reason(Weight.RULED_OUT, bill.impossible)]
        elif _rules_out(bill.system, answers):
            continue
        elif 10 * bill.cents <= 11 * least:
            reasons[bill.system] = [
                Reason(Weight.STRONGLY_FOR, f"costs the least, or almost: {usd(bill.cents)} USD a month")
            ]
        elif bill.cents > 4 * least:
            text = f"costs more than four times as much as the cheapest: {usd(bill.cents)} USD a month"
            reasons[bill.system] = [Reason(Weight.STRONGLY_AGAINST, text)]
        elif bill.cents > 2 * least:
            text = f"costs more than twice as much as the cheapest: {usd(bill.cents)} USD a month"
            reasons[bill.system] = [Reason(Weight.AGAINST, text)]
        else:
            reasons[bill.system] = [Reason(Weight.NEITHER, f"costs {usd(bill.cents)} USD a month")]
    return reasons


def _eks_cheapest_from(answers: Answers, workload: Workload, book: Book) -> int | None:
    for count in _COUNTS:
        open_to = [
            bill
            for bill in bills(workload._replace(tenants=count), book)
            if not bill.impossible and (bill.system is System.EKS or not _rules_out(bill.system, answers))
        ]
        if min(open_to, key=lambda bill: bill.cents).system is System.EKS:
            return count
    return None
