"""``GET /v1/models`` as a tenant sees it. Pure.

A tenant may use the models of several upstreams: each one that is the first choice for some model is asked, one after
the other. One that does not answer is left out, as long as another one does.
"""

from collections import deque

import msgspec

from tenantry_service.proxy.shapes import Named, NamedList
from tenantry_service.proxy.snapshot import Endpoint, Target, TenantView

#: The most of an upstream's model list that is read; OpenAI's is about 20 KB.
MAX_LIST_BYTES = 4 * 1024 * 1024


_list_decoder = msgspec.json.Decoder(NamedList)
_id_decoder = msgspec.json.Decoder(Named)


class ModelLists:
    """Who is still to be asked, and what those before have said."""

    __slots__ = ("_entries", "_first", "_left", "_spare", "_view", "heard")

    def __init__(self, view: TenantView) -> None:
        self._view = view
        listing, spare = view.listing
        self._left = deque(listing)
        self._spare = deque(spare)
        self._entries: dict[str, bytes] = {}
        self._first = b""
        #: Lists that came.
        self.heard = 0

    def next(self) -> Endpoint | None:
        """Who is asked next; None if nobody has to be."""
        if self._left:
            return self._left.popleft()
        return self._spare.popleft() if self._spare and not self.heard else None

    def take(self, body: bytes, where: Endpoint) -> bool:
        """An upstream's list, of which stays what the tenant may use and would get from there; entries keep their
        bytes. False if it is no list."""
        try:
            listed = [(_id_decoder.decode(raw).id, bytes(raw)) for raw in _list_decoder.decode(body).data]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        kept = {model: raw for model, raw in listed if self._shown(model, where)}
        # What nobody has to change passes as it came.
        self._first = body if not self.heard and len(kept) == len(listed) else b""
        self._entries = {**kept, **self._entries}
        self.heard += 1
        return True

    def _shown(self, model: str, where: Endpoint) -> bool:
        view = self._view
        if model in view.policy.models.aliases or not view.allows(model):
            return False
        target = view.find(model)
        return isinstance(target, Target) and (where is target.endpoint or where in target.others)

    def whole(self) -> bytes:
        """What the tenant gets: all of it, and the aliases."""
        aliases = self._view.policy.models.aliases
        if self._first and not aliases:
            return self._first
        entries = [*self._entries.values(), *(model_object(alias) for alias in sorted(aliases))]
        return b'{"object":"list","data":[' + b",".join(entries) + b"]}"


def model_object(model: str) -> bytes:
    """A model as OpenAI's API describes one."""
    return msgspec.json.encode({"id": model, "object": "model", "created": 0, "owned_by": "tenantry"})
