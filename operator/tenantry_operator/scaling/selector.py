"""Label selectors as the API server writes them into a query: ``a=b,c!=d,e in (f,g),h notin (i),j,!k``.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

import re
from collections.abc import Callable, Mapping

Labels = Mapping[str, str]

_KEY = r"[-A-Za-z0-9_./]+"
_VALUE = r"[-A-Za-z0-9_.]*"
_TERM = re.compile(
    rf"\s*(?:(?P<absent>!\s*)?(?P<key>{_KEY})\s*"
    rf"(?:(?P<op>==|=|!=)\s*(?P<value>{_VALUE})|(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)


def parse(selector: str) -> Callable[[Labels], bool]:
    """The selector as a function of labels. Raises ValueError for what is none."""
    terms: list[Callable[[Labels], bool]] = []
    at = 0
    while at < len(selector):
        found = _TERM.match(selector, at)
        if found is None or found.end() == at:
            raise ValueError(f"unable to parse the label selector {selector!r} from {selector[at:]!r} on")
        terms.append(_term(found))
        at = found.end()
    return lambda labels: all(term(labels) for term in terms)


def _term(found: re.Match[str]) -> Callable[[Labels], bool]:
    key, op, kind = found["key"], found["op"], found["set"]
    if found["absent"]:
        if op or kind:
            raise ValueError(
                f"unable to parse the label selector: {found[0]!r} says both that {key} is absent and more"
            )
        return lambda labels: key not in labels
    if op:
        value = found["value"]
        return (lambda labels: labels.get(key) != value) if op == "!=" else (lambda labels: labels.get(key) == value)
    if kind:
        values = {each.strip() for each in found["values"].split(",")}
        if kind == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    return lambda labels: key in labels
