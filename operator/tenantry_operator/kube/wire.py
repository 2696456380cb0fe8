"""What travels between us and the API server besides objects: lists' and watches' own parts, and how JSON is read."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from tenantry_operator.kube import errors

T = TypeVar("T")
V = TypeVar("V", bound="Versioned")


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """``metadata`` of a list."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Meta(Protocol):
    @property
    def resource_version(self) -> str: ...


class Versioned(Protocol):
    """An object whose version can be read."""

    @property
    def metadata(self) -> _Meta: ...


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[V]):
    """An object as it is now, or as it was when it went; or (``object`` None) that nothing happened up to a version."""

    gone: bool
    object: V | None
    version: str


class Envelope(msgspec.Struct, frozen=True):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and what it is about."""

    type: str
    object: msgspec.Raw


class Marked(msgspec.Struct, frozen=True):
    """A bookmark's object."""

    metadata: ListMeta


class Code(msgspec.Struct, frozen=True):
    """The code of a Status."""

    code: int = 500


_decoders: dict[object, object] = {}


def decode(answer: bytes | msgspec.Raw, into: type[T], path: str) -> T:
    """JSON as this type. Raises Unreadable, which names path and field."""
    decoder = _decoders.get(into)
    if decoder is None:
        decoder = _decoders[into] = msgspec.json.Decoder(into)
    assert isinstance(decoder, msgspec.json.Decoder)
    try:
        decoded: T = decoder.decode(answer)
    except msgspec.DecodeError as error:
        raise errors.Unreadable(f"{path}: {error}") from error
    return decoded
