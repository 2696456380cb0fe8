"""What tenants consist of, as values that can be compared between tenants, times and runs.

Names and ids of the tenant itself, uids, times and versions are replaced, nothing else; what else differs between two
undisturbed runs is found by comparing them (``differences``).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tenantry_operator.plan import names

from tests.cluster.cluster import COLLECTIONS, TENANTS, Cluster

#: Path of a field -> its value, for every object of a tenant: ``configmaps/tenantry-policy``, ``data``, …
Leaves = dict[tuple[str, ...], object]

_UID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_TIME = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"')

#: Lists whose order says nothing, and what tells their items apart.
_KEYED = {"managedFields": ("manager", "operation", "subresource"), "conditions": ("type",)}

#: Fields of which the value depends on how often something was done or looked at, not on what it came to.
#: Generations count writes of the spec, and some of our applies are never no-ops (an explicit ``ingress: []`` is stored
#: as absent). The HPA's status is of its last look, every 15 s, and a quota's of the last recount.
_COUNTERS = {"resourceVersion", "generation", "observedGeneration"}
_OTHERS_STATUS = {"horizontalpodautoscalers", "resourcequotas"}
#: Whose fields are compared; what controllers own in their status depends on when they came by.
_MANAGERS = {"tenantry-operator", "tests"}


def snapshot(cluster: Cluster, tenants: Collection[str]) -> dict[str, Leaves]:
    """All objects of these tenants, whoever made them, in one list of each kind."""
    found: dict[str, dict[str, object]] = {name: {} for name in tenants}
    for each in cluster.call("GET", TENANTS)["items"]:
        if (name := each["metadata"]["name"]) in found:
            found[name]["tenant"] = each
    for each in cluster.call("GET", "/api/v1/namespaces")["items"]:
        if (name := each["metadata"]["name"].removeprefix("tenant-")) in found:
            found[name]["namespace"] = each
    for collection in COLLECTIONS:
        plural = collection.rpartition("/")[2]
        for each in cluster.call("GET", f"/{collection}")["items"]:
            if (name := each["metadata"]["namespace"].removeprefix("tenant-")) in found:
                found[name][f"{plural}/{each['metadata']['name']}"] = each
    return {name: dict(_leaves(_neutral(name, objects))) for name, objects in found.items()}


def objects(leaves: Leaves) -> set[str]:
    """Which objects there are."""
    return {path[0] for path in leaves}


def differences(one: Leaves, other: Leaves) -> set[tuple[str, ...]]:
    """Paths at which the two differ, or that only one of them has."""
    return {path for path in one.keys() | other.keys() if one.get(path, ...) != other.get(path, ...)}


def told(paths: Collection[tuple[str, ...]], one: Leaves, other: Leaves) -> str:
    """The differences for people."""
    lines = [
        f"{'.'.join(path)}: {one.get(path, 'absent')!r} -> {other.get(path, 'absent')!r}" for path in sorted(paths)
    ]
    return "\n".join(lines[:12])


def _neutral(name: str, found: Mapping[str, object]) -> Mapping[str, Any]:
    text = json.dumps(found)
    text = text.replace(names.set_id(name), "SET").replace(name, "TENANT")
    document = json.loads(_TIME.sub('"TIME"', _UID.sub("UID", text)))
    assert isinstance(document, dict)
    return document


def _leaves(node: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(node, dict):
        if path and path[0].partition("/")[0] in _OTHERS_STATUS and path[1:] == ("status",):
            return
        for key, value in node.items():
            if key not in _COUNTERS:
                yield from _leaves(_read(key, value), (*path, key))
    elif isinstance(node, list):
        keys = _KEYED.get(path[-1])
        if path[-1] == "managedFields":
            node = [item for item in node if item["manager"] in _MANAGERS]
        for number, item in enumerate(node):
            place = "+".join(str(item.get(key, "")) for key in keys) if keys else str(number)
            yield from _leaves(item, (*path, place))
        yield (*path, "count"), len(node)
    else:
        yield path, node


def _read(key: str, value: object) -> object:
    return json.loads(value) if key.endswith(".json") and isinstance(value, str) else value
