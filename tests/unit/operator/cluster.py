"""An API server in memory, as far as the operator's own writes need one: objects by path, and who owns which fields."""

import base64
import json
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from tests.unit.operator.apiserver import Asked, refusal

Object = dict[str, object]


class Cluster:
    """Applies, creates, patches and deletes, each as one step; everything has a version and a uid.

    ``refuse`` maps a path to an error that is answered once: status and reason.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.refuse: dict[str, tuple[int, str]] = {}
        self.writes: list[tuple[str, str]] = []
        self.reads: list[tuple[str, str]] = []
        self._version = 100

    async def answer(self, asked: Asked) -> web.Response:
        """One request."""
        path = asked.path.removesuffix("/status")
        (self.reads if asked.method == "GET" else self.writes).append((asked.method, asked.path))
        if (error := self.refuse.pop(asked.path, None)) is not None:
            return refusal(*error)
        match asked.method:
            case "GET":
                return self._get(asked)
            case "POST":
                body = msgspec.json.decode(asked.body, type=Object)
                return self._create(f"{path}/{_metadata(body)['name']}", body)
            case "PUT":
                return web.json_response(self.put(path, msgspec.json.decode(asked.body, type=Object)))
            case "DELETE":
                return web.json_response(self.objects.pop(path)) if path in self.objects else refusal(404, "NotFound")
            case _:
                return self._patch(asked, path)

    def put(self, path: str, body: Object, *, fields: Mapping[str, object] | None = None) -> Object:
        """Store an object as it is, with these fields owned by the operator."""
        self._version += 1
        before = _metadata(self.objects[path]) if path in self.objects else {}
        metadata = {**_metadata(body), "resourceVersion": str(self._version)}
        metadata["uid"] = before.get("uid") or metadata.get("uid") or f"uid-{self._version}"
        if fields is not None:
            owned = {"manager": "tenantry-operator", "operation": "Apply", "fieldsV1": fields}
            metadata["managedFields"] = [owned]
        self.objects[path] = {**body, "metadata": metadata}
        return self.objects[path]

    def names(self) -> set[str]:
        """What there is: plural and name."""
        return {"/".join(path.split("/")[-2:]) for path in self.objects}

    def _get(self, asked: Asked) -> web.Response:
        if asked.path in self.objects:
            return web.json_response(self.objects[asked.path])
        inside = [each for path, each in self.objects.items() if path.rpartition("/")[0] == asked.path]
        if not inside and not asked.query.get("limit"):
            return refusal(404, "NotFound")
        wanted = dict(pair.split("=") for pair in asked.query.get("labelSelector", "").split(",") if pair)
        items = [each for each in inside if wanted.items() <= _labels(each).items()]
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    def _create(self, path: str, body: Object) -> web.Response:
        if path in self.objects:
            return refusal(409, "AlreadyExists")
        return web.json_response(self.put(path, _encoded(body)), status=201)

    def _patch(self, asked: Asked, path: str) -> web.Response:
        kind = asked.headers["Content-Type"].partition("/")[2].partition("-")[0]
        body = json.loads(asked.body)
        if isinstance(body, dict):
            body = _encoded(body)
        found = self.objects.get(path)
        if kind == "json":
            return refusal(404, "NotFound") if found is None else self._json_patch(path, found, body)
        if (
            found is not None
            and _metadata(body).get("resourceVersion", _metadata(found)["resourceVersion"])
            != (_metadata(found)["resourceVersion"])
        ):
            return refusal(409, "Conflict")
        if asked.path.endswith("/status"):
            assert found is not None
            return web.json_response(self.put(path, {**found, "status": body["status"]}))
        # A merge patch is an Update: what it writes is in an entry of its own, and nothing of the applied one is lost.
        fields = _fields(body) if kind == "apply" or found is None else _books(found)
        assert fields is None or isinstance(fields, dict)
        merged = _merged(found or {}, body)
        if found is not None and _without_books(found) == _without_books(merged) and _books(found) == fields:
            return web.json_response(found)
        return web.json_response(self.put(path, merged, fields=fields))

    def _json_patch(self, path: str, found: Object, steps: Sequence[Mapping[str, str]]) -> web.Response:
        """RFC 6902, as far as it is about fields of ``metadata`` and places in ``metadata.finalizers``."""
        metadata = {**_metadata(found)}
        for step in steps:
            field, _, place = step["path"].removeprefix("/metadata/").partition("/")
            if place:
                finalizers = metadata.get(field)
                assert isinstance(finalizers, list)
                finalizers = [*finalizers]
                if finalizers[int(place) : int(place) + 1] != [step.get("value", finalizers[int(place)])]:
                    return refusal(422, "Invalid")
                if step["op"] == "remove":
                    del finalizers[int(place)]
                metadata[field] = finalizers
            elif step["op"] == "add":
                metadata[field] = step["value"]
            elif metadata.get(field) != step["value"]:
                return refusal(422, "Invalid")
        return web.json_response(self.put(path, {**found, "metadata": metadata}))


def _encoded(body: Object) -> Object:
    """A Secret's ``stringData`` as its ``data``."""
    texts = body.pop("stringData", None)
    if not isinstance(texts, dict):
        return body
    return {**body, "data": {key: base64.b64encode(str(value).encode()).decode() for key, value in texts.items()}}


def _merged(found: Mapping[str, object], body: Mapping[str, object]) -> Object:
    merged: Object = dict(found)
    for key, value in body.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def _metadata(body: Mapping[str, object]) -> dict[str, object]:
    metadata = body.get("metadata", {})
    assert isinstance(metadata, dict)
    return metadata


def _labels(body: Mapping[str, object]) -> dict[str, str]:
    labels = _metadata(body).get("labels", {})
    assert isinstance(labels, dict)
    return labels


def _books(body: Mapping[str, object]) -> object:
    entries = _metadata(body).get("managedFields")
    return entries[0]["fieldsV1"] if isinstance(entries, list) and entries else None


def _without_books(body: Mapping[str, object]) -> Object:
    hidden = {"managedFields", "resourceVersion", "uid"}
    return {**body, "metadata": {key: value for key, value in _metadata(body).items() if key not in hidden}}


def _fields(body: Mapping[str, object]) -> Object:
    identity = {"apiVersion", "kind", "name", "namespace", "resourceVersion", "uid"}
    return {
        f"f:{key}": _fields(value) if isinstance(value, Mapping) else {}
        for key, value in body.items()
        if key not in identity
    }
