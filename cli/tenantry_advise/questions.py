"""The four questions, and the answers that there are."""

from enum import StrEnum
from typing import NamedTuple


class Unit(StrEnum):
    """How long a unit of work runs: a request, from its first byte to its last."""

    SECONDS = "seconds"
    MINUTES = "minutes"
    LONGER = "longer"


class Traffic(StrEnum):
    """What shape the traffic has."""

    STEADY = "steady"
    BURSTS = "bursts"
    RARE = "rare"


class Runtime(StrEnum):
    """How big the runtime is."""

    SMALL = "small"
    IMAGE = "image"
    ACCELERATED = "accelerated"


class Operator(StrEnum):
    """Who operates it in six months."""

    NOBODY = "nobody"
    DEVELOPERS = "developers"
    PLATFORM_TEAM = "platform-team"


Answer = Unit | Traffic | Runtime | Operator


class Answers(NamedTuple):
    """An answer to each of the four."""

    unit: Unit
    traffic: Traffic
    runtime: Runtime
    operator: Operator


class Question(NamedTuple):
    """A field of `Answers`, the question, and its answers with what each means."""

    field: str
    text: str
    answers: dict[Answer, str]


QUESTIONS = (
    Question(
        "unit",
        "How long does a unit of work run (a request, with its whole stream)?",
        {
            Unit.SECONDS: "up to 30 seconds",
            Unit.MINUTES: "up to 15 minutes",
            Unit.LONGER: "longer",
        },
    ),
    Question(
        "traffic",
        "What shape has the traffic?",
        {
            Traffic.STEADY: "much the same all day",
            Traffic.BURSTS: "peaks of ten times the mean",
            Traffic.RARE: "nothing at all for hours",
        },
    ),
    Question(
        "runtime",
        "How big is the runtime?",
        {
            Runtime.SMALL: "a proxy or an API: some 100 MB",
            Runtime.IMAGE: "a container image of gigabytes",
            Runtime.ACCELERATED: "GPUs, or models of its own",
        },
    ),
    Question(
        "operator",
        "Who operates it in six months?",
        {
            Operator.NOBODY: "nobody in particular: it has to run by itself",
            Operator.DEVELOPERS: "the developers, beside their work; they know AWS",
            Operator.PLATFORM_TEAM: "a team that runs Kubernetes already",
        },
    ),
)
