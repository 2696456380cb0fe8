"""Everything of the API that keeps something: files, batches, vector stores, conversations … A shelf of JSON objects
by path, created, listed, read, changed and deleted as OpenAI's API does. Nothing ever happens to them."""

import itertools
import re
from typing import Any

from tenantry_simulator.answers import CREATED, Json, dump, error

#: Object name and id prefix of each collection (its path without ids).
KINDS = {
    "chat/completions": ("chat.completion", "chatcmpl"),
    "responses": ("response", "resp"),
    "files": ("file", "file"),
    "uploads": ("upload", "upload"),
    "uploads/parts": ("upload.part", "part"),
    "batches": ("batch", "batch"),
    "conversations": ("conversation", "conv"),
    "conversations/items": ("list", "msg"),
    "fine_tuning/jobs": ("fine_tuning.job", "ftjob"),
    "fine_tuning/checkpoints": ("checkpoint", "ckpt"),
    "vector_stores": ("vector_store", "vs"),
    "vector_stores/files": ("vector_store.file", "file"),
    "vector_stores/file_batches": ("vector_store.file_batch", "vsfb"),
}
_PART = re.compile(rb'name="([^"]+)"(?:; filename="([^"]*)")?[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n')


def form_fields(content_type: str, body: bytes) -> dict[str, Any]:
    """Fields of a multipart form; files as ``(name, bytes)``."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    found: dict[str, Any] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head = _PART.search(part)
        if head is not None:
            value = part[head.end() :]
            found[head[1].decode()] = value.decode() if head[2] is None else (head[2].decode(), value)
    return found


class Shelf:
    """The objects of one simulator."""

    def __init__(self) -> None:
        self._objects: dict[str, Json] = {}
        self._contents: dict[str, bytes] = {}
        self._count = itertools.count(1)

    def keep(self, path: str, **fields: object) -> None:
        """Put an object there."""
        self._objects[path] = {"id": path.rpartition("/")[2], "object": "kept", "created_at": CREATED, **fields}

    def get(self, path: str) -> Json | None:
        """What is kept there."""
        return self._objects.get(path)

    def answer(self, method: str, path: str, fields: Json) -> tuple[int, str, bytes] | None:
        """Status, content type and body; None for a path of no collection."""
        segments = path.removeprefix("/v1/").split("/")
        for size in (2, 3, 1):
            # fine_tuning/jobs/{id}, vector_stores/{id}/files/{id}, files/{id}
            kind = "/".join(segments[:2]) if size == 2 else "/".join(segments[0:size:2])
            if kind in KINDS and len(segments) >= size:
                break
        else:
            return None
        parent, rest = "/".join(segments[:size]), segments[size:]
        if not rest:
            return self._collection(method, kind, parent, fields)
        return self._member(method, parent, rest, fields)

    def _collection(self, method: str, kind: str, parent: str, fields: Json) -> tuple[int, str, bytes]:
        if method == "GET":
            listed = [found for key, found in self._objects.items() if key.rpartition("/")[0] == parent]
            return _json({"object": "list", "data": listed, "has_more": False})
        name, prefix = KINDS[kind]
        identifier = f"{prefix}_{next(self._count)}"
        made = {"id": identifier, "object": name, "created_at": CREATED, "status": "completed", "bytes": 0}
        for field, value in fields.items():
            if isinstance(value, tuple):
                made["filename"], self._contents[f"{parent}/{identifier}"] = value
                made["bytes"] = len(value[1])
            else:
                made[field] = value
        self._objects[f"{parent}/{identifier}"] = made
        if name == "list":
            return _json({"object": "list", "data": fields.get("items", []), "first_id": identifier, "has_more": False})
        return _json(made)

    def _member(self, method: str, parent: str, rest: list[str], fields: Json) -> tuple[int, str, bytes]:
        key = f"{parent}/{rest[0]}"
        found = self._objects.get(key)
        if found is None:
            return 404, "application/json", error(404, f"No such object: {rest[0]}")
        if rest[1:] == ["content"] and parent == "files":
            return 200, "application/octet-stream", self._contents.get(key, b"")
        if rest[1:]:
            # cancel, complete, pause, search, events …
            verb = rest[1]
            if method == "POST" and verb != "search":
                found = {**found, "status": {"cancel": "cancelled", "complete": "completed"}.get(verb, verb)}
                self._objects[key] = found
                return _json(found)
            return _json({"object": "list", "data": [], "has_more": False})
        if method == "DELETE":
            del self._objects[key]
            return _json({"id": rest[0], "object": f"{found['object']}.deleted", "deleted": True})
        if method == "POST":
            self._objects[key] = found = {**found, **fields}
        return _json(found)


def _json(value: Json) -> tuple[int, str, bytes]:
    return 200, "application/json", dump(value)
