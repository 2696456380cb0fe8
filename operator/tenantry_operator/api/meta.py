"""The part of ``metadata`` that the operator reads. Everything else of it is left to the API server."""

from datetime import datetime

from msgspec import Struct

GROUP = "tenantry.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

#: ``tenant-<name>`` must stay a DNS label of 63 characters, with room for suffixes that controllers add.
NAME_MAX_LENGTH = 40
NAMESPACE_PREFIX = "tenant-"
FINALIZER = f"{GROUP}/cleanup"


class ObjectMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/, the fields in use."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


def namespace_of(tenant: str) -> str:
    """The namespace that a tenant of this name lives in."""
    return f"{NAMESPACE_PREFIX}{tenant}"


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time; None for none, or for what is no time with a zone."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
