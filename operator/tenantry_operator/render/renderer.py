"""What the operator asks of a renderer, and the digest that makes most renders unnecessary."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

Objects = Sequence[Mapping[str, object]]


class RenderError(Exception):
    """The chart cannot be rendered from these values, or not now. The message says why."""


class ChartIdentity(Struct, frozen=True, kw_only=True):
    """What is rendered, and by what."""

    #: Name and version of the renderer, for example ``tenantry-render/1 helm/v3.22.0``.
    renderer: str
    #: Name and version of the chart, for example ``tenant-0.1.0``.
    chart: str
    #: SHA-256 (hex) over the chart's files.
    digest: str


class Renderer(Protocol):
    """Chart and values to objects."""

    @property
    def chart(self) -> str:
        """Name and version of the chart."""
        ...

    def digest(self, values: Mapping[str, object]) -> str:
        """SHA-256 (hex) over chart, values and renderer: equal if and only if the objects are."""
        ...

    async def render(self, release: str, namespace: str, values: Mapping[str, object]) -> Objects:
        """The objects, in the order of their installation. Raises :class:`RenderError`.

        Release and namespace have to follow from the values (which name the tenant), since the digest knows only those.
        """
        ...


def canonical(values: Mapping[str, object]) -> bytes:
    """The one JSON text of these values: sorted keys, no white space."""
    return msgspec.json.encode(values, order="deterministic")


def digest_of(identity: ChartIdentity, values: bytes) -> str:
    """SHA-256 (hex) over the identity and canonical values."""
    head = f"{identity.renderer}\n{identity.digest}\n".encode()
    return hashlib.sha256(head + values).hexdigest()
