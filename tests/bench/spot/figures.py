"""What an interruption soak has found: a table for people, and the line of JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tenantry_operator.interruption.handover import END_MARGIN

from tests.bench.spot.load import Outcomes

#: A pod knows its end in whole seconds, and a client hears of it a moment later.
ROUNDED = timedelta(seconds=2)


@dataclass
class Found:
    """All of it. ``drained``: what clients of the workload without hand-over have seen."""

    served: Outcomes
    drained: Outcomes
    interruptions: int = 0
    notice_s: float = 0.0
    replacement_s: list[float] = field(default_factory=list)
    #: Without a notice: from each node's death to the last failure that a client has seen.
    outage_s: list[float] = field(default_factory=list)
    #: When nodes that had a notice were killed.
    ends: list[datetime] = field(default_factory=list)

    def judge(self) -> None:
        """Tenants' streams that ended early while no node was about to end are cut ones. Once, when all is over."""
        wrong = untimely(self.served.early, self.ends)
        self.served.ended_early -= len(wrong)
        self.served.cut_streams += len(wrong)
        self.served.failures += [
            f"{each:%H:%M:%S} a stream was ended early though no node was to end" for each in wrong
        ]

    def line(self) -> dict[str, float | int]:
        """The last line."""
        return {
            "interruptions": self.interruptions,
            "failed_requests": self.served.failed_requests,
            "cut_streams": self.served.cut_streams,
            "ended_early": self.served.ended_early,
            "replacement_ready_p50_s": round(percentile(self.replacement_s, 0.5), 2),
            "replacement_ready_p99_s": round(percentile(self.replacement_s, 0.99), 2),
            "drain_failed_requests": self.drained.failed_requests,
            "drain_cut_streams": self.drained.cut_streams,
            "requests": self.served.requests,
            "streams": self.served.streams,
            "drain_requests": self.drained.requests,
            "drain_streams": self.drained.streams,
            "drain_ended_early": self.drained.ended_early,
            **({"outage_max_s": round(max(self.outage_s), 2)} if self.outage_s else {}),
        }

    def table(self) -> str:
        """For people."""
        names = ("requests", "failed_requests", "streams", "cut_streams", "ended_early")
        rows = [("", "handed over", "nothing done" if self.outage_s else "kubectl drain")]
        rows += [(n.replace("_", " "), str(getattr(self.served, n)), str(getattr(self.drained, n))) for n in names]
        how = f"with {self.notice_s:.0f} s of notice each" if self.notice_s else "without notice"
        text = [f"{self.interruptions} interruptions {how}"]
        text += [f"  {label:<18}{ours:>12}{theirs:>15}" for label, ours, theirs in rows]
        waits = f"{percentile(self.replacement_s, 0.5):.1f} s p50, {percentile(self.replacement_s, 0.99):.1f} s p99"
        text.append(f"  replacement ready after {waits} ({len(self.replacement_s)} hand-overs)")
        if self.outage_s:
            text.append(f"  last failure {', '.join(f'{each:.1f}' for each in self.outage_s)} s after the node's death")
        text += [f"  ! handed over: {each}" for each in self.served.failures]
        text += [f"  ! drained: {each}" for each in self.drained.failures[:5]]
        return "\n".join(text)

    def print(self) -> None:
        """Table and line."""
        print(self.table())
        print(json.dumps(self.line()), flush=True)


def untimely(early: Sequence[datetime], ends: Sequence[datetime]) -> list[datetime]:
    """The early ends that no node's end explains: streams are ended in the last ``END_MARGIN`` before one."""
    return [each for each in early if not any(end - END_MARGIN - ROUNDED <= each <= end for end in ends)]


def percentile(values: list[float], part: float) -> float:
    """The nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
