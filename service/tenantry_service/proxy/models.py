"""``GET /v1/models`` as a tenant sees it. Pure."""

import msgspec

from tenantry_service.proxy.shapes import Named, NamedList
from tenantry_service.proxy.snapshot import TenantView

#: The most of an upstream's model list that is read; OpenAI's is about 20 KB.
MAX_LIST_BYTES = 4 * 1024 * 1024


_list_decoder = msgspec.json.Decoder(NamedList)
_id_decoder = msgspec.json.Decoder(Named)


def filter_list(body: bytes, view: TenantView) -> bytes | None:
    """The upstream's list less what the tenant may not use, plus its aliases. Entries keep their bytes.
    None if the answer is no model list."""
    try:
        entries = [(_id_decoder.decode(raw).id, raw) for raw in _list_decoder.decode(body).data]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    aliases = view.policy.models.aliases
    kept = [bytes(raw) for model, raw in entries if model not in aliases and view.allows(model)]
    kept += [model_object(alias) for alias in sorted(aliases)]
    return b'{"object":"list","data":[' + b",".join(kept) + b"]}"


def model_object(model: str) -> bytes:
    """A model as OpenAI's API describes one."""
    return msgspec.json.encode({"id": model, "object": "model", "created": 0, "owned_by": "tenantry"})
