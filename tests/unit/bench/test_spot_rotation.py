"""Interruptions in rotation: who goes when, and that no word of one is lost."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from tests.bench.spot import soak
from tests.bench.spot.figures import Found
from tests.bench.spot.load import Outcomes
from tests.bench.spot.soak import Plan, rotation
from tests.bench.spot.stage import Stage


@dataclass
class Nodes:
    """Nodes that go when they are let go."""

    names: list[str]
    turn: int = 0
    asked: list[frozenset[str]] = field(default_factory=list)
    #: Interruptions under way, and the most that there were.
    open: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kind(self) -> SimpleNamespace:
        return SimpleNamespace(workers=self.names)

    def populated(self, besides: frozenset[str]) -> str:
        self.asked.append(besides)
        return next(each for each in self.names if each not in besides)


def played(
    nodes: Nodes, plan: Plan, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object] = lambda: None
) -> list[tuple[str, list[float]]]:
    def interrupt(stage: Stage, node: str, plan: Plan, found: Found) -> list[float]:
        with nodes.lock:
            nodes.open += 1
            nodes.most = max(nodes.most, nodes.open)
        meanwhile()
        with nodes.lock:
            nodes.open -= 1
        return [1.0]

    monkeypatch.setattr(soak, "interrupt", interrupt)
    monkeypatch.setattr(soak, "strike", interrupt)
    return list(rotation(cast("Stage", nodes), plan, Found(Outcomes(), Outcomes())))


def test_one_after_the_other_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(["a", "b", "c"])
    ended = played(nodes, Plan(interruptions=4), monkeypatch)
    assert (nodes.most, len(ended)) == (1, 4)
    assert nodes.asked == [frozenset()] * 4


def test_nodes_that_take_long_overlap_but_never_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(["a", "b", "c"])
    # Nobody ends before another is under way.
    two = threading.Barrier(2, timeout=60)
    ended = played(nodes, Plan(interruptions=6, every=0.001), monkeypatch, two.wait)
    assert (nodes.most, len(ended)) == (2, 6)
    assert all(len(besides) < len(nodes.names) - 1 for besides in nodes.asked)


def test_without_a_notice_nobody_overlaps_because_what_failed_is_one_nodes_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes(["a", "b", "c"])
    assert len(played(nodes, Plan(interruptions=3, every=0.001, notice=0), monkeypatch)) == 3
    assert nodes.most == 1


def test_what_goes_wrong_with_one_node_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(stage: Stage, node: str, plan: Plan, found: Found) -> list[float]:
        raise AssertionError(f"{node} does not come back")

    monkeypatch.setattr(soak, "interrupt", broken)
    with pytest.raises(AssertionError, match="a does not come back"):
        list(rotation(cast("Stage", Nodes(["a", "b"])), Plan(interruptions=2), Found(Outcomes(), Outcomes())))
