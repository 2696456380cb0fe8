"""TenantTier: a named set of defaults for the Tenants that refer to it."""

from typing import Annotated, ClassVar

from msgspec import Struct

from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.rollout import Rollout, TierStatus
from tenantry_operator.api.rules import Rule, about, text
from tenantry_operator.api.settings import Settings


class TierSpec(Settings, frozen=True, kw_only=True, rename="camel"):
    """The defaults; a field that neither Tenant nor tier sets has the default that its description names."""

    summary: Annotated[str, text("What the tier is for, in a line.", max_length=256)] | None = None
    rollout: Annotated[Rollout, about("How a change of this tier reaches its Tenants.")] | None = None

    rules: ClassVar = (
        Rule(
            "!has(self.exposure) || !has(self.exposure.nodePort)",
            "nodePort cannot be a tier's default, since a port belongs to one Tenant: set it there",
            ".exposure",
        ),
    )


class TenantTier(Struct, frozen=True, kw_only=True, rename="camel"):
    """A named set of defaults for the Tenants that refer to it."""

    metadata: ObjectMeta
    spec: Annotated[TierSpec, about("The defaults.")]
    status: Annotated[TierStatus, about("How far they have come. Written by the operator only.")] | None = None
