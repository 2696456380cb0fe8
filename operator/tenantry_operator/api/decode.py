"""From the API server's JSON to the models, with errors that name the field."""

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.rollout import TierStatus
from tenantry_operator.api.tenant import Tenant, TenantSpec, TenantStatus
from tenantry_operator.api.tier import TenantTier, TierSpec

T = TypeVar("T")

#: How msgspec ends its messages: "Expected `int`, got `str` - at `$.spec.limits.requestsPerMinute`".
_LOCATION = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key in )?\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)


class FieldError(ValueError):
    """An object that cannot be used, by the field that is wrong and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class LiveTenant(Struct, frozen=True):
    """A Tenant as the API server tells of it. Spec and status are read one by one: either may be unreadable."""

    metadata: ObjectMeta
    spec: Raw = Raw(b"{}")
    status: Raw = Raw(b"{}")

    def read_spec(self) -> TenantSpec:
        """The spec. Raises :class:`FieldError` for one that an older schema allowed."""
        try:
            return _decode_spec(self.spec)
        except msgspec.ValidationError as error:
            raise _field_error(str(error), "spec") from error

    def read_status(self) -> TenantStatus:
        """The status, or an empty one (see ``decode_status``)."""
        try:
            return _decode_status(self.status)
        except msgspec.ValidationError:
            return TenantStatus()


_decode_spec = msgspec.json.Decoder(TenantSpec).decode
_decode_status = msgspec.json.Decoder(TenantStatus).decode


def decode_meta(raw: Mapping[str, object]) -> ObjectMeta:
    """``metadata`` alone. What a deletion needs, and what can be read even of an object that is wrong otherwise."""
    return _convert(raw.get("metadata", {}), ObjectMeta, "metadata")


def decode_tenant(raw: Mapping[str, object]) -> Tenant:
    """A Tenant as the API server returned it. Raises :class:`FieldError` for a spec that an older schema allowed."""
    return Tenant(
        metadata=decode_meta(raw), spec=_convert(raw.get("spec", {}), TenantSpec, "spec"), status=decode_status(raw)
    )


def decode_status(raw: Mapping[str, object]) -> TenantStatus:
    """The status, or an empty one where it cannot be read: it is ours to write again, so it never stops a reconcile."""
    try:
        return _convert(raw.get("status") or {}, TenantStatus, "status")
    except FieldError:
        return TenantStatus()


def decode_tier(raw: Mapping[str, object]) -> TenantTier:
    """A TenantTier as the API server returned it. Raises :class:`FieldError`."""

    return TenantTier(
        metadata=decode_meta(raw),
        spec=_convert(raw.get("spec") or {}, TierSpec, "spec"),
        status=decode_tier_status(raw),
    )


def decode_tier_status(raw: Mapping[str, object]) -> TierStatus:
    """The status of a TenantTier, or an empty one where it cannot be read: it is ours to write again."""
    try:
        return _convert(raw.get("status") or {}, TierStatus, "status")
    except FieldError:
        return TierStatus()


def _convert(value: object, kind: type[T], place: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _field_error(str(error), place) from error


def _field_error(message: str, place: str) -> FieldError:
    match = _LOCATION.match(message)
    assert match is not None
    path = match["path"] or ""
    separator = "" if not path or path.startswith("[") else "."
    return FieldError(f"{place}{separator}{path}", match["problem"])
