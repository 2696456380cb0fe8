"""Values of the platform chart, from the file's own comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from generator.markdown import page, table

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>.*))?$")


def text(values: Path) -> str:
    """The page."""
    rows = [(f"`{path}`", f"`{default}`" if default else "", what) for path, default, what in _values(values)]
    return page(
        "Values of charts/tenantry",
        "charts/tenantry/values.yaml",
        "`values.schema.json` says what each may be. A comment stands for the values below it as well.",
        table(("Value", "Default", "What"), rows),
    )


def _values(values: Path) -> Iterator[tuple[str, str, str]]:
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    lists_from: int | None = None
    for line in values.read_text(encoding="utf-8").splitlines():
        stripped = line.strip()
        depth = len(line) - len(line.lstrip())
        if lists_from is not None and stripped and depth > lists_from:
            continue  # inside a list: an example, not values of their own
        lists_from = None
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        found = _KEY.match(line)
        if found is None:
            if stripped.startswith("-"):
                lists_from = path[-1][0] if path else None
            comment = [] if not stripped else comment
            continue
        while path and path[-1][0] >= depth:
            path.pop()
        path.append((depth, found["key"]))
        value = (found["value"] or "").strip()
        if value or comment:
            yield ".".join(key for _, key in path), value, " ".join(comment)
        comment = []
