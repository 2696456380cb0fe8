"""What somebody else has changed of what we applied, in words: the objects, and their fields.

The API server keeps the books: a field that somebody else changes or removes leaves our entry of ``managedFields``, and
comes back into it with our next apply. So what an apply has added to the entry is what it has put back.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

#: Fields named for one object; the rest is counted. An Event's note has 1024 characters.
NAMED = 4
OBJECTS = 6


class Drift(Struct, frozen=True, kw_only=True):
    """One object that was put back."""

    kind: str
    name: str
    #: ``.spec.replicas``, ``.spec.containers[name=api].image`` …; empty: all of it was gone.
    fields: tuple[str, ...] = ()
    #: It was no object of the tenant's and has been removed.
    stray: bool = False


def put_back(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[str, ...]:
    """The fields that are ours after an apply and were not before. Both are ``fieldsV1`` of our entry."""
    return tuple(sorted(set(_leaves(after)) - set(_leaves(before))))


def told(drifts: Sequence[Drift]) -> str:
    """All of it in one sentence."""
    shown = [_one(each) for each in drifts[:OBJECTS]]
    more = [f"{len(drifts) - OBJECTS} more objects"] if len(drifts) > OBJECTS else []
    return "; ".join([*shown, *more])


def _one(drift: Drift) -> str:
    what = f"{drift.kind} {drift.name}"
    if drift.stray:
        return f"{what} was not the operator's and was removed"
    if not drift.fields:
        return f"{what} had been deleted and was made anew"
    more = f" and {len(drift.fields) - NAMED} more" if len(drift.fields) > NAMED else ""
    return f"{what} had been changed at {', '.join(drift.fields[:NAMED])}{more} and was put back"


def _leaves(fields: Mapping[str, object], path: str = "") -> Iterator[str]:
    for key, inner in fields.items():
        if key == ".":  # the item itself, beside its fields
            continue
        here = path + _step(key)
        below = list(_leaves(inner, here)) if isinstance(inner, Mapping) else []
        yield from below or [here]


def _step(key: str) -> str:
    """One step of a path, from its spelling in ``fieldsV1``: ``f:name``, ``k:{"name":"api"}``, ``v:"x"`` or ``i:0``."""
    kind, _, rest = key.partition(":")
    if kind == "f":
        return f".{rest}" if rest.replace("_", "").replace("-", "").isalnum() else f"[{rest}]"
    if kind == "k":
        return "[" + rest.strip("{}").replace('"', "").replace(":", "=") + "]"
    return f"[{rest}]"
