"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells lose their line breaks and keep their bars."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def page(title: str, origin: str, *parts: str) -> str:
    """A page that says what it is made from."""
    note = f"<!-- Generated from {origin} by `make reference`; changes here are lost. -->"
    return "\n\n".join([note, f"# {title}", *parts]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
