"""What the samples say: medians, ratios within a round, and whether the goals are met. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


class Figure(enum.StrEnum):
    """What is measured of one gateway in one round; the value is the row's label."""

    RPS = "requests/s, 64 connections"
    CPU_PER_REQUEST_US = "CPU per request, us"
    P50_US = "p50 at 1 connection, us"
    P99_US = "p99 at 1 connection, us"
    P50_AT_64_US = "p50 at 64 connections, us"
    P99_AT_64_US = "p99 at 64 connections, us"
    CPU_PER_CHUNK_US = "CPU per SSE chunk, us"
    FIRST_CHUNK_P50_US = "first chunk p50, us"
    FIRST_CHUNK_P99_US = "first chunk p99, us"
    CHUNK_P99_US = "chunk delay p99, us"
    CROWD_RSS_MB = "RSS with the open streams, MB"
    LOST_CHUNKS = "chunks lost or misplaced"
    IDLE_RSS_MB = "RSS when ready, MB"
    READY_S = "first answer after start, s"
    OTHER_LOAD_PERCENT = "other programs, % of a core"


#: A measurement during which other programs took more than this, in percent of one core, is disturbed.
QUIET_PERCENT = 10.0

#: One gateway in one round.
Sample = Mapping[Figure, float]
#: One round: what each gateway that took part showed.
Round = Mapping[str, Sample]

OURS = "ours"
DIRECT = "direct"


class Bound(enum.Enum):
    """Which side of the goal is the good one."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True)
class Goal:
    """A promise of the project about one result."""

    bound: Bound
    value: float

    def met_by(self, value: float) -> bool:
        return value >= self.value if self.bound is Bound.AT_LEAST else value <= self.value

    def __str__(self) -> str:
        return f"{self.bound.value} {self.value:g}"


GOALS = {
    "envoy_rps_ratio": Goal(Bound.AT_LEAST, 1.0),
    "tensorzero_rps_ratio": Goal(Bound.AT_LEAST, 3.0),
    "litellm_rps_ratio": Goal(Bound.AT_LEAST, 200.0),
    "p50_ratio": Goal(Bound.AT_MOST, 1.0),
    "p99_ratio": Goal(Bound.AT_MOST, 1.5),
    "c64_p99_ratio": Goal(Bound.AT_MOST, 2.0),
    "chunk_cpu_ratio": Goal(Bound.AT_MOST, 1.0),
    "first_chunk_added_p99_ms": Goal(Bound.AT_MOST, 0.5),
    "lost_chunks": Goal(Bound.AT_MOST, 0.0),
    "streams_rss_mb": Goal(Bound.AT_MOST, 120.0),
    "idle_rss_mb": Goal(Bound.AT_MOST, 60.0),
    "ready_s": Goal(Bound.AT_MOST, 1.0),
}


@dataclass(frozen=True)
class Result:
    """A figure about ours over all rounds: the median, and how far the rounds lay apart. `disturbed`: there was no
    round without other programs at work, so little can be made of it."""

    value: float
    low: float
    high: float
    disturbed: bool = False


#: Results that are ratios ours / theirs: the name, whose, and of what.
RATIOS = (
    ("envoy_rps_ratio", "envoy", Figure.RPS),
    ("tensorzero_rps_ratio", "tensorzero", Figure.RPS),
    ("litellm_rps_ratio", "litellm", Figure.RPS),
    ("request_cpu_ratio", "envoy", Figure.CPU_PER_REQUEST_US),
    ("p50_ratio", "envoy", Figure.P50_US),
    ("p99_ratio", "envoy", Figure.P99_US),
    ("c64_p99_ratio", "envoy", Figure.P99_AT_64_US),
    ("chunk_cpu_ratio", "envoy", Figure.CPU_PER_CHUNK_US),
)

#: Results that are ours alone.
PLAIN = (
    ("rps", Figure.RPS),
    ("chunk_cpu_us", Figure.CPU_PER_CHUNK_US),
    ("streams_rss_mb", Figure.CROWD_RSS_MB),
    ("idle_rss_mb", Figure.IDLE_RSS_MB),
    ("ready_s", Figure.READY_S),
)


def quiet(sample: Sample) -> bool:
    """Whether the machine had little else to do while the sample was taken."""
    return sample.get(Figure.OTHER_LOAD_PERCENT, 0.0) <= QUIET_PERCENT


def results(rounds: Sequence[Round]) -> dict[str, Result]:
    """Return everything that can be said about ours, by its name in the JSON line; what was not measured is absent.

    A ratio or a difference is taken within each round, then the median of the rounds: a machine that is slow for one
    round is slow for both sides. Rounds in which other programs disturbed one side are left out, unless all were.
    """
    told: dict[str, Result] = {}

    def tell(name: str, sides: Sequence[str], values: Sequence[float | None]) -> None:
        measured = [(samples, value) for samples, value in zip(rounds, values, strict=True) if value is not None]
        undisturbed = [value for samples, value in measured if all(quiet(samples[side]) for side in sides)]
        chosen = undisturbed or [value for _, value in measured]
        if chosen:
            told[name] = Result(median(chosen), min(chosen), max(chosen), disturbed=not undisturbed)

    for name, other, figure in RATIOS:
        tell(name, [OURS, other], [_ratio(samples, other, figure) for samples in rounds])
    for name, figure in PLAIN:
        tell(name, [OURS], [samples.get(OURS, {}).get(figure) for samples in rounds])
    tell("first_chunk_added_p99_ms", [OURS, DIRECT], [_first_chunk_added_ms(samples) for samples in rounds])
    lost = [samples[OURS][Figure.LOST_CHUNKS] for samples in rounds if Figure.LOST_CHUNKS in samples.get(OURS, {})]
    if lost:  # one round that loses a chunk is one too many, disturbed or not
        told["lost_chunks"] = Result(max(lost), min(lost), max(lost))
    return told


def _ratio(samples: Round, other: str, figure: Figure) -> float | None:
    mine, theirs = samples.get(OURS, {}).get(figure), samples.get(other, {}).get(figure)
    return mine / theirs if mine is not None and theirs else None


def _first_chunk_added_ms(samples: Round) -> float | None:
    mine, direct = (samples.get(name, {}).get(Figure.FIRST_CHUNK_P99_US) for name in (OURS, DIRECT))
    return (mine - direct) / 1000 if mine is not None and direct is not None else None


def table(rounds: Sequence[Round]) -> str:
    """Return the medians of all gateways, a row for each figure and a column for each gateway."""
    names = list(dict.fromkeys(name for samples in rounds for name in samples))
    width = max(map(len, Figure))
    lines = [" " * width + "".join(f"{name:>12}" for name in names)]
    for figure in Figure:
        cells = []
        for name in names:
            values = [samples[name][figure] for samples in rounds if figure in samples.get(name, {})]
            cells.append(f"{shown(median(values)) if values else '-':>12}")
        lines.append(f"{figure:<{width}}" + "".join(cells))
    return "\n".join(lines)


def verdicts(told: Mapping[str, Result]) -> str:
    """Return a line for each result: the median, the range of the rounds, the goal and whether it is met."""
    lines = []
    for name, result in told.items():
        goal = GOALS.get(name)
        verdict = f"goal {goal}: {'met' if goal.met_by(result.value) else 'MISSED'}" if goal else ""
        doubt = ", but disturbed" if verdict and result.disturbed else ""
        spread = f"{shown(result.low)} .. {shown(result.high)}"
        lines.append(f"{name:<26}{shown(result.value):>10}   ({spread})".ljust(66) + verdict + doubt)
    return "\n".join(line.rstrip() for line in lines)


def shown(value: float) -> str:
    """Return a number with three significant digits, large ones in full."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
